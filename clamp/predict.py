"""From records to predictions: batches that are made while the model runs, and what its output says of each tweet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clamp.config import Level
from clamp.corpus.records import Record, one_line
from clamp.data.bucketing import length_bucketed
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.schema import POLARITIES, DataError, Polarity, Tweet
from clamp.features import MemoryStore
from clamp.model import Tagger
from clamp.prediction import FoundAspect, Prediction, Region
from clamp.pyramid import Grid, regions_of
from clamp.tagging import TAG_INDEX, Span

Image = np.ndarray | Path | None
REGIONS_SHOWN = 3  # of an aspect

_BEGINS = [TAG_INDEX[f"B-{polarity}"] for polarity in POLARITIES]
_CONTINUES = [TAG_INDEX[f"I-{polarity}"] for polarity in POLARITIES]


@dataclass(frozen=True)
class ReadyBatch:
    """A batch, which of the records it holds, and why others that were to be in it cannot be: their images."""

    indices: list[int]
    batch: Batch | None  # None where no record of it is left
    faults: dict[int, str]


class _Passing(EncodedTweets):
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


def ready_batches(
    records: Sequence[Record], images: Sequence[Image], model: Tagger, batch_size: int, seen: MemoryStore | None = None
) -> Iterator[ReadyBatch]:
    """The records in batches of similar length; images are opened as their batch is made, by models that read them.

    `seen` keeps pixels from one call to the next: the same image is then read once, as long as it is remembered.
    """
    tweets = [
        Tweet(record.id, record.words, (), image if model.uses_image else None, record.proxy)
        for record, image in zip(records, images, strict=True)
    ]
    data = _Passing(tweets, model, seen or MemoryStore(0))
    for indices in length_bucketed(data.lengths_N2, batch_size):
        yield data.ready(indices)


@dataclass(frozen=True)
class Seen:
    """What a model made of a batch: all that predictions are read from."""

    logits_BTC: Tensor
    mask_BT: Tensor
    attention_BTR: np.ndarray | None = None  # of the last stage, with its level and grid, where regions were asked for
    level: Level = "patch"
    grid: Grid = (1, 1)
    proxy_ids_BL: Tensor | None = None


@torch.no_grad()  # not inference_mode: what a model caches in it could not be trained with afterwards
def seen_in(model: Tagger, batch: Batch, *, regions: bool = False) -> Seen:
    """Run the model, in eval mode, on its device."""
    moved = batch.to(next(model.parameters()).device)
    output = model(moved, need_attention=regions)
    mask_BT = moved.word_mask_BT.clone()  # the batch may lie in memory that the next one takes
    if not regions:
        return Seen(output.tag_logits_BTC, mask_BT)
    stage = output.stages[-1]
    assert stage.attention_BTR is not None
    attention_BTR = stage.attention_BTR.float().cpu().numpy()
    proxy_ids_BL = None if batch.proxy_ids_BL is None else batch.proxy_ids_BL.clone()
    return Seen(output.tag_logits_BTC, mask_BT, attention_BTR, stage.level, output.grid, proxy_ids_BL)


@torch.no_grad()
def predictions_of(model: Tagger, seen: Sequence[Seen], records: Sequence[Record]) -> list[Prediction]:
    """What was found in some batches, whose records these are in their order.

    The tags of several batches are decoded together: the steps of a small model's decoding cost more than their sums.
    """
    longest = max(each.mask_BT.shape[1] for each in seen)
    logits_BTC = torch.cat([F.pad(each.logits_BTC, (0, 0, 0, longest - each.logits_BTC.shape[1])) for each in seen])
    mask_BT = torch.cat([F.pad(each.mask_BT, (0, longest - each.mask_BT.shape[1])) for each in seen])
    spans = model.tag_decoder.decode(logits_BTC, mask_BT)
    probabilities = _polarity_probabilities(logits_BTC, spans)
    rest = iter(spans)
    regions = [row for each in seen for row in _regions(model, each, list(islice(rest, len(each.mask_BT))))]
    return [
        Prediction(
            record.id,
            record.words,
            read,
            tuple(_aspect(record, *each) for each in zip(found, chances, where, strict=True)),
        )
        for record, read, found, chances, where in zip(
            records, mask_BT.sum(dim=1).tolist(), spans, probabilities, regions, strict=True
        )
    ]


def _aspect(
    record: Record, span: Span, probabilities: tuple[float, float, float], regions: tuple[Region, ...] | None
) -> FoundAspect:
    start, end = span[:2]
    polarity = cast(Polarity, span[2])
    if record.text is None:
        return FoundAspect(start, end, " ".join(record.words[start:end]), polarity, probabilities, regions=regions)
    first, last = record.places[start][0], record.places[end - 1][1]
    return FoundAspect(start, end, record.text[first:last], polarity, probabilities, first, last, regions)


def _polarity_probabilities(
    logits_BTC: Tensor, spans: Sequence[Sequence[Span]]
) -> list[list[tuple[float, float, float]]]:
    """Of every span: `clamp.tagging.polarity_probabilities`, for all of them at once."""
    log_probs_BTC = logits_BTC.double().log_softmax(dim=-1).cpu().numpy()
    place_N3 = np.array([(b, *span[:2]) for b, row in enumerate(spans) for span in row], dtype=np.int64).reshape(-1, 3)
    tweet_N, start_N, end_N = place_N3.T
    # sums over the words up to and including each: the difference of two is the sum over a span's later words
    summed_BT3 = log_probs_BTC[..., _CONTINUES].cumsum(axis=1)
    later_N3 = summed_BT3[tweet_N, end_N - 1] - summed_BT3[tweet_N, start_N]
    scores_N3 = log_probs_BTC[tweet_N, start_N][:, _BEGINS] + later_N3
    shares_N3 = np.exp(scores_N3 - scores_N3.max(axis=1, keepdims=True))
    rows = iter((shares_N3 / shares_N3.sum(axis=1, keepdims=True)).tolist())
    return [[(*next(rows),) for _ in row] for row in spans]


@lru_cache(maxsize=64)
def boxes(level: Level, grid: Grid) -> tuple[tuple[int, int, float, float, float, float], ...]:
    """(row, column, left, top, right, bottom) of every region of a level: its place on the level's grid, and its box
    as fractions of the image's width and height."""
    rows, columns = grid
    corners = []
    for members in regions_of(level, grid):
        down, across = zip(*(divmod(patch, columns) for patch in members), strict=True)
        corners.append((min(down), min(across), max(down) + 1, max(across) + 1))
    tops, lefts = (sorted({corner[k] for corner in corners}) for k in (0, 1))
    return tuple(
        (tops.index(top), lefts.index(left), left / columns, top / rows, right / columns, bottom / rows)
        for top, left, bottom, right in corners
    )


