"""The rows of a corpus in JSON lines, CSV or Parquet, one at a time, however many there are."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from clamp.config import ConfigError
from clamp.data.schema import DataError
from clamp.inference.request_record import CorpusRow

LONGEST_LINE = 2**20  # bytes: a file without line ends must not fill the memory
_COLUMNS = ("id", "text", "words", "image", "proxy")
_PARQUET_ROWS = 1024  # read at a time


class _Unreadable(Exception):
    """A row that cannot be read while those after it can; its text is the reason."""


class _Lines:
    """Lines of bytes and how many were read; _Unreadable for one that is too long, and then the lines after it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.number = stream, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> bytes:
        line = self.stream.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) <= LONGEST_LINE:
            return line
        while line and not line.endswith(b"\n"):
            line = self.stream.readline(LONGEST_LINE)
        raise _Unreadable(f"longer than {LONGEST_LINE} bytes")


def read_rows(file: Path) -> Iterator[CorpusRow]:
    """Every row of a .jsonl, .csv (with a header) or .parquet file; blank lines are none.

    DataError where the file itself cannot be read. A row that cannot be read says so, and the rest follow.
    """
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise DataError(file, None, f"its name ends in none of {', '.join(_READERS)}")
    try:
        with file.open("rb") as stream:
            yield from reader(file, stream)
    except OSError as error:
        raise DataError(file, None, error.strerror or str(error)) from None


def pyarrow_for(file: Path) -> ModuleType:
    """The module that reads and writes Parquet, which is installed on request only."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f'{file}: Parquet needs pyarrow; try: pip install "clamp-repro[parquet]"') from None
    return pyarrow


def _json_rows(file: Path, stream: IO[bytes]) -> Iterator[CorpusRow]:
    if stream.read(3) != b"\xef\xbb\xbf":  # the byte order mark that some editors write
        stream.seek(0)
    lines = _Lines(stream)
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except _Unreadable as error:
            yield CorpusRow(lines.number, b"", str(error))
        else:
            if not line.isspace():
                yield CorpusRow(lines.number, line)


def _csv_rows(file: Path, stream: IO[bytes]) -> Iterator[CorpusRow]:
    lines = _Lines(stream)
    # decoded so that a byte that is no UTF-8 spoils its own row only
    rows = csv.reader(_Decoded(lines))
    try:
        header = _header(file, next(rows, []))
    except (csv.Error, _Unreadable) as error:
        raise DataError(file, None, f"header: {error}") from None
    while True:
        first = lines.number + 1
        try:
            cells = next(rows)
            if cells:
                yield CorpusRow(first, _fields(header, cells))
        except StopIteration:
            return
        except (csv.Error, _Unreadable) as error:
            yield CorpusRow(first, b"", str(error))


class _Decoded:
    """The lines as text; what is no UTF-8 in them becomes lone surrogates."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines

    def __iter__(self) -> _Decoded:
        return self

    def __next__(self) -> str:
        return next(self.lines).decode("utf-8", "surrogateescape")


def _header(file: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.removeprefix("\ufeff").strip() for cell in cells]
    if not {"text", "words"} & set(names):
        raise DataError(file, None, "the header names no column text or words")
    if len(set(names)) < len(names):
        raise DataError(file, None, "the header names a column twice")
    return names


def _fields(header: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    """A row's fields by name, those that are empty left out; its words are a JSON list."""
    if len(cells) != len(header):
        raise _Unreadable(f"{len(cells)} fields instead of {len(header)}")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        raise _Unreadable("not UTF-8") from None
    fields: dict[str, object] = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    if "words" in fields:
        with contextlib.suppress(ValueError, RecursionError):  # text that is no list of words is refused later
            fields["words"] = json.loads(str(fields["words"]))
    return fields


def _parquet_rows(file: Path, stream: IO[bytes]) -> Iterator[CorpusRow]:
    pyarrow = pyarrow_for(file)
    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(stream)
        columns = [name for name in table.schema_arrow.names if name in _COLUMNS]
        if not {"text", "words"} & set(columns):
            raise DataError(file, None, "it has no column text or words")
        for batch in table.iter_batches(_PARQUET_ROWS, columns=columns):
            for fields in _dicts(batch):
                number += 1
                yield CorpusRow(number, fields or {}, "" if fields else "not UTF-8")
    except pyarrow.ArrowException as error:
        raise DataError(file, number + 1, " ".join(str(error).split())) from None


def _dicts(batch: Any) -> list[dict[str, object] | None]:
    """The rows of a batch; None for one that holds bytes that are no UTF-8."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        rows: list[dict[str, object] | None] = []
        for number in range(batch.num_rows):
            try:
                rows += batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError:
                rows.append(None)
        return rows


_READERS: dict[str, Callable[[Path, IO[bytes]], Iterator[CorpusRow]]] = {
    ".jsonl": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
