"""The parts of a prediction as one file, in JSON lines, CSV, Parquet or CoNLL."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from clamp.corpus.readers import pyarrow_for
from clamp.data.schema import POLARITIES
from clamp.data.write_annotations import conll_block

Merger = Callable[[Path, Sequence[Path], IO[bytes]], None]  # the output's name, the parts, the output

_COLUMNS = ("id", "words", "words_read", "aspects", "image")


def merge_json(out: Path, parts: Sequence[Path], stream: IO[bytes]) -> None:
    """One JSON object a line: the parts as they are."""
    for part in parts:
        with part.open("rb") as lines:
            shutil.copyfileobj(lines, stream)


def merge_csv(out: Path, parts: Sequence[Path], stream: IO[bytes]) -> None:
    """A row a tweet below a header; words and aspects are JSON."""
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    rows = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    rows.writeheader()
    for tweet in (tweet for part in parts for tweet in _tweets(part)):
        cells = {name: json.dumps(tweet[name], ensure_ascii=False) for name in ("words", "aspects")}
        rows.writerow(tweet | cells)
    text.detach()


def merge_conll(out: Path, parts: Sequence[Path], stream: IO[bytes]) -> None:
    """A block a tweet: its id in place of the image's name, then a line a word with its tag."""
    for tweet in (tweet for part in parts for tweet in _tweets(part)):
        words = [re.sub(r"[\t\r\n]", " ", word) for word in tweet["words"]]
        aspects = [(aspect["start"], aspect["end"], aspect["polarity"]) for aspect in tweet["aspects"]]
        stream.write(conll_block(" ".join(tweet["id"].split()), words, aspects).encode())


def merge_parquet(out: Path, parts: Sequence[Path], stream: IO[bytes]) -> None:
    """A row a tweet, with lists and structs; a row group a part."""
    pyarrow = pyarrow_for(out)
    schema = _schema(pyarrow)
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for part in parts:
            writer.write_table(pyarrow.Table.from_pylist(list(_tweets(part)), schema))


def _tweets(part: Path) -> Iterator[dict[str, Any]]:
    with part.open("rb") as lines:
        yield from map(json.loads, lines)


def _schema(pyarrow: Any) -> Any:
    number, real, string = pyarrow.int32(), pyarrow.float64(), pyarrow.string()
    sides = [(name, real) for name in ("left", "top", "right", "bottom", "weight")]
    region = pyarrow.struct([("row", number), ("column", number), *sides, ("text", string)])
    aspect = pyarrow.struct(
        [
            ("start", number), ("end", number), ("text", string), ("polarity", string), ("probability", real),
            ("probabilities", pyarrow.struct([(polarity, real) for polarity in POLARITIES])),
            ("start_char", number), ("end_char", number), ("regions", pyarrow.list_(region)),
        ]
    )  # fmt: skip
    types = (string, pyarrow.list_(string), number, pyarrow.list_(aspect), string)
    return pyarrow.schema(list(zip(_COLUMNS, types, strict=True)))


MERGERS: dict[str, Merger] = {
    ".jsonl": merge_json,
    ".csv": merge_csv,
    ".parquet": merge_parquet,
    ".conll": merge_conll,
}
