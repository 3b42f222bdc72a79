"""The prediction of a corpus as a folder on disk that is finished piece by piece, whatever happens in between.

The rows of the corpus, in order, form windows of WINDOW rows. A window's results are one file in the folder
OUT.unfinished, which appears whole, by a rename, or not at all: it is there if and only if the window is done. A window
depends on its rows alone, so it may be predicted by any process, and twice without harm. When all are there they are
merged into OUT, which again appears whole, and the folder is removed. Killed at any moment, the same command continues:
every window is done, or done again.
"""

from __future__ import annotations

import fcntl
import gc
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import torch
from pydantic_core import to_json
from torch import Tensor

from clamp.config import ConfigError
from clamp.corpus.ahead import ahead
from clamp.corpus.merge import MERGERS, Merger, merge_json, replaced
from clamp.corpus.records import BadRecord, Record, Row, one_line, record_of
from clamp.corpus.rows import pyarrow_for, read_rows
from clamp.data.collate import Batch
from clamp.data.files import file_sha256
from clamp.data.schema import DataError
from clamp.features import MemoryStore
from clamp.predict import Seen, predictions_of, ready_batches, seen_in
from clamp.prediction import Prediction
from clamp.predictor import Predictor

WINDOW = 4096  # rows; few enough for the memory, enough to find tweets of the same length
_PIXELS = 2**26  # bytes of images, as a model reads them, that are remembered for other tweets that have them
_POOL = 1024  # rows that are batched together; while so many are read and split, the model lives off what lies ahead
_AHEAD = 16  # batches that may be made before they are needed
_TOGETHER = 8  # batches whose tags are decoded at once
_STATE, _LOCK = "state.json", "lock"


@dataclass(frozen=True)
class Request:
    """What is to be predicted. `source` and `out` end in .jsonl, .csv or .parquet; `images` is the images' folder."""

    source: Path
    out: Path
    images: Path
    regions: bool = False
    batch_size: int = 32

    @property
    def folder(self) -> Path:
        """Where what is done lies until all is."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    @property
    def errors(self) -> Path:
        """Where the rows that could not be predicted are named."""
        return self.out.with_name(f"{self.out.name}.errors.jsonl")

    def part(self, window: int) -> Path:
        """A window's results."""
        return self.folder / f"part-{window:07d}.jsonl"

    def part_errors(self, window: int) -> Path:
        """A window's rows that could not be predicted; there before the results, and only where there are any."""
        return self.folder / f"part-{window:07d}.errors.jsonl"


@dataclass(frozen=True)
class Summary:
    """How many rows there were, and how many of them were left out and named in the file of errors."""

    rows: int
    left_out: int


def predict_corpus(predictor: Predictor, request: Request, on_rows: Callable[[int], None] | None = None) -> Summary:
    """Predict a corpus, or what is missing of it, and write `request.out`, in the order of the rows.

    `on_rows` is told how many rows a step added; what an earlier call did comes first. Memory does not grow with the
    corpus. DataError or ConfigError, in one line, where the request cannot be met, among others because an unfinished
    prediction to the same file was of another corpus, model or folder of images.
    """
    with begun(predictor, request) as rows:
        missing = missing_windows(request, rows)
        report = on_rows or (lambda _: None)
        report(rows - sum(window_rows(rows, window) for window in missing))
        predict_windows(predictor, request, missing, report)
        return merge(request, rows)


