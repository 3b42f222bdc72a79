"""A prediction killed at any moment goes on where it was, and nobody else writes to its output."""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny_config, tiny_model
from corpora import COUNT, left_behind, records, write_lines

from clamp.config import ConfigError
from clamp.corpus import job
from clamp.corpus.job import predict_corpus
from clamp.corpus.request import Request
from clamp.data import DataError
from clamp.inference.predictor import Predictor

pytestmark = pytest.mark.usefixtures("small_windows")


def killed_after(steps: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process that is killed right before its next change on disk after `steps` of them; was it?

    The changes of a process of its own count too.
    """
    left = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)
    left[0] = steps
    process = os.fork()
    if process == 0:
        first = os.getpid()

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def count(*arguments: Any, **options: Any) -> Any:
                if left[0] == 0:
                    for each in (first, os.getpid()):
                        os.kill(each, signal.SIGKILL)
                left[0] -= 1
                return change(*arguments, **options)

            return count

        code = 1
        try:
            for module, name in ((os, "replace"), (Path, "unlink"), (Path, "rmdir")):
                setattr(module, name, counted(getattr(module, name)))
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) != 0


def test_killed_before_any_change_on_disk_it_goes_on_and_ends_the_same(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    some: list[Any] = records()
    some[5] = some[12] = "broken"
    source = write_lines(tmp_path / "in.jsonl", some)
    expected = Request(source, tmp_path / "whole.jsonl", images)
    predict_corpus(predictor, expected)
    for kill in range(100):
        request = Request(source, tmp_path / f"{kill}.jsonl", images)
        killed = killed_after(kill, lambda request=request: predict_corpus(predictor, request))
        if not killed:
            break
        done_before = len(list(request.folder.glob("part-???????.jsonl")))
        told: list[int] = []
        assert predict_corpus(predictor, request, told.append)[:2] == (COUNT, 2)
        assert sum(told) == COUNT
        assert told[0] == min(8 * done_before, COUNT) or not (request.folder / "state.json").exists()
        assert request.out.read_bytes() == expected.out.read_bytes()
        assert request.errors.read_bytes() == expected.errors.read_bytes()
    assert kill > 12  # the state, three parts, two of them with errors, two outputs, and all of it removed
    assert left_behind(tmp_path) == set()


@pytest.fixture
def unfinished(predictor: Predictor, images: Path, tmp_path: Path) -> Request:
    """A prediction of which the state and the first part are on disk."""
    request = Request(write_lines(tmp_path / "in.jsonl", records()), tmp_path / "out.jsonl", images)
    assert killed_after(2, lambda: predict_corpus(predictor, request))
    assert len(list(request.folder.glob("part-*.jsonl"))) == 1
    return request


def test_what_is_done_is_not_done_again(
    predictor: Predictor, unfinished: Request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = tmp_path / "stored"
    store = job._store

    def noted(request: Request, window: int, *rest: Any) -> None:
        with stored.open("a") as stream:  # another process stores
            stream.write(f"{window} ")
        store(request, window, *rest)

    monkeypatch.setattr(job, "_store", noted)
    predict_corpus(predictor, unfinished)
    assert stored.read_text() == "1 2 "


def test_errors_of_a_try_that_was_killed_do_not_outlive_what_caused_them(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    some = records()
    missing = images / some[0]["image"]
    content = missing.read_bytes()
    missing.unlink()
    source = write_lines(tmp_path / "in.jsonl", some)
    request = Request(source, tmp_path / "out.jsonl", images, skip_without_image=True)
    try:
        assert killed_after(2, lambda: predict_corpus(predictor, request))  # between the errors and the results
        assert request.part_errors(0).exists()
        assert not request.part(0).exists()
    finally:
        missing.write_bytes(content)
    assert predict_corpus(predictor, request)[:2] == (COUNT, 0)
    assert not request.errors.exists()


def test_an_unfinished_prediction_of_something_else_is_refused(
    predictor: Predictor, unfinished: Request, tmp_path: Path
) -> None:
    other = Predictor(tiny_model(tiny_config().model, seed=1))
    with pytest.raises(ConfigError, match=r"out.jsonl.unfinished: holds an unfinished prediction with another model;"):
        predict_corpus(other, unfinished)
    with pytest.raises(ConfigError, match="with another folder of images and regions"):
        predict_corpus(predictor, Request(unfinished.source, unfinished.out, tmp_path, regions=True))
    write_lines(unfinished.source, records(19))
    with pytest.raises(ConfigError, match="with another corpus;"):
        predict_corpus(predictor, unfinished)
    write_lines(unfinished.source, records())
    assert predict_corpus(predictor, unfinished)[:2] == (COUNT, 0)


def test_a_corpus_that_changes_meanwhile_gives_no_output(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    request = Request(write_lines(tmp_path / "in.jsonl", records()), tmp_path / "out.jsonl", images)

    def change(_: int) -> None:
        write_lines(request.source, records(19))

    with pytest.raises(DataError, match=r"in.jsonl: changed while it was predicted"):
        predict_corpus(predictor, request, change)
    assert not request.out.exists()


def test_two_processes_do_not_share_an_output(predictor: Predictor, unfinished: Request) -> None:
    process = os.fork()
    if process == 0:
        with job.begun(predictor, unfinished):
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
    os.waitpid(process, os.WUNTRACED)  # it stopped while it holds the folder
    try:
        with pytest.raises(ConfigError, match=r"out.jsonl: another process is predicting to this file"):
            predict_corpus(predictor, unfinished)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert predict_corpus(predictor, unfinished)[:2] == (COUNT, 0)


def test_a_kill_leaves_no_process_behind(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", records() * 20)  # more than a pipe holds
    process = os.fork()
    if process == 0:

        def kill(rows: int) -> None:
            if rows:
                started = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
                (tmp_path / "started").write_text(started)
                os.kill(os.getpid(), signal.SIGKILL)

        predict_corpus(predictor, Request(source, tmp_path / "out.jsonl", images), kill)
    os.waitpid(process, 0)
    (worker,) = (tmp_path / "started").read_text().split()
    until = time.monotonic() + 20
    while command_of(worker):
        assert time.monotonic() < until
        time.sleep(0.02)


def command_of(process: str) -> str:
    """Empty for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""
