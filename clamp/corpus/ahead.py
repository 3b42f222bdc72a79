"""Prepare what comes next while what came last is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")
_PATIENCE = 0.1  # seconds between two looks at whether anybody still wants the items


@dataclass
class _Failed:
    error: BaseException


class _End:
    pass


def ahead(items: Iterable[_T], depth: int) -> Iterator[_T]:
    """The same items in the same order, made in a background thread that is at most `depth` of them ahead.

    What making them raises is raised here. The thread ends when the iteration does, however that ends.
    """
    ready: queue.Queue[_T | _Failed | _End] = queue.Queue(depth)
    abandoned = threading.Event()

    def put(item: _T | _Failed | _End) -> None:
        while not abandoned.is_set():
            try:
                return ready.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if abandoned.is_set():
                    return
            put(_End())
        except BaseException as error:
            put(_Failed(error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        abandoned.set()
        thread.join()
