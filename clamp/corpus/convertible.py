"""Annotated tweets in forms that are converted before training: a record an aspect, JSON lines, TomBERT's test table.

Training reads the forms of `clamp.data.annotations` alone; `clamp convert` brings these into one of them.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clamp.data.annotations import SUFFIXES, AnnotatedTweet, read_annotations
from clamp.data.files import read_json, read_text
from clamp.data.labels import NUMBERS, Labels, UnknownLabel
from clamp.data.schema import Aspect, DataError
from clamp.data.target_rows import PLACE
from clamp.inference.request_record import BadRecord, CorpusRow, named_fields, record_of

MORE_SUFFIXES = (".jsonl", ".csv")  # beside those that training reads
_ASPECT = ("aspect", "aspect_term", "target", "term")
_LABEL = ("polarity", "sentiment", "label")
_HEAD = "IMGID:"  # of a tweet in CoNLL
_TEST_TABLE = 4  # columns of TomBERT's test.tsv, which has no index: label, image, sentence, target
_OBJECTS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[dict[str, Any]])

Row = tuple[str, dict[str, Any]]  # where it stands in its file, and its fields
Rows = Callable[[Path], Iterator[Row]]


def read_any(file: Path, labels: Labels) -> list[AnnotatedTweet]:
    """The tweets of a file in a form that training reads or that is converted; DataError names line and reason."""
    rows = _rows(file)
    if rows is not None:
        return _tweets(file, rows(file), labels)
    if file.suffix == ".txt":
        _refuse_plain_lines(file)
    return read_annotations(file, labels)


def _refuse_plain_lines(file: Path) -> None:
    """DataError, with the way out, for a .txt in neither annotated form: most likely it is a tweet a line."""
    first = next((line for line in read_text(file).split("\n") if line.strip()), _HEAD)
    if not first.startswith(_HEAD) and PLACE not in first.split():
        way_out = "of a tweet a line, write `text` above them and name it .tsv"
        raise DataError(file, None, f"its first line neither starts with {_HEAD} nor has {PLACE}; {way_out}")


def is_convertible(file: Path) -> bool:
    """Whether a file is in a form that training does not read, but `clamp convert` does."""
    return _rows(file) is not None


def _rows(file: Path) -> Rows | None:
    """How the rows of a form are read that is to be converted; None for any other form."""
    if file.suffix == ".jsonl":
        return _json_lines
    if file.suffix == ".csv":
        return _table
    if file.suffix == ".tsv":
        header = read_text(file).split("\n", 1)[0].split("\t")
        if header[0].strip().casefold() == "index":
            return _test_table if len(header) == _TEST_TABLE else None
        return _table if _is_of_aspects(header) else None
    if file.suffix == ".json":
        try:
            records = read_json(file, _OBJECTS)
        except DataError:
            return None  # whoever reads it as our own form says what is wrong
        return _json_records if records and "words" not in records[0] and _is_of_aspects(list(records[0])) else None
    return None


def _is_of_aspects(names: list[str]) -> bool:
    folded = {name.strip().casefold() for name in names}
    return bool(folded & set(_ASPECT) and folded & set(_LABEL))


def _json_records(file: Path) -> Iterator[Row]:
    records = read_json(file, _OBJECTS)
    for number, record in enumerate(records):
        yield f"{file}: record {number}", record


def _json_lines(file: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            where = f"{file}: line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(where, None, f"Invalid JSON: {error}") from None
            if not isinstance(record, dict):
                raise DataError(where, None, "no JSON object")
            yield where, record


def _table(file: Path) -> Iterator[Row]:
    text = read_text(file)
    first = text.split("\n", 1)[0]
    separator = max((",", ";", "\t"), key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header, before = [cell.strip() for cell in next(rows, [])], rows.line_num
    if not _is_of_aspects(header):
        raise DataError(file, None, f"the header names no {', '.join(_ASPECT)} beside a {', '.join(_LABEL)}")
    try:
        for cells in rows:
            where, before = f"{file}: line {before + 1}", rows.line_num
            if cells and len(cells) != len(header):
                raise DataError(where, None, f"{len(cells)} fields instead of {len(header)}")
            if cells:
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{file}: line {before + 1}", None, str(error)) from None


def _test_table(file: Path) -> Iterator[Row]:
    """Words are apart by spaces already, as in the release's other tables."""
    for number, line in enumerate(read_text(file).split("\n")[1:], start=2):
        if line.strip():
            where, cells = f"{file}: line {number}", line.removesuffix("\r").split("\t")
            if len(cells) != _TEST_TABLE:
                raise DataError(where, None, f"{len(cells)} fields instead of label, image, sentence, target")
            label, image, sentence, target = cells
            words, term = sentence.split(), target.split()
            if words.count(PLACE) != 1 or not term:
                raise DataError(where, None, f"{PLACE} is to occur once, and the target to have words")
            start = words.index(PLACE)
            words[start : start + 1] = term
            aspect = {"start": start, "end": start + len(term), "polarity": label}
            yield where, {"words": words, "image": image.strip(), "aspects": [aspect]}


