"""From what a model said of tweets to what was found in them: spans, probabilities, regions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from clamp.config import Level
from clamp.data.schema import POLARITIES, Polarity
from clamp.inference.forward import OutputArrays
from clamp.inference.prediction import FoundAspect, Prediction, Region
from clamp.inference.request_record import RequestRecord
from clamp.model import Tagger
from clamp.pyramid import Grid, regions_of
from clamp.tagging import Span, polarity_probabilities

REGIONS_SHOWN = 3  # of an aspect


class PredictionDecoder:
    """Reads predictions from what a model said, on the CPU, wherever the model itself is."""

    def __init__(self, model: Tagger) -> None:
        self._decoder = copy.deepcopy(model.tag_decoder).cpu()
        self._tokenizer = model.tokenizer

    def decode(
        self, seen: Sequence[OutputArrays], records: Sequence[RequestRecord], images: Sequence[str]
    ) -> list[Prediction]:
        """What was found in some batches, whose records and states of images these are in their order.

        The tags of several batches are decoded together: the steps of a small model's decoding cost more than their
        sums. Aspects that a record gives are judged by the rule of MASC; the rest of its words is not looked at.
        """
        longest = max(each.mask_BT.shape[1] for each in seen)
        logits_BTC = _joined([each.logits_BTC for each in seen], longest)
        mask_BT = _joined([each.mask_BT for each in seen], longest)
        spans = self._decoder.decode(logits_BTC, mask_BT)
        for b, record in enumerate(records):
            if record.given is not None:
                spans[b] = [(start, end, "") for start, end in record.given]
        probabilities = _probabilities(logits_BTC, spans)
        rest = iter(spans)
        regions = [
            row for each in seen for row in _regions(each, list(islice(rest, len(each.mask_BT))), self._tokenizer)
        ]
        lengths: list[int] = mask_BT.sum(dim=1).tolist()
        return [
            Prediction(
                record.id,
                record.words,
                read,
                tuple(_aspect(record, *each) for each in zip(found, chances, where, strict=True)),
                image,
            )
            for record, read, found, chances, where, image in zip(
                records, lengths, spans, probabilities, regions, images, strict=True
            )
        ]


def beyond_what_is_read(record: RequestRecord, words_read: int) -> str | None:
    """Why a record's given aspects cannot be judged, where one lies beyond the words that the model reads."""
    far = [span for span in record.given or () if span[1] > words_read]
    return f"aspect {far[0][0]}:{far[0][1]} lies beyond the {words_read} words that the model reads" if far else None


def _joined(batches: Sequence[np.ndarray], longest: int) -> Tensor:
    """Batches (B, T, ...) as one, with zeros behind their words, up to `longest`."""
    joined = np.zeros((sum(map(len, batches)), longest, *batches[0].shape[2:]), batches[0].dtype)
    first = 0
    for words_BT in batches:
        joined[first : first + len(words_BT), : words_BT.shape[1]] = words_BT
        first += len(words_BT)
    return torch.from_numpy(joined)


def _aspect(
    record: RequestRecord, span: Span, probabilities: tuple[float, float, float], regions: tuple[Region, ...] | None
) -> FoundAspect:
    start, end = span[:2]
    polarity = cast(Polarity, span[2]) if span[2] else POLARITIES[int(np.argmax(probabilities))]  # "": it was given
    if record.text is None:
        return FoundAspect(start, end, " ".join(record.words[start:end]), polarity, probabilities, regions=regions)
    first, last = record.places[start][0], record.places[end - 1][1]
    return FoundAspect(start, end, record.text[first:last], polarity, probabilities, first, last, regions)


def _probabilities(logits_BTC: Tensor, spans: Sequence[Sequence[Span]]) -> list[list[tuple[float, float, float]]]:
    """p(polarity) of every span."""
    places = [(b, *span[:2]) for b, row in enumerate(spans) for span in row]
    rows = iter(polarity_probabilities(logits_BTC.double().log_softmax(dim=-1), places).tolist())
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
    seen: OutputArrays, spans: Sequence[Sequence[Span]], tokenizer: PreTrainedTokenizerFast
) -> Sequence[Sequence[tuple[Region, ...] | None]]:
    """Of every aspect: the regions that its words attended to most in the last stage, averaged over heads and words."""
    attention_BTR = seen.attention_BTR
    if attention_BTR is None:
        return [[None] * len(row) for row in spans]
    places = boxes(seen.level, seen.grid)
    said: list[list[str]] = []
    if seen.proxy_ids_BL is not None:
        members = [list(patches) for patches in regions_of(seen.level, seen.grid)]
        said = [[tokenizer.decode(ids_L[some]).strip() for some in members] for ids_L in seen.proxy_ids_BL]

    def regions(b: int, start: int, end: int) -> tuple[Region, ...]:
        weight_R = attention_BTR[b, start:end].mean(axis=0)
        strongest: list[int] = np.argsort(-weight_R, kind="stable")[:REGIONS_SHOWN].tolist()
        return tuple(
            Region(*places[r], weight=float(weight_R[r]), text=said[b][r] if said else None)
            for r in strongest
            if weight_R[r] > 0.0  # all are 0 without an image, and padding always
        )

    return [[regions(b, start, end) for start, end, _ in row] for b, row in enumerate(spans)]
