"""The rows of a corpus in JSON lines, a table, Parquet or annotated tweets, one at a time, however many there are."""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from clamp.config import ConfigError
from clamp.corpus.convertible import read_any
from clamp.corpus.lines import Lines, Unreadable, decoded_lines
from clamp.data.annotations import SUFFIXES
from clamp.data.files import encoding_of
from clamp.data.labels import Labels, UnknownLabel
from clamp.data.schema import DataError
from clamp.inference.request_record import CorpusRow, named_fields

_SEPARATORS = (",", ";", "\t")
_PARQUET_ROWS = 256  # read at a time; with their images, where those are in it
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def read_rows(file: Path) -> Iterator[CorpusRow]:
    """Every row of a corpus; blank lines are none.

    A corpus is .jsonl, a table with a header (.csv, .tsv), .parquet, or annotated tweets in any of their forms, whose
    annotations are left aside. DataError where the file itself cannot be read. A row that cannot be read says so, and
    the rest follow.
    """
    reader = _reader(file)
    try:
        with file.open("rb") as stream:
            yield from reader(file, stream)
    except OSError as error:
        raise DataError(file, None, error.strerror or str(error)) from None
    except UnicodeError as error:
        raise DataError(file, None, f"not {getattr(error, 'encoding', 'text')}: {error}") from None


def notes_on(file: Path) -> list[str]:
    """What was taken for granted: a table's separator, which columns fields are from, and which are not used."""
    separator, columns = _columns(file)
    fields = named_fields(columns)
    renamed = [f"{field} from column {column!r}" for field, column in fields.items() if field != column]
    unused = [f"column {column!r} is not used" for column in columns if column not in fields.values()]
    names = {";": "semicolons", "\t": "tabs"}
    return ([f"columns are separated by {names[separator]}"] if separator in names else []) + renamed + unused


def _columns(file: Path) -> tuple[str, list[str]]:
    """A text table's separator, else ""; and the columns: of JSON its first row's, of annotated tweets none."""
    reader = _reader(file)
    if reader is _parquet_rows:
        pyarrow = pyarrow_for(file)
        with contextlib.suppress(pyarrow.ArrowException):  # the rows' reader tells of it
            return "", list(pyarrow.parquet.read_schema(file).names)
    if reader not in (_table_rows, _json_rows):
        return "", []
    with file.open("rb") as stream:
        lines = decoded_lines(stream)
        return _header(file, lines) if reader is _table_rows else ("", _first_names(lines))


def _first_names(lines: Lines) -> list[str]:
    """The names of the fields of the first row of JSON lines, where it can be read."""
    with contextlib.suppress(Unreadable, ValueError, RecursionError):
        first = json.loads(next((line for line in lines if not line.isspace()), b"{}"))
        return list(first) if isinstance(first, dict) else []
    return []


def _reader(file: Path) -> Callable[[Path, IO[bytes]], Iterator[CorpusRow]]:
    if file.suffix == ".tsv":
        return _annotated_rows if _is_table_of_targets(file) else _table_rows
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise DataError(file, None, f"its name ends in none of {', '.join(CORPUS_SUFFIXES)}")
    return reader