@dataclass
class _Gathered:
    """What the rows of one tweet say: its aspects, and where each is said."""

    said: dict[Aspect, str] = field(default_factory=dict)
    dropped: int = 0


def _tweets(file: Path, rows: Iterator[Row], labels: Labels) -> list[AnnotatedTweet]:
    """Rows of the same words and image as one tweet, at the place of the first; rows that repeat each other as one."""
    gathered: dict[tuple[str, tuple[str, ...]], _Gathered] = {}
    for where, fields in rows:
        try:
            image, words, named = _read(fields)
            tweet = gathered.setdefault((image, words), _Gathered())
            for (start, end), label in named:
                polarity = labels.polarity(label, NUMBERS)
                if polarity == "dropped":
                    tweet.dropped += 1
                else:
                    _add(tweet, Aspect(start, end, polarity), where)
        except (BadRecord, UnknownLabel) as error:
            raise DataError(where, None, str(error)) from None
    if not gathered:
        raise DataError(file, None, "no tweets")
    return [
        AnnotatedTweet(image, words, tuple(sorted(tweet.said, key=lambda aspect: aspect.start)), tweet.dropped)
        for (image, words), tweet in gathered.items()
    ]


def _add(tweet: _Gathered, aspect: Aspect, where: str) -> None:
    """Note an aspect. BadRecord where it cannot be right beside what was said before."""
    for other, place in tweet.said.items():
        if other != aspect and other.start < aspect.end and aspect.start < other.end:
            ours, theirs = (f"{one.start}:{one.end} {one.polarity}" for one in (aspect, other))
            raise BadRecord(f"aspect {ours} contradicts {theirs} of {place}")
    tweet.said.setdefault(aspect, where)


def _read(fields: Mapping[str, Any]) -> tuple[str, tuple[str, ...], list[tuple[tuple[int, int], str]]]:
    """Of a row: its image's name, its words, and its aspects with their labels. BadRecord says what it lacks."""
    columns = named_fields(list(fields))
    content: dict[str, object] = {
        name: fields[column] for name, column in columns.items() if name in ("text", "words", "image", "aspects")
    }
    if "aspects" in content:
        aspects = content["aspects"]
        if not isinstance(aspects, list) or not all(isinstance(aspect, dict) for aspect in aspects):
            raise BadRecord("aspects: not a list of objects")
        marked = [str(aspect.get("polarity", "")) for aspect in aspects]
    else:
        target, marked = _named(fields, _ASPECT), [_named(fields, _LABEL)]
        content |= _placed(str(content.get("text", "")), target)
    record = record_of(CorpusRow(0, content))
    if not isinstance(record.image, str) or "/" in record.image or "\\" in record.image:
        raise BadRecord("it names no image, a file without its folder; of a tweet without one any name will do")
    return record.image, record.words, list(zip(record.given or (), marked, strict=True))


def _named(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The field of one of these names, in any case; the first that is there counts."""
    folded = {name.strip().casefold(): value for name, value in fields.items()}
    value = next((str(folded[name]) for name in names if name in folded), "")
    if not value.strip():
        raise BadRecord(f"no {', '.join(names)}")
    return value


def _placed(text: str, target: str) -> dict[str, object]:
    """The text with its aspect marked: where $T$ stands, or else where the words of the aspect do, once."""
    if PLACE in text:
        return {"text": text, "target": target}
    found = list(re.finditer(rf"(?<!\w){re.escape(target.strip())}(?!\w)", text))
    if len(found) != 1:
        raise BadRecord(f"{target!r} occurs {len(found)} times in the text; {PLACE} in its place tells which is meant")
    return {"aspects": [{"start_char": found[0].start(), "end_char": found[0].end()}]}


def refuse_convertible(data: Path) -> None:
    """DataError where a folder has a split in a form that is to be converted first, and in no form that is read."""
    for names in (("train",), ("dev", "valid", "val", "validation"), ("test",)):
        files = [data / f"{name}{suffix}" for suffix in (*SUFFIXES, *MORE_SUFFIXES) for name in names]
        file = next((file for file in files if file.is_file()), None)
        if file is not None and is_convertible(file):
            way_out = f"clamp convert {file} {file.with_suffix('.json')}"
            raise DataError(file, None, f"not read in this form; convert it first: {way_out}")
