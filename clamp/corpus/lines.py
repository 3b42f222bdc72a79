"""The lines of a corpus of text: bounded in length, numbered, in UTF-8, and read again where a quote swallowed them."""

from __future__ import annotations

import io
from collections import deque
from typing import IO

from clamp.data.files import encoding_of

LONGEST_LINE = 2**20  # bytes: a file without line ends must not fill the memory
_MOST_LINES = 1000  # of a table's row: a tweet has fewer, an open quote may have any number


class Unreadable(Exception):
    """A row that cannot be read while those after it can; its text is the reason."""


class Lines:
    """Lines of bytes, the number of the last one, and those that were taken back to be read again.

    Unreadable for one that is too long, and then the lines after it.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.number = stream, 0
        self._again: deque[bytes | None] = deque()  # None: a line that was too long to keep
        self.taken: list[bytes | None] = []  # since the last call of `begin`

    def begin(self) -> None:
        """A row begins."""
        self.taken = []

    def take_back_all_but_one(self) -> None:
        """Have the lines of this row, but its first, read again."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes:
        line = self._again.popleft() if self._again else self._stream.readline(LONGEST_LINE + 1)
        if line == b"":
            raise StopIteration
        self.number += 1
        if line is not None and len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = self._stream.readline(LONGEST_LINE)
            line = None
        self.taken.append(line)
        if line is None:
            raise Unreadable(f"longer than {LONGEST_LINE} bytes")
        if len(self.taken) > _MOST_LINES:
            raise Unreadable(f"a row of more than {_MOST_LINES} lines")
        return line


class _Recoded(io.RawIOBase):
    """A stream in another encoding, as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._text = io.TextIOWrapper(stream, encoding, newline="")

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._text.readline(-1 if size is None else size).encode("utf-8", "surrogatepass")


def decoded_lines(stream: IO[bytes]) -> Lines:
    """The lines in UTF-8, without the byte order mark, whatever the file is in."""
    encoding = encoding_of(stream.read(4))
    stream.seek(3 if encoding == "utf-8-sig" else 0)
    return Lines(_Recoded(stream, encoding) if encoding == "utf-16" else stream)  # type: ignore[arg-type]
