"""The windows of a corpus as batches for a model that runs in another process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from clamp.corpus.readers import read_rows
from clamp.corpus.request import Request, first_image
from clamp.data.collate import Batch
from clamp.inference.decoding import beyond_what_is_read
from clamp.inference.feature_cache import MemoryStore
from clamp.inference.forward import ready_batches
from clamp.inference.predictor import Predictor
from clamp.inference.request_record import BadRecord, CorpusRow, RequestRecord, one_line, record_of

_PIXELS = 2**26  # bytes of images, as a model reads them, that are remembered for other tweets that have them
_POOL = 1024  # rows that are batched together; while so many are read and split, the model lives off what lies ahead


@dataclass(frozen=True)
class WindowBatch:
    """Some rows of a window: a batch with its records and their order in the window, and faults by line.

    `ends`: no more of the window follows.
    """

    window: int
    order: list[int] = field(default_factory=list)
    records: list[RequestRecord] = field(default_factory=list)
    images: list[str] = field(default_factory=list)  # what became of them
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # of the batch
    faults: dict[int, str] = field(default_factory=dict)
    unjudged: frozenset[int] = frozenset()  # places in the batch of records that are among the faults all the same
    ends: bool = False


def window_batches(
    predictor: Predictor, request: Request, windows: frozenset[int], window_rows: int
) -> Iterator[WindowBatch]:
    """These windows of a corpus, each of `window_rows` rows but the last, step by step."""
    rows, seen = read_rows(request.source), MemoryStore(_PIXELS)
    for number in range(max(windows, default=-1) + 1):
        chunk = list(islice(rows, window_rows))
        if number in windows:
            for first in range(0, len(chunk), _POOL):
                yield from _pool(predictor, request, number, first, chunk[first : first + _POOL], seen)
            yield WindowBatch(number, ends=True)


def _pool(
    predictor: Predictor, request: Request, window: int, first: int, rows: Sequence[CorpusRow], seen: MemoryStore
) -> Iterator[WindowBatch]:
    """Some of a window's rows, which begin at its row `first`, in batches."""
    records, lines, places, faults = _parsed(rows)
    images = [
        first_image(request.image_folders, record.image) if isinstance(record.image, str) else record.image
        for record in records
    ]
    records = [record._replace(image=None) for record in records]  # may be content, of which no more is needed
    some = ready_batches(
        records, images, predictor.model, request.batch_size, seen, skip_without_image=request.skip_without_image
    )
    for ready in some:
        yield _judgeable(
            WindowBatch(
                window,
                [first + places[index] for index in ready.indices],
                [records[index] for index in ready.indices],
                ready.images,
                _arrays(ready.batch) if ready.batch else {},
                {lines[index]: reason for index, reason in ready.faults.items()},
            ),
            [lines[index] for index in ready.indices],
        )
    yield WindowBatch(window, faults=faults)


def _judgeable(batch: WindowBatch, lines: Sequence[int]) -> WindowBatch:
    """The batch, its records whose given aspects lie beyond what the model reads among the faults."""
    if not batch.arrays or all(record.given is None for record in batch.records):
        return batch
    lengths = batch.arrays["word_mask_BT"].sum(axis=1).tolist()
    reasons = [beyond_what_is_read(*each) for each in zip(batch.records, lengths, strict=True)]
    unjudged = frozenset(place for place, reason in enumerate(reasons) if reason)
    return replace(
        batch,
        records=[r._replace(given=()) if place in unjudged else r for place, r in enumerate(batch.records)],
        faults=batch.faults | {lines[place]: str(reasons[place]) for place in unjudged},
        unjudged=unjudged,
    )


def _parsed(rows: Sequence[CorpusRow]) -> tuple[list[RequestRecord], list[int], list[int], dict[int, str]]:
    """The records, the lines that they are in, their places among the rows, and why other lines hold none."""
    records, lines, places, faults = [], [], [], {}
    for place, row in enumerate(rows):
        try:
            records.append(record_of(row))
        except BadRecord as error:
            faults[row.line] = one_line(str(error))
        else:
            lines.append(row.line)
            places.append(place)
    return records, lines, places, faults


# What a batch holds beside tensors: numbers, which travel as arrays too.
_NUMBERS = {part.name for part in fields(Batch) if isinstance(part.default, tuple)}


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    """A batch's tensors for the way to another process; images with their channels last, as they lie in memory."""
    values = {part.name: getattr(batch, part.name) for part in fields(batch)}
    if batch.pixels_BCHW is not None:
        values["pixels_BCHW"] = batch.pixels_BCHW.permute(0, 2, 3, 1)
    arrays = {name: value.numpy() for name, value in values.items() if isinstance(value, Tensor)}
    return arrays | {name: np.array(values[name]) for name in _NUMBERS}


def batch_of(arrays: dict[str, np.ndarray]) -> Batch:
    """The batch again, its images in the same memory layout: that decides on the last bits of what is made of them."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if name not in _NUMBERS}
    if "pixels_BCHW" in tensors:
        tensors["pixels_BCHW"] = tensors["pixels_BCHW"].permute(0, 3, 1, 2)
    return Batch(tweets=[], **tensors, **{name: tuple(arrays[name].tolist()) for name in _NUMBERS})  # type: ignore[arg-type]
