"""The prediction of a corpus as a folder on disk that is finished piece by piece, whatever happens in between.

The rows of the corpus, in order, form windows of WINDOW rows. A window's results are one file in the folder
OUT.unfinished, which appears whole, by a rename, or not at all: it is there if and only if the window is done. A window
depends on its rows alone, so it may be predicted by any process, and twice without harm. When all are there they are
merged into OUT, which again appears whole, and the folder is removed. Killed at any moment, the same command continues:
every window is done, or done again.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from clamp.config import ConfigError
from clamp.corpus.ahead import ahead
from clamp.corpus.merge import MERGERS, Merger, merge_json, replaced
from clamp.corpus.records import BadRecord, Record, Row, record_of
from clamp.corpus.rows import pyarrow_for, read_rows
from clamp.data.files import file_sha256
from clamp.data.schema import DataError
from clamp.predict import ReadyBatch, predictions_of, ready_batches
from clamp.prediction import Prediction
from clamp.predictor import Predictor

WINDOW = 4096  # rows; few enough for the memory, enough to find tweets of the same length
_AHEAD = 8  # batches that are made before they are needed
_STATE = "state.json"


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
    descriptor = os.open(request.folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{request.out}: another process is predicting to this file") from None
        for file in request.folder.glob("*.tmp"):
            file.unlink()
        yield _rows_of(request, state)
    finally:
        os.close(descriptor)


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


@dataclass
class _Window:
    """The rows of a window: what they hold, what of it was predicted, and why others cannot be."""

    number: int
    rows: int
    records: list[Record] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # of the records
    predictions: dict[int, Prediction] = field(default_factory=dict)  # by record
    faults: dict[int, str] = field(default_factory=dict)  # by line


def predict_windows(
    predictor: Predictor, request: Request, windows: Collection[int], on_rows: Callable[[int], None]
) -> None:
    """Predict these windows of a request that was begun, here or by another process; each is stored when it is done."""
    for window, ready in ahead(_prepared(predictor, request, frozenset(windows)), _AHEAD):
        if ready is None:
            _store(request, window)
            on_rows(window.rows - len(window.records))
            continue
        if ready.batch is not None:
            records = [window.records[index] for index in ready.indices]
            found = predictions_of(predictor.model, records, ready.batch, regions=request.regions)
            window.predictions.update(zip(ready.indices, found, strict=True))
        window.faults.update((window.lines[index], reason) for index, reason in ready.faults.items())
        on_rows(len(ready.indices) + len(ready.faults))


def _prepared(
    predictor: Predictor, request: Request, windows: frozenset[int]
) -> Iterator[tuple[_Window, ReadyBatch | None]]:
    """Every batch of these windows with its window, and None in place of a batch when a window has no more."""
    rows = read_rows(request.source)
    for number in range(max(windows, default=-1) + 1):
        chunk = list(islice(rows, WINDOW))
        if number in windows:
            window = _parsed(number, chunk)
            images = [record.image and request.images / record.image for record in window.records]
            for ready in ready_batches(window.records, images, predictor.model, request.batch_size):
                yield window, ready
            yield window, None


def _parsed(number: int, rows: Sequence[Row]) -> _Window:
    window = _Window(number, len(rows))
    for row in rows:
        try:
            window.records.append(record_of(row))
        except BadRecord as error:
            window.faults[row.line] = str(error)
        else:
            window.lines.append(row.line)
    return window


def _store(request: Request, window: _Window) -> None:
    if window.faults:
        with _written(request.part_errors(window.number)) as stream:
            stream.writelines(_line({"line": line, "reason": window.faults[line]}) for line in sorted(window.faults))
    with _written(request.part(window.number)) as stream:
        stream.writelines(_line(window.predictions[index].to_dict()) for index in sorted(window.predictions))


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


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
    for part in request.folder.glob("part-*.jsonl"):
        part.unlink()
    request.folder.rmdir()
