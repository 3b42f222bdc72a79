"""Files that appear whole or not at all, and folders that one process works in at a time.

filelock was tried for the second. It holds across forks as `locked` does, but whoever asks it for a holder becomes one
for that moment, so that two who ask at once each see the other; and it waits by asking twenty times a second.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = "lock"  # a file in a folder that one process works in; it tells nothing once nobody holds it


@contextmanager
def written(file: Path, scratch: Path | None = None, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A stream whose content becomes `file`, whole and on disk, when the block ends without an error.

    Until then it is a hidden .tmp file in `scratch`, a folder of the same file system (default: that of `file`). After
    an error it is removed and `file` is what it was; a process that is killed leaves it behind. Not `durable`: a
    machine that loses power may lose or damage it, which whoever reads it has to notice.
    """
    temporary = (scratch or file.parent) / f".{file.name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync(file.parent)


def _sync(folder: Path) -> None:
    """Have the new name on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_held: set[int] = set()  # descriptors of the locks of this process


def _let_go_in_fork() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_fork)


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder, made where it is missing; the kernel releases it however the holder ends.

    Where another process holds it, this one comes after it, or without `wait` gets BlockingIOError. A fork of the
    holder does not hold it, so that what outlives the holder for a moment keeps nobody out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        if descriptor in _held:  # not in a fork that leaves the block too
            _held.remove(descriptor)
            os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process, be it this one, holds the folder at this moment; any number may ask at once."""
    try:
        with open(folder / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