def window_count(rows: int) -> int:
    """How many windows a corpus has."""
    return -(-rows // WINDOW)


def window_rows(rows: int, window: int) -> int:
    """How many rows a window has."""
    return min(WINDOW, rows - window * WINDOW)


def missing_windows(request: Request, rows: int) -> list[int]:
    """The windows that are yet to be predicted."""
    return [window for window in range(window_count(rows)) if not request.part(window).exists()]


@contextmanager
def begun(predictor: Predictor, request: Request) -> Iterator[int]:
    """Hold the request's folder, made or found; yields the number of rows. Nobody else may hold it meanwhile."""
    predictor.check_regions(request.regions)
    _check(request)
    state = {
        "source": file_sha256(request.source),
        "model": predictor.fingerprint(),
        "images": str(request.images.resolve()),
        "regions": request.regions,
        "window": WINDOW,
    }
    request.folder.mkdir(parents=True, exist_ok=True)
    with (request.folder / _LOCK).open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, forks of this process do not inherit it
        except OSError:
            raise ConfigError(f"{request.out}: another process is predicting to this file") from None
        for file in request.folder.glob("*.tmp"):
            file.unlink()
        yield _rows_of(request, state)


def _check(request: Request) -> None:
    """Fail before the work, not after it."""
    if request.out.suffix not in MERGERS:
        raise ConfigError(f"{request.out}: the name of the output must end in one of {', '.join(MERGERS)}")
    if request.out.suffix == ".parquet":
        pyarrow_for(request.out)
    if request.out.resolve() == request.source.resolve():
        raise ConfigError(f"{request.out}: the output would overwrite the corpus")
    if not request.images.is_dir():
        raise ConfigError(f"{request.images}: no such folder of images")


def _rows_of(request: Request, state: dict[str, object]) -> int:
    """The number of rows, from the folder if it belongs to this request, or counted when the work begins."""
    file = request.folder / _STATE
    if not file.exists():
        for part in request.folder.glob("part-*.jsonl"):  # of a prediction that was done, and removed only in part
            part.unlink()
        rows = sum(1 for _ in read_rows(request.source))
        with _written(file) as stream:
            stream.write(json.dumps(state | {"rows": rows}).encode())
        return rows
    stored = json.loads(file.read_bytes())
    changed = [name for name, value in state.items() if stored.get(name) != value]
    if changed:
        what = " and ".join({"source": "corpus", "images": "folder of images"}.get(name, name) for name in changed)
        reason = f"holds an unfinished prediction with another {what}; finish that, or remove the folder to begin anew"
        raise ConfigError(f"{request.folder}: {reason}")
    return stored["rows"]


@contextmanager
def _written(file: Path) -> Iterator[IO[bytes]]:
    with replaced(file, file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")) as stream:
        yield stream


@dataclass(frozen=True)
class _Step:
    """Some rows of a window: a batch with its records and their order in the window, and faults by line.

    `ends`: no more of the window follows.
    """

    window: int
    order: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # of the batch
    faults: dict[int, str] = field(default_factory=dict)
    ends: bool = False


def predict_windows(
    predictor: Predictor, request: Request, windows: Collection[int], on_rows: Callable[[int], None]
) -> None:
    """Predict these windows of a request that was begun, here or by another process; each is stored when it is done."""
    predictions: dict[int, Prediction] = {}
    faults: dict[int, str] = {}
    waiting: list[tuple[_Step, Seen]] = []
    with _little_garbage():
        for step in ahead(lambda: _steps(predictor, request, frozenset(windows)), _AHEAD):
            if step.records:
                waiting.append((step, seen_in(predictor.model, _batch(step.arrays), regions=request.regions)))
            if waiting and (step.ends or len(waiting) == _TOGETHER):
                predictions |= _predictions(predictor, waiting)
                waiting = []
            faults |= step.faults
            on_rows(len(step.records) + len(step.faults))
            if step.ends:
                _store(request, step.window, predictions, faults)
                predictions, faults = {}, {}


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep Python from searching all that was imported for garbage each time that some thousand records have come."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _predictions(predictor: Predictor, waiting: Sequence[tuple[_Step, Seen]]) -> dict[int, Prediction]:
    records = [record for step, _ in waiting for record in step.records]
    order = [index for step, _ in waiting for index in step.order]
    return dict(zip(order, predictions_of(predictor.model, [seen for _, seen in waiting], records), strict=True))


def _steps(predictor: Predictor, request: Request, windows: frozenset[int]) -> Iterator[_Step]:
    """These windows, step by step."""
    rows, seen = read_rows(request.source), MemoryStore(_PIXELS)
    for number in range(max(windows, default=-1) + 1):
        chunk = list(islice(rows, WINDOW))
        if number in windows:
            for first in range(0, len(chunk), _POOL):
                yield from _pool(predictor, request, number, first, chunk[first : first + _POOL], seen)
            yield _Step(number, ends=True)


def _pool(
    predictor: Predictor, request: Request, window: int, first: int, rows: Sequence[Row], seen: MemoryStore
) -> Iterator[_Step]:
    """Some of a window's rows, which begin at its row `first`, in batches."""
    records, lines, places, faults = _parsed(rows)
    images = [request.images / record.image if record.image else None for record in records]
    for ready in ready_batches(records, images, predictor.model, request.batch_size, seen):
        yield _Step(
            window,
            [first + places[index] for index in ready.indices],
            [records[index] for index in ready.indices],
            _arrays(ready.batch) if ready.batch else {},
            {lines[index]: reason for index, reason in ready.faults.items()},
        )
    yield _Step(window, faults=faults)


def _parsed(rows: Sequence[Row]) -> tuple[list[Record], list[int], list[int], dict[int, str]]:
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


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    """A batch's tensors for the way to another process; images with their channels last, as they lie in memory."""
    values = {part.name: getattr(batch, part.name) for part in fields(batch)}
    if batch.pixels_BCHW is not None:
        values["pixels_BCHW"] = batch.pixels_BCHW.permute(0, 2, 3, 1)
    return {name: value.numpy() for name, value in values.items() if isinstance(value, Tensor)}


def _batch(arrays: dict[str, np.ndarray]) -> Batch:
    """The batch again, its images in the same memory layout: that decides on the last bits of what is made of them."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "pixels_BCHW" in tensors:
        tensors["pixels_BCHW"] = tensors["pixels_BCHW"].permute(0, 3, 1, 2)
    return Batch(tweets=[], **tensors)


def _store(request: Request, window: int, predictions: dict[int, Prediction], faults: dict[int, str]) -> None:
    if faults:
        with _written(request.part_errors(window)) as stream:
            stream.writelines(_line({"line": line, "reason": faults[line]}) for line in sorted(faults))
    with _written(request.part(window)) as stream:
        stream.writelines(_line(predictions[index].to_dict()) for index in sorted(predictions))


def _line(value: dict[str, object]) -> bytes:
    return to_json(value) + b"\n"  # several times as fast as json.dumps


def merge(request: Request, rows: int) -> Summary:
    """Write the output and the errors of a request of which every window is done, and remove what was stored between.

    DataError where a window is missing, or where the corpus is no longer the one that was predicted.
    """
    missing = missing_windows(request, rows)
    if missing:
        raise DataError(request.out, None, f"{len(missing)} of {window_count(rows)} parts are missing")
    stored = json.loads((request.folder / _STATE).read_bytes())
    if file_sha256(request.source) != stored["source"]:
        raise DataError(request.source, None, f"changed while it was predicted; remove {request.folder} and begin anew")
    windows = range(window_count(rows))
    errors = [part for part in map(request.part_errors, windows) if part.exists()]
    left_out = sum(part.read_bytes().count(b"\n") for part in errors)
    if errors:
        _merge(request, merge_json, request.errors, errors)
    else:
        request.errors.unlink(missing_ok=True)  # of an earlier prediction
    _merge(request, MERGERS[request.out.suffix], request.out, [request.part(window) for window in windows])
    _remove(request)
    return Summary(rows, left_out)


def _merge(request: Request, merger: Merger, file: Path, parts: Sequence[Path]) -> None:
    with replaced(file, request.folder / f"{uuid.uuid4().hex}.tmp") as stream:
        merger(file, parts, stream)


def _remove(request: Request) -> None:
    """The state first: without it what is left counts for nothing."""
    (request.folder / _STATE).unlink()
    for file in [*request.folder.glob("part-*.jsonl"), request.folder / _LOCK]:
        file.unlink()
    request.folder.rmdir()
