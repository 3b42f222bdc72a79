"""The prediction of a corpus as a folder on disk that is finished piece by piece, whatever happens in between.

The rows of the corpus, in order, form windows of WINDOW rows. A window's results are one file in the folder
OUT.unfinished, which appears whole, by a rename, or not at all: it is there if and only if the window is done. A window
depends on its rows alone, so it may be predicted by any process, and twice without harm. When all are there they are
merged into OUT, which again appears whole, and the folder is removed. Killed at any moment, the same command continues:
every window is done, or done again.
"""

from __future__ import annotations

import gc
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic_core import to_json

from clamp.config import ConfigError
from clamp.corpus.batches import WindowBatch, batch_of, window_batches
from clamp.corpus.model_process import Exchange, run_beside
from clamp.corpus.readers import pyarrow_for, read_rows
from clamp.corpus.request import Request
from clamp.corpus.writers import MERGERS, Merger, merge_json
from clamp.data.files import file_sha256
from clamp.data.schema import DataError
from clamp.inference.decoding import PredictionDecoder
from clamp.inference.forward import OutputArrays, output_arrays
from clamp.inference.prediction import Prediction
from clamp.inference.predictor import Predictor
from clamp.system.files import LOCK, locked, written

WINDOW = 4096  # rows; few enough for the memory, enough to find tweets of the same length
_AHEAD = 16  # batches that may be made before the model has answered
_TOGETHER = 8  # batches whose tags are decoded at once
_STATE = "state.json"


class Summary(NamedTuple):
    """How many rows there were, how many of them were left out and named in the file of errors, and what became of the
    images of the others: how many tweets each state has (clamp.inference.forward)."""

    rows: int
    left_out: int
    images: Mapping[str, int]


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
        "skip_without_image": request.skip_without_image,
        "window": WINDOW,
    }
    with _held(request):
        for file in request.folder.glob("*.tmp"):
            file.unlink(missing_ok=True)  # of a process that is just ending
        yield _rows_of(request, state)


@contextmanager
def _held(request: Request) -> Iterator[None]:
    try:
        with locked(request.folder, wait=False):
            yield
    except BlockingIOError:
        raise ConfigError(f"{request.out}: another process is predicting to this file") from None


def _check(request: Request) -> None:
    """Fail before the work, not after it."""
    if request.out.suffix not in MERGERS:
        raise ConfigError(f"{request.out}: the name of the output must end in one of {', '.join(MERGERS)}")
    if request.out.suffix == ".parquet":
        pyarrow_for(request.out)
    if request.out.resolve() == request.source.resolve():
        raise ConfigError(f"{request.out}: the output would overwrite the corpus")
    if request.regions and request.out.suffix == ".conll":
        raise ConfigError(f"{request.out}: CoNLL has no place for regions")
    for file in (request.out, request.errors):
        if file.is_dir():
            raise ConfigError(f"{file}: is a folder")
    if not request.images.is_dir():
        raise ConfigError(f"{request.images}: no such folder of images")


def _rows_of(request: Request, state: dict[str, object]) -> int:
    """The number of rows, from the folder if it belongs to this request, or counted when the work begins."""
    file = request.folder / _STATE
    if not file.exists():
        for part in request.folder.glob("part-*.jsonl"):  # of a prediction that was done, and removed only in part
            part.unlink()
        rows = sum(1 for _ in read_rows(request.source))
        with written(file) as stream:
            stream.write(json.dumps(state | {"rows": rows}).encode())
        return rows
    stored = json.loads(file.read_bytes())
    changed = [name for name, value in state.items() if stored.get(name) != value]
    if changed:
        what = " and ".join({"source": "corpus", "images": "folder of images"}.get(name, name) for name in changed)
        reason = f"holds an unfinished prediction with another {what}; finish that, or remove the folder to begin anew"
        raise ConfigError(f"{request.folder}: {reason}")
    return stored["rows"]


