"""A corpus predicted on the machines of a Ray cluster: each task predicts some windows and sends their files back.

Ray Data keeps no part of a stopped run, and would need its own reading and writing of every form; here a window is the
same file as on one machine, so that either goes on where the other stopped. Their speeds are not compared.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from clamp.config import ConfigError
from clamp.corpus.job import Summary, begun, merge, missing_windows, predict_windows, window_rows
from clamp.corpus.request import Request
from clamp.data.files import file_sha256
from clamp.data.schema import DataError
from clamp.inference.predictor import Predictor
from clamp.system.files import written
from clamp.system.ray_tasks import TaskFailure, Tasks

_TASKS_PER_PLACE = 4  # so that places end at about the same time
_MOST_WINDOWS = 64  # of a task: what is sent back at once, and done again if its node dies


@dataclass(frozen=True)
class _Work:
    """What each task reads, by paths and names that hold on every node, and what it must find there."""

    request: Request
    model: str
    fingerprint: str
    source_sha256: str


def predict_corpus_on_ray(
    predictor: Predictor,
    model: str,
    request: Request,
    *,
    address: str,
    gpus: float,
    say: Callable[[str], None],
    on_rows: Callable[[int], None] | None = None,
) -> Summary:
    """`predict_corpus` on a cluster, with one CPU and `gpus` (0, or a share of one GPU) for each task.

    `predictor` is what `model` names. The model, the corpus and its images lie at the same paths on every node; the
    output need not. Raises ConfigError or DataError, in one line, also where a node's files are not those of here.
    """
    report = on_rows or (lambda _: None)
    with begun(predictor, request) as rows:
        missing = missing_windows(request, rows)
        report(rows - sum(window_rows(rows, window) for window in missing))
        if missing:
            work = _Work(
                replace(
                    request,
                    source=request.source.resolve(),
                    images=request.images.resolve(),
                    beside=request.beside and request.beside.resolve(),
                ),
                str(Path(model).resolve()) if Path(model).is_dir() else model,
                predictor.fingerprint(),
                file_sha256(request.source),
            )
            _predict(work, missing, address, gpus, say, lambda window: report(window_rows(rows, window)))
        return merge(request, rows)


def _predict(
    work: _Work,
    missing: list[int],
    address: str,
    gpus: float,
    say: Callable[[str], None],
    on_window: Callable[[int], None],
) -> None:
    tasks = Tasks(address, say)
    try:
        places = max(1, tasks.room(1, gpus))
        share = min(_MOST_WINDOWS, -(-len(missing) // (_TASKS_PER_PLACE * places)))
        for first in range(0, len(missing), share):
            windows = missing[first : first + share]
            name = f"windows {windows[0]} to {windows[-1]}"
            tasks.send(windows, name, _predict_on_node, partial(tuple, [work, windows]), cpus=1, gpus=gpus)
        while tasks:
            for windows, returned in tasks.ended():
                _keep(work.request, windows, returned)
                for window in windows:
                    on_window(window)
    finally:
        tasks.close()


def _keep(request: Request, windows: list[int], returned: dict[str, bytes] | str | TaskFailure) -> None:
    """Store what a task sent back: a window's results last, since they tell that it is done."""
    if isinstance(returned, TaskFailure):
        raise ConfigError(f"{request.source}: {returned.reason}")
    if isinstance(returned, str):
        raise ConfigError(returned)
    for window in windows:
        for file in (request.part_errors(window), request.part(window)):
            if file.name in returned:
                with written(file) as stream:
                    stream.write(returned[file.name])
            else:
                file.unlink(missing_ok=True)  # errors of an earlier try


def _predict_on_node(work: _Work, windows: list[int]) -> dict[str, bytes] | str:
    """A task: the windows' files by name, or why they cannot be made on this node."""
    import torch

    torch.set_num_threads(1)
    try:
        predictor = Predictor.from_pretrained(work.model)
        for path, here, there in (
            (work.model, predictor.fingerprint(), work.fingerprint),
            (work.request.source, file_sha256(work.request.source), work.source_sha256),
        ):
            if here != there:
                raise ConfigError(f"{path}: not the same as where the command was given")
        predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
        with tempfile.TemporaryDirectory() as scratch:
            request = replace(work.request, out=Path(scratch) / work.request.out.name)
            request.folder.mkdir()
            predict_windows(predictor, request, windows, lambda _: None)
            return {name: (request.folder / name).read_bytes() for name in os.listdir(request.folder)}
    except (ConfigError, DataError, OSError) as error:
        return f"on {socket.gethostname()}: {error}"
