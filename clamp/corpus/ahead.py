"""Prepare what comes next while what came last is worked on."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Semaphore
from typing import Any, TypeVar

import torch

from clamp.config import ConfigError
from clamp.data.schema import DataError

_T = TypeVar("_T")
_SLOT = 2**26  # bytes of an item; only what is written of it takes memory


@dataclass(frozen=True)
class _Made:
    """An item is in its slot, in parts of these lengths; of none: it follows in the pipe, too large for a slot."""

    lengths: tuple[int, ...]


@dataclass(frozen=True)
class _Failed:
    reason: str


@dataclass(frozen=True)
class _Ended:
    pass


def ahead(make: Callable[[], Iterable[_T]], depth: int) -> Iterator[_T]:
    """What `make()` yields, in order, made in a process of its own that is at most `depth` items ahead.

    An item's arrays are its own until the next item is asked for. A ConfigError or DataError of `make` is a ConfigError
    here, and so is the end of the process by a signal.

    A thread would not do: most of the preparation holds Python's lock, for which a small model's forward pass, hundreds
    of short operators, would wait again and again. The process is a fork of this one and ends with it. Items come
    through memory that both share, one slot each; a pipe would copy images three times, and hand them over in pieces.
    The memory is anonymous: containers have little of the kind that has a name.
    """
    context = multiprocessing.get_context("fork")
    slots = [mmap.mmap(-1, _SLOT) for _ in range(depth)]
    free = context.Semaphore(depth)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(make, slots, free, sender), daemon=True)
    process.start()
    sender.close()
    try:
        for slot in cycle(slots):
            message = _received(receiver, process)
            if isinstance(message, _Ended):
                return
            if isinstance(message, _Failed):
                raise ConfigError(message.reason)
            yield _read(slot, message.lengths) if message.lengths else pickle.loads(receiver.recv_bytes())
            free.release()
    finally:
        process.kill()
        process.join()
        receiver.close()


def _received(receiver: Connection, process: BaseProcess) -> _Made | _Failed | _Ended:
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        hint = "; the system does that when memory runs out" if process.exitcode == -signal.SIGKILL else ""
        raise ConfigError(f"the process that reads ahead ended (exit code {process.exitcode}){hint}") from None


def _read(slot: mmap.mmap, lengths: tuple[int, ...]) -> Any:
    """The item whose pickle and arrays lie one after the other in the slot; the arrays are not copied."""
    parts, view, start = [], memoryview(slot), 0
    for length in lengths:
        parts.append(view[start : start + length])
        start += length
    return pickle.loads(parts[0], buffers=parts[1:])


def _work(make: Callable[[], Iterable[object]], slots: list[mmap.mmap], free: Semaphore, sender: Connection) -> None:
    """The life of the process that makes the items."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the one that asks for items ends the other
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        for slot, item in zip(cycle(slots), make(), strict=False):
            arrays: list[pickle.PickleBuffer] = []
            packed = pickle.dumps(item, protocol=5, buffer_callback=arrays.append)
            parts: list[bytes | memoryview] = [packed, *(array.raw() for array in arrays)]
            free.acquire()
            if sum(map(len, parts)) > len(slot):
                sender.send(_Made(()))
                sender.send_bytes(pickle.dumps(item))
                continue
            slot.seek(0)
            for part in parts:
                slot.write(part)
            sender.send(_Made(tuple(map(len, parts))))
    except (ConfigError, DataError) as error:
        sender.send(_Failed(str(error)))
    else:
        sender.send(_Ended())


def _exit_with_parent() -> None:
    """Else what is killed would leave a process behind that waits forever to be rid of its items."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