def predict_windows(
    predictor: Predictor, request: Request, windows: Collection[int], on_rows: Callable[[int], None]
) -> None:
    """Predict these windows of a request that was begun, here or by another process; each is stored when it is done.

    This process runs the model and nothing else; one beside it reads, prepares batches, decodes and writes.
    """
    model, decoder = predictor.model, PredictionDecoder(predictor.model)

    def answer(arrays: dict[str, np.ndarray]) -> OutputArrays:
        return output_arrays(model, batch_of(arrays), regions=request.regions)

    def work(exchange: Exchange[WindowBatch]) -> Iterator[int]:
        return _written_windows(
            decoder, request, exchange(_asked(window_batches(predictor, request, frozenset(windows), WINDOW)))
        )

    for rows in run_beside(work, answer, _AHEAD):
        on_rows(rows)


def _asked(some: Iterable[WindowBatch]) -> Iterator[tuple[WindowBatch, dict[str, np.ndarray] | None]]:
    return ((replace(step, arrays={}), step.arrays or None) for step in some)


def _written_windows(
    decoder: PredictionDecoder, request: Request, answered: Iterable[tuple[WindowBatch, OutputArrays | None]]
) -> Iterator[int]:
    """Decode and store the windows as their steps are answered; yields how many rows each step had."""
    predictions: dict[int, Prediction] = {}
    faults: dict[int, str] = {}
    waiting: list[tuple[WindowBatch, OutputArrays]] = []
    with _little_garbage():
        for step, seen in answered:
            if seen is not None:
                waiting.append((step, seen))
            if waiting and (step.ends or len(waiting) == _TOGETHER):
                predictions |= _predictions(decoder, waiting)
                waiting = []
            faults |= step.faults
            if step.ends:
                _store(request, step.window, predictions, faults)
                predictions, faults = {}, {}
            yield len(step.records) - len(step.unjudged) + len(step.faults)


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep Python from searching all that was imported for garbage each time that some thousand records have come."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _predictions(
    decoder: PredictionDecoder, waiting: Sequence[tuple[WindowBatch, OutputArrays]]
) -> dict[int, Prediction]:
    steps = [step for step, _ in waiting]
    records = [record for step in steps for record in step.records]
    images = [image for step in steps for image in step.images]
    places = [None if k in step.unjudged else place for step in steps for k, place in enumerate(step.order)]
    found = decoder.decode([seen for _, seen in waiting], records, images)
    return {place: prediction for place, prediction in zip(places, found, strict=True) if place is not None}


def _store(request: Request, window: int, predictions: dict[int, Prediction], faults: dict[int, str]) -> None:
    errors = request.part_errors(window)
    if faults:
        with written(errors) as stream:
            stream.writelines(_line({"line": line, "reason": faults[line]}) for line in sorted(faults))
    elif errors.exists():  # of a try that was killed before its results were there
        errors.unlink()
    with written(request.part(window)) as stream:
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
    images = _states_of_images(map(request.part, windows))
    if images.total() + left_out != rows:
        raise DataError(
            request.source, None,
            f"{images.total()} of {rows} rows predicted and {left_out} named: {request.folder} is damaged, remove it",
        )  # fmt: skip
    if errors:
        _merge(request, merge_json, request.errors, errors)
    else:
        request.errors.unlink(missing_ok=True)  # of an earlier prediction
    _merge(request, MERGERS[request.out.suffix], request.out, [request.part(window) for window in windows])
    _remove(request)
    return Summary(rows, left_out, dict(images))


_LAST_FIELD = re.compile(rb'"image":"((?:[^"\\]|\\.)*)"\}\n$')


def _states_of_images(parts: Iterable[Path]) -> Counter[str]:
    """What became of the image of every tweet in the parts: their last field, read without the rest."""
    states: Counter[str] = Counter()
    for part in parts:
        with part.open("rb") as lines:
            for line in lines:
                found = _LAST_FIELD.search(line)
                states[found[1].decode().partition(":")[0] if found else ""] += 1
    return states


def _merge(request: Request, merger: Merger, file: Path, parts: Sequence[Path]) -> None:
    with written(file, request.folder) as stream:
        merger(file, parts, stream)


def _remove(request: Request) -> None:
    """The state first: without it what is left counts for nothing."""
    (request.folder / _STATE).unlink()
    for file in [*request.folder.glob("part-*.jsonl"), request.folder / LOCK]:
        file.unlink()
    request.folder.rmdir()
