"""Features in a file that is mapped into memory, and that any process of the machine may read and fill.

An entry is what an encoder said of one image: its rows, and a digest of them. Where the digest does not fit, there is
none: nobody has written it yet, or a process that was killed or a machine that lost power left it half written, or
another process is writing it. Whoever writes an entry writes the same bits, so that nobody has to wait.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

_DIGEST = 16  # bytes

Opener = Callable[[str], IO[bytes]]  # what the features are of, as a file's name -> the file, to read and to write


def shared_in(folder: Path) -> Opener:
    """Files that stay in `folder`, which is made, for the next process that asks for the same features."""

    def opened(name: str) -> IO[bytes]:
        folder.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666), "r+b")

    return opened


def nameless_in(folder: Path) -> Opener:
    """Files without a name: their space is free again when the process ends, however it ends."""
    there = folder if folder.is_dir() else None  # of several processes only the first has a folder
    return lambda _: tempfile.TemporaryFile("w+b", dir=there)


class KeptFeatures:
    """Entries of given numbers of rows, (rows, width) float32. OSError where there is not enough space for them all."""

    def __init__(self, file: IO[bytes], rows: Sequence[int], width: int) -> None:
        self._end_N = np.cumsum([0, *rows])
        self._width = width
        of_rows = 4 * width * int(self._end_N[-1])
        size = of_rows + _DIGEST * len(rows)
        with file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))  # claimed now: a full disk is an error before any work
            kept = np.memmap(file, np.uint8, "r+", shape=(max(1, size),))
        self._rows_RH = torch.from_numpy(kept[:of_rows].view(np.float32)).reshape(-1, width)
        self._digest_N = kept[of_rows:size].reshape(-1, _DIGEST)
        self._is_whole_N = np.zeros(len(rows), dtype=bool)  # found to be so by this process

    def get(self, entry: int) -> Tensor | None:
        """(rows, width), or None where it is not there yet."""
        rows_RH = self._rows_RH[self._end_N[entry] : self._end_N[entry + 1]]
        if not self._is_whole_N[entry]:
            self._is_whole_N[entry] = self._digest_N[entry].tobytes() == _digest(rows_RH)
        return rows_RH if self._is_whole_N[entry] else None

    def put(self, entry: int, features_RH: Tensor) -> None:
        """Keep the features of an entry, float32 on the CPU."""
        self._rows_RH[self._end_N[entry] : self._end_N[entry + 1]] = features_RH
        self._digest_N[entry] = np.frombuffer(_digest(features_RH), np.uint8)


def _digest(rows_RH: Tensor) -> bytes:
    return hashlib.blake2b(rows_RH.contiguous().numpy().data, digest_size=_DIGEST).digest()
