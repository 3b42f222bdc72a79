"""From records to what a model says of them: batches, made as they are needed, and the model's output on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clamp.config import Level
from clamp.data.bucketing import length_bucketed
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.proxy import split_sentences
from clamp.data.schema import DataError, Tweet
from clamp.inference.feature_cache import MemoryStore
from clamp.inference.request_record import RequestRecord, one_line
from clamp.model import Output, Tagger
from clamp.pyramid import Grid

Image = np.ndarray | Path | None


@dataclass(frozen=True)
class ReadyBatch:
    """A batch, which of the records it holds, and why others that were to be in it cannot be: their images."""

    indices: list[int]
    batch: Batch | None  # None where no record of it is left
    faults: dict[int, str]


class _StreamedTweets(EncodedTweets):
    """Tweets whose images are kept no longer than their batch takes, so that memory does not grow with their number.

    What was read of a file goes into `seen`, for other tweets with the same image.
    """

    def __init__(self, tweets: Sequence[Tweet], model: Tagger, seen: MemoryStore) -> None:
        super().__init__(tweets, model.tokenizer, model.config)
        self._seen = seen

    def _resized(self, index: int) -> np.ndarray:
        image = self.tweets[index].image
        if index in self._pixels or not isinstance(image, Path):
            return super()._resized(index)
        kept = self._seen.get(str(image))
        if kept is None:
            self._seen.put(str(image), torch.tensor(super()._resized(index)))  # a copy: the array is read-only
        else:
            self._pixels[index] = kept.numpy()
        return self._pixels[index]

    def ready(self, indices: Sequence[int]) -> ReadyBatch:
        faults = {}
        if self.vision.kind != "proxy" and not self.appends_caption:
            for index in indices:
                try:
                    self._resized(index)  # is kept until the batch is made
                except DataError as error:
                    faults[index] = one_line(str(error))
        sound = [index for index in indices if index not in faults]
        batch = self.batch(sound) if sound else None
        self._pixels.clear()
        return ReadyBatch(sound, batch, faults)


def _sentences(record: RequestRecord) -> tuple[str, ...] | None:
    return split_sentences(record.proxy or "") or None


def ready_batches(
    records: Sequence[RequestRecord],
    images: Sequence[Image],
    model: Tagger,
    batch_size: int,
    seen: MemoryStore | None = None,
) -> Iterator[ReadyBatch]:
    """The records in batches of similar length; images are opened as their batch is made, by models that read them.

    `seen` keeps pixels from one call to the next: the same image is then read once, as long as it is remembered.
    """
    tweets = [
        Tweet(record.id, record.words, (), image if model.uses_image else None, _sentences(record))
        for record, image in zip(records, images, strict=True)
    ]
    data = _StreamedTweets(tweets, model, seen or MemoryStore(0))
    for indices in length_bucketed(data.lengths_N2, batch_size):
        yield data.ready(indices)


@dataclass(frozen=True)
class OutputArrays:
    """What a model made of a batch: all that predictions are read from, as arrays that no longer need the batch."""

    logits_BTC: np.ndarray  # float32
    mask_BT: np.ndarray
    attention_BTR: np.ndarray | None = None  # of the last stage, with its level and grid, where regions were asked for
    level: Level = "patch"
    grid: Grid = (1, 1)
    proxy_ids_BL: np.ndarray | None = None


@torch.no_grad()  # not inference_mode: what a model caches in it could not be trained with afterwards
def output_arrays(
    model: Tagger, batch: Batch, *, regions: bool = False, forward: Callable[..., Output] | None = None
) -> OutputArrays:
    """Run the model, in eval mode, on its device; `forward` is its own where it is compiled."""
    output = (forward or model)(batch.to(next(model.parameters()).device), need_attention=regions)
    logits_BTC, mask_BT = _array(output.tag_logits_BTC.float()), _array(batch.word_mask_BT)
    if not regions:
        return OutputArrays(logits_BTC, mask_BT)
    stage = output.stages[-1]
    assert stage.attention_BTR is not None
    attention_BTR = _array(stage.attention_BTR.float())
    proxy_ids_BL = None if batch.proxy_ids_BL is None else _array(batch.proxy_ids_BL)
    return OutputArrays(logits_BTC, mask_BT, attention_BTR, stage.level, output.grid, proxy_ids_BL)


def _array(tensor: Tensor) -> np.ndarray:
    """A copy: the batch may lie in memory that the next one takes."""
    return tensor.numpy(force=True).copy()
