"""From records to what a model says of them: batches, made as they are needed, and the model's output on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clamp.config import Level
from clamp.data.bucketing import length_bucketed
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.images import ImageAbsentError, read_picture
from clamp.data.proxy import split_sentences
from clamp.data.schema import DataError, Tweet
from clamp.inference.feature_cache import MemoryStore
from clamp.inference.request_record import RequestRecord, one_line
from clamp.model import Output, Tagger
from clamp.pyramid import Grid

Image = np.ndarray | Path | bytes | None

# What became of a tweet's image; an UNREAD one says why behind it.
READ, TRUNCATED, ABSENT, UNREAD, UNNAMED, UNUSED = "read", "truncated", "absent", "unread", "none", "not used"


@dataclass(frozen=True)
class ReadyBatch:
    """A batch, which of the records it holds, what became of their images, and why others cannot be in it."""

    indices: list[int]
    batch: Batch | None  # None where no record of it is left
    images: list[str]
    faults: dict[int, str]


class _StreamedTweets(EncodedTweets):
    """Tweets whose images are kept no longer than their batch takes, so that memory does not grow with their number.

    What was read of a file goes into `seen`, for other tweets with the same image.
    """

    def __init__(self, tweets: Sequence[Tweet], model: Tagger, seen: MemoryStore) -> None:
        reads = reads_pixels(model)
        self._unused = {index for index, tweet in enumerate(tweets) if tweet.image is not None and not reads}
        kept = tweets if reads else [replace(tweet, image=None) for tweet in tweets]
        super().__init__(kept, model.tokenizer, model.config)
        self._seen = seen

    def _prepared(self, index: int) -> str:
        """Read and resize the image of a tweet, which is kept until the batch is made; what became of it."""
        tweet = self.tweets[index]
        if tweet.image is None:
            return UNUSED if index in self._unused else UNNAMED
        if not isinstance(tweet.image, Path | bytes):
            return READ
        key = str(tweet.image) if isinstance(tweet.image, Path) else ""
        kept = self._seen.get(key) if key else None
        if kept is not None:
            self._pixels[index] = kept.numpy()
            return READ
        picture = read_picture(tweet.image)
        self.tweets[index] = replace(tweet, image=picture.pixels_HW3)
        resized = self._resized(index)
        self.tweets[index] = tweet
        if key and not picture.is_truncated:
            self._seen.put(key, torch.tensor(resized))  # a copy: the array may be read-only
        return TRUNCATED if picture.is_truncated else READ

    def ready(self, indices: Sequence[int], skip_without_image: bool) -> ReadyBatch:
        images: dict[int, str] = {}
        faults: dict[int, str] = {}
        for index in indices:
            try:
                images[index] = self._prepared(index)
            except DataError as error:
                if skip_without_image:
                    faults[index] = one_line(str(error))
                    continue
                images[index] = ABSENT if isinstance(error, ImageAbsentError) else f"{UNREAD}: {one_line(str(error))}"
                self.tweets[index] = replace(self.tweets[index], image=None)
        batch = self.batch(list(images)) if images else None
        self._pixels.clear()
        return ReadyBatch(list(images), batch, list(images.values()), faults)


def reads_pixels(model: Tagger) -> bool:
    """Whether a model reads images themselves, not what was said of them."""
    return model.uses_image and model.config.vision.kind != "proxy"


def reads_proxies(model: Tagger) -> bool:
    """Whether a model reads what was said of images."""
    return model.config.architecture == "caption_concat" or (model.uses_image and not reads_pixels(model))


def _sentences(record: RequestRecord) -> tuple[str, ...] | None:
    return split_sentences(record.proxy or "") or None


def ready_batches(
    records: Sequence[RequestRecord],
    images: Sequence[Image],
    model: Tagger,
    batch_size: int,
    seen: MemoryStore | None = None,
    *,
    skip_without_image: bool = False,
) -> Iterator[ReadyBatch]:
    """The records in batches of similar length; images are opened as their batch is made, by models that read them.

    `seen` keeps pixels from one call to the next: the same image is then read once, as long as it is remembered. A
    record whose image cannot be read is predicted from its words, or with `skip_without_image` named among the faults.
    """
    tweets = [
        Tweet(record.id, record.words, (), image, _sentences(record))  # type: ignore[arg-type]  # content, too
        for record, image in zip(records, images, strict=True)
    ]
    data = _StreamedTweets(tweets, model, seen or MemoryStore(0))
    for indices in length_bucketed(data.lengths_N2, batch_size):
        yield data.ready(indices, skip_without_image)


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
