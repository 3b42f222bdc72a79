"""Prepare what comes next while what came last is worked on."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset

from clamp.config import ConfigError
from clamp.data.schema import DataError

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Failed:
    reason: str


class _Stream(IterableDataset):
    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.make()
        except (ConfigError, DataError) as error:
            yield _Failed(str(error))


def _as_it_is(item: Any) -> Any:
    return item


def _end_with_parent(worker: int) -> None:
    """Else what is killed would leave a process behind that waits forever to be rid of its items."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ahead(make: Callable[[], Iterable[_T]], depth: int) -> Iterator[_T]:
    """What `make()` yields, in order, made in a process of its own that is at most `depth` items ahead.

    A thread would not do: most of the preparation holds Python's lock, for which a small model's forward pass, hundreds
    of short operators, would wait again and again. The process is a fork of this one and ends with it. Items come
    through a pipe; tensors within them would take shared memory, of which containers have little. A ConfigError or
    DataError of `make` is a ConfigError here.
    """
    loader = DataLoader(
        _Stream(make), batch_size=None, collate_fn=_as_it_is, num_workers=1, prefetch_factor=depth,
        multiprocessing_context="fork", generator=torch.Generator(), worker_init_fn=_end_with_parent,
    )  # fmt: skip
    for item in loader:
        if isinstance(item, _Failed):
            raise ConfigError(item.reason)
        yield item