def _is_table_of_targets(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(200)
        return start.decode(encoding_of(start), "ignore").split("\t")[0].strip().casefold() == "index"
    except OSError:
        return False


def pyarrow_for(file: Path) -> ModuleType:
    """The module that reads and writes Parquet, which is installed on request only."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f'{file}: Parquet needs pyarrow; try: pip install "clamp-repro[parquet]"') from None
    return pyarrow


def _json_rows(file: Path, stream: IO[bytes]) -> Iterator[CorpusRow]:
    lines = decoded_lines(stream)
    while True:
        lines.begin()
        try:
            line = next(lines)
        except StopIteration:
            return
        except Unreadable as error:
            yield CorpusRow(lines.number, b"", str(error))
        else:
            if not line.isspace():
                yield CorpusRow(lines.number, line)


def _table_rows(file: Path, stream: IO[bytes]) -> Iterator[CorpusRow]:
    lines = decoded_lines(stream)
    separator, header = _header(file, lines)
    columns = named_fields(header)
    if not {"text", "words"} & set(columns):
        raise DataError(file, None, "the header names no column text or words, nor tweet or sentence")
    if len(set(header)) < len(header):
        raise DataError(file, None, "the header names a column twice")
    places = {field: header.index(column) for field, column in columns.items()}
    while True:
        lines.begin()
        first = lines.number + 1
        try:
            cells = _cells(lines, separator, len(header))
            if cells:
                yield CorpusRow(first, _fields(places, cells))
        except StopIteration:
            return
        except Unreadable as error:
            yield CorpusRow(first, b"", str(error))


def _header(file: Path, lines: Lines) -> tuple[str, list[str]]:
    """The separator under which the first line names a text, and the names of the columns."""
    try:
        text = next(lines, b"").decode("utf-8", "replace")
        found = {sign: next(csv.reader([text], delimiter=sign), []) for sign in _SEPARATORS}
    except (csv.Error, Unreadable) as error:
        raise DataError(file, None, f"header: {error}") from None
    known = [sign for sign in _SEPARATORS if {"text", "words"} & set(named_fields(found[sign]))]
    separator = max(known or _SEPARATORS[:1], key=lambda sign: len(found[sign]))
    return separator, [cell.strip() for cell in found[separator]]


def _cells(lines: Lines, separator: str, count: int) -> list[str]:
    """The cells of the next row. Unreadable names its fault, and where a quote was open the lines after it follow.

    A row of several lines has a quoted line end in it, or a quote that was never closed. It is the second where the
    quote does not end before a separator, where the file ends first, and where the cells are not as many as they
    should be.
    """
    decoded = (line.decode("utf-8", "surrogateescape") for line in lines)
    try:
        cells = next(csv.reader(decoded, delimiter=separator, strict=True))
        fault = f"{len(cells)} fields instead of {count}" if cells and len(cells) != count else ""
    except csv.Error as error:
        cells, fault = [], str(error)
    except Unreadable as error:
        if len(lines.taken) <= 1:
            raise
        cells, fault = [], str(error)
    if fault and len(lines.taken) > 1:
        lines.take_back_all_but_one()
        raise Unreadable(f"a quote opens here and is not closed where its cell ends ({fault})")
    if fault and not cells:
        cells = _leniently((lines.taken[0] or b"").decode("utf-8", "surrogateescape"), separator, fault)
        fault = f"{len(cells)} fields instead of {count}" if len(cells) != count else ""
    if fault:
        raise Unreadable(fault)
    return cells


def _leniently(line: str, separator: str, fault: str) -> list[str]:
    """The cells of a line with a quote out of place, as most programs read it; not with one that is not closed."""
    if line.count('"') % 2:
        raise Unreadable(f"a quote opens here and is not closed ({fault})")
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise Unreadable(str(error)) from None


def _fields(places: dict[str, int], cells: Sequence[str]) -> dict[str, object]:
    """A row's fields by name, those that are empty left out; words and aspects are lists, as JSON or pandas has."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        raise Unreadable("not UTF-8") from None
    fields: dict[str, object] = {field: cells[place] for field, place in places.items() if cells[place]}
    for name in {"words", "aspects"} & set(fields):
        fields[name] = _list_in(str(fields[name]))
    return fields


def _list_in(text: str) -> object:
    """A list as JSON or as Python writes it, or of strings as numpy does; text that is no list is refused later."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    if not _STRING.sub("", text).strip("[] ,\n\t"):  # strings alone: side by side, Python would make them one
        with contextlib.suppress(ValueError, SyntaxError):
            return [ast.literal_eval(string) for string in _STRING.findall(text)]
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(text)
    return text


def _parquet_rows(file: Path, stream: IO[bytes]) -> Iterator[CorpusRow]:
    pyarrow = pyarrow_for(file)
    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(stream)
        columns = named_fields(table.schema_arrow.names)
        if not {"text", "words"} & set(columns):
            raise DataError(file, None, "it has no column text or words, nor tweet or sentence")
        for batch in table.iter_batches(_PARQUET_ROWS, columns=list(columns.values())):
            for cells in _dicts(batch):
                number += 1
                fields = {field: cells[column] for field, column in columns.items()} if cells else {}
                yield CorpusRow(number, fields, "" if cells else "not UTF-8")
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


class _AnyLabels(Labels):
    """Annotations that are left aside need not be understood."""

    def polarity(self, label: str, numbers: Any) -> Any:
        with contextlib.suppress(UnknownLabel):
            return super().polarity(label, numbers)
        return "dropped"


def _annotated_rows(file: Path, _: IO[bytes]) -> Iterator[CorpusRow]:
    for number, tweet in enumerate(read_any(file, _AnyLabels()), start=1):
        yield CorpusRow(number, {"id": tweet.image_id, "words": list(tweet.words), "image": tweet.image_id})


_READERS: dict[str, Callable[[Path, IO[bytes]], Iterator[CorpusRow]]] = {
    ".jsonl": _json_rows,
    ".csv": _table_rows,
    ".parquet": _parquet_rows,
    **{suffix: _annotated_rows for suffix in SUFFIXES if suffix != ".tsv"},
}
CORPUS_SUFFIXES = (*_READERS, ".tsv")
