"""Work in another process: its questions answered in order, whatever their size, and a clear end when it dies."""

from __future__ import annotations

import errno
import mmap
import os
import re
import signal
import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

import clamp.corpus.model_process
from clamp.config import ConfigError
from clamp.corpus.model_process import Exchange, run_beside
from clamp.data import DataError


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("slot", [2000, 2**20])  # of the smaller ones, some questions and answers do not fit
def test_answers_come_whole_and_in_order(depth: int, slot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clamp.corpus.model_process, "_SLOT", slot)

    def work(exchange: Exchange[int]) -> Iterator[tuple[int, dict[str, Any] | None]]:
        def pairs() -> Iterator[tuple[int, object]]:
            for number in range(40):
                array = np.full(50 * number, number, dtype=np.uint8)
                yield number, None if number % 3 == 0 else {"number": number, "array": array, "empty": np.zeros((0, 3))}

        yield from exchange(pairs())

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        assert np.array_equal(question["array"], np.full(50 * question["number"], question["number"]))
        assert question["empty"].shape == (0, 3)
        return {"double": 2 * question["number"], "long": np.repeat(question["array"], 2)}

    news = list(run_beside(work, answer, depth))
    assert [number for number, _ in news] == list(range(40))
    for number, answered in news:
        assert (answered is None) == (number % 3 == 0)
        if answered is not None:
            assert answered["double"] == 2 * number
            assert np.array_equal(answered["long"], np.full(100 * number, number))


def test_a_questions_arrays_are_handed_over_and_not_copied() -> None:
    def answer(array: np.ndarray) -> int:
        assert not array.flags.owndata
        array[0] = 7  # the answer's to write to
        return int(array[:2].sum())

    pairs = (("item", np.arange(10_000) + number) for number in range(5))
    assert list(run_beside(lambda exchange: exchange(pairs), answer, 2)) == [
        ("item", 8 + number) for number in range(5)
    ]


def test_an_answers_arrays_outlast_those_that_follow() -> None:
    def work(exchange: Exchange[int]) -> Iterator[list[int]]:
        kept = [answered for _, answered in exchange((number, number) for number in range(20))]
        yield [int(array[0]) for array in kept]

    assert list(run_beside(work, lambda number: np.full(1000, number), 2)) == [list(range(20))]


def test_it_is_no_more_questions_ahead_than_it_may_be() -> None:
    shared = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)

    def work(exchange: Exchange[int]) -> Iterator[int]:
        def pairs() -> Iterator[tuple[int, int]]:
            for number in range(50):
                shared[0] = number + 1
                yield number, number

        for number, _ in exchange(pairs()):
            yield number

    def answer(number: int) -> None:
        assert shared[0] <= number + 4  # three that were asked, one waiting to be

    assert list(run_beside(work, answer, 3)) == list(range(50))


@pytest.mark.parametrize("slot", [2000, 2**20])
def test_items_without_a_question_do_not_gather(slot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus may be all faults but for one slow batch, and as long as it likes."""
    monkeypatch.setattr(clamp.corpus.model_process, "_SLOT", slot)
    shared = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)

    def work(exchange: Exchange[int]) -> Iterator[int]:
        def pairs() -> Iterator[tuple[int, object]]:
            for number in range(5000):
                shared[0] = number
                yield number, 1 if number == 0 else None

        for number, _ in exchange(pairs()):
            yield int(shared[0]) - number

    def answer(question: int) -> np.ndarray:
        time.sleep(0.2)
        return np.zeros(2**17)

    assert max(run_beside(work, answer, 3)) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("tweets.jsonl", 3, "unreadable"), "tweets.jsonl: record 3: unreadable"),
        (ConfigError("no such device"), "no such device"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out"), "out: No space left on device"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "writing: No space left on device"),
    ],
)
def test_an_expected_error_arrives_after_the_news_before_it(error: Exception, line: str) -> None:
    def work(exchange: Exchange[int]) -> Iterator[int]:
        yield 1
        raise error

    news = run_beside(work, lambda question: question, 2)
    assert next(news) == 1
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        next(news)


def test_what_only_the_pipe_can_take_goes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds: were both sent at once, each process would wait for the other to read."""
    monkeypatch.setattr(clamp.corpus.model_process, "_SLOT", 2000)
    pairs = ((number, np.full(2**20, number)) for number in range(6))
    news = run_beside(lambda exchange: exchange(pairs), lambda array: array + 1, 3)
    assert [(number, int(array[-1])) for number, array in news] == [(number, number + 1) for number in range(6)]


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("slot", [2000, 2**26])  # the answer fits into the larger one
def test_its_end_by_a_signal_is_said_in_one_line(asks: bool, slot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clamp.corpus.model_process, "_SLOT", slot)

    def work(exchange: Exchange[int]) -> Iterator[int]:
        def pairs() -> Iterator[tuple[int, object]]:
            yield 1, 1 if asks else None
            os.kill(os.getpid(), signal.SIGKILL)

        for number, _ in exchange(pairs()):
            yield number

    with pytest.raises(
        ConfigError, match=r"^the process that reads and writes ended \(exit code -9\); the system does"
    ):
        list(run_beside(work, lambda question: np.zeros(2**20), 2))


@pytest.mark.parametrize("sent", [0, 100_000])  # of the question's bytes
def test_its_end_within_a_question_is_said_in_one_line(sent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clamp.corpus.model_process, "_SLOT", 2000)

    def cut(connection: Connection, content: bytes) -> None:
        os.write(connection.fileno(), struct.pack("!i", len(content)) + content[:sent] if sent else b"")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Connection, "send_bytes", cut)
    with pytest.raises(ConfigError, match=r"^the process that reads and writes ended \(exit code -9\)"):
        list(run_beside(lambda exchange: exchange([("item", np.zeros(2**20))]), lambda question: 0, 2))


def test_who_has_ended_is_no_longer_answered() -> None:
    asked: list[int] = []

    def answer(number: int) -> None:
        asked.append(number)
        time.sleep(0.5)

    def work(exchange: Exchange[int]) -> Iterator[tuple[int, None]]:
        def pairs() -> Iterator[tuple[int, int]]:
            yield from ((number, number) for number in range(8))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out")

        return exchange(pairs())

    with pytest.raises(ConfigError, match=r"^out: No space left on device$"):
        list(run_beside(work, answer, 16))
    assert len(asked) < 3


def test_an_error_of_the_answer_is_raised_here_and_ends_the_other_process() -> None:
    asked: list[int] = []

    def answer(pid: int) -> None:
        asked.append(pid)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(run_beside(lambda exchange: exchange([("item", os.getpid())]), answer, 2))
    with pytest.raises(ProcessLookupError):
        os.kill(asked[0], 0)


def test_who_stops_listening_leaves_no_process_behind() -> None:
    news = run_beside(lambda exchange: iter(lambda: os.getpid(), None), lambda question: question, 2)
    pid = next(news)
    assert pid != os.getpid()
    news.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
