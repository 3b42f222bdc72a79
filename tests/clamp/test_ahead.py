"""Items made ahead in another process: all of them, in order, whatever their size, and a clear end when it dies."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

import clamp.corpus.ahead
from clamp.config import ConfigError
from clamp.corpus.ahead import ahead
from clamp.data import DataError


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_items_come_whole_and_in_order(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clamp.corpus.ahead, "_SLOT", 2000)  # so that some items do not fit

    def make() -> Iterator[dict[str, object]]:
        for number in range(20):
            yield {"number": number, "array": np.full(100 * number, number, dtype=np.uint8), "empty": np.zeros((0, 3))}

    for number, item in enumerate(ahead(make, depth)):
        assert item["number"] == number
        assert np.array_equal(item["array"], np.full(100 * number, number))
        assert item["empty"].shape == (0, 3)
    assert number == 19


def test_arrays_are_handed_over_and_not_copied() -> None:
    for item in ahead(lambda: iter([np.arange(10_000)]), 1):
        assert not item.flags.owndata
        item[0] = 7  # theirs to write to


def test_it_is_no_more_items_ahead_than_it_may_be() -> None:
    shared = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)

    def make() -> Iterator[int]:
        for number in range(50):
            shared[0] = number + 1
            yield number

    for number in ahead(make, 3):
        assert shared[0] <= number + 5  # three in slots, one waiting for a slot, one asked for


def test_an_error_of_the_data_arrives_after_the_items_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise DataError("tweets.jsonl", 3, "unreadable")

    items = ahead(make, 2)
    assert next(items) == 1
    with pytest.raises(ConfigError, match=r"^tweets.jsonl: record 3: unreadable$"):
        next(items)


def test_its_end_by_a_signal_is_said_in_one_line() -> None:
    def make() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ConfigError, match=r"^the process that reads ahead ended \(exit code -9\); the system does"):
        list(ahead(make, 2))


def test_who_stops_asking_leaves_no_process_behind() -> None:
    items = ahead(lambda: iter(lambda: os.getpid(), None), 2)
    pid = next(items)
    assert pid != os.getpid()
    items.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