def _regions(
    model: Tagger, seen: Seen, spans: Sequence[Sequence[Span]]
) -> Sequence[Sequence[tuple[Region, ...] | None]]:
    """Of every aspect: the regions that its words attended to most in the last stage, averaged over heads and words."""
    attention_BTR = seen.attention_BTR
    if attention_BTR is None:
        return [[None] * len(row) for row in spans]
    places = boxes(seen.level, seen.grid)
    said: list[list[str]] = []
    if seen.proxy_ids_BL is not None:
        members = [list(patches) for patches in regions_of(seen.level, seen.grid)]
        said = [[model.tokenizer.decode(ids_L[some]).strip() for some in members] for ids_L in seen.proxy_ids_BL]

    def regions(b: int, start: int, end: int) -> tuple[Region, ...]:
        weight_R = attention_BTR[b, start:end].mean(axis=0)
        strongest: list[int] = np.argsort(-weight_R, kind="stable")[:REGIONS_SHOWN].tolist()
        return tuple(
            Region(*places[r], weight=float(weight_R[r]), text=said[b][r] if said else None)
            for r in strongest
            if weight_R[r] > 0.0  # all are 0 without an image, and padding always
        )

    return [[regions(b, start, end) for start, end, _ in row] for b, row in enumerate(spans)]
