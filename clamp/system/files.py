"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def written(file: Path, scratch: Path | None = None) -> Iterator[IO[bytes]]:
    """A stream whose content becomes `file`, whole and on disk, when the block ends without an error.

    Until then it is a hidden .tmp file in `scratch`, a folder of the same file system (default: that of `file`). After
    an error it is removed and `file` is what it was; a process that is killed leaves it behind.
    """
    temporary = (scratch or file.parent) / f".{file.name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(file.parent)


def _sync(folder: Path) -> None:
    """Have the new name on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
