"""Annotations that name one target at a time, as TomBERT's release has them: rows of a table, or four lines each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clamp.data.files import read_text
from clamp.data.labels import NUMBERS, SIGNED_NUMBERS, Labels, UnknownLabel
from clamp.data.schema import Aspect, DataError, Polarity

PLACE = "$T$"
_FIELDS = ("index", "label", "image", "sentence", "target")


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target of a tweet, and the line of the file, from 1, where it is named."""

    line: int
    image_id: str
    words: tuple[str, ...]
    aspect: Aspect | None  # None where its label was to be dropped


@dataclass(frozen=True, slots=True)
class TargetTweet:
    """All that the rows of a file say of one tweet."""

    line: int
    image_id: str
    words: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    dropped: int


def read_table(file: Path, labels: Labels) -> list[TargetTweet]:
    """Rows `index<TAB>label<TAB>image<TAB>sentence<TAB>target` below a header; 0 = NEG, 1 = NEU, 2 = POS."""
    return _tweets(file, _rows_of_table(file, labels))


def read_four_lines(file: Path, labels: Labels) -> list[TargetTweet]:
    """Four lines a target: the sentence, the target, -1, 0 or 1, and the image."""
    return _tweets(file, _rows_of_four_lines(file, labels))


def _lines(file: Path) -> list[str]:
    # Not splitlines(): words may hold the other line breaks of Unicode.
    return [line.removesuffix("\r") for line in read_text(file).split("\n")]


def _rows_of_table(file: Path, labels: Labels) -> Iterator[TargetRow]:
    header, *rows = _lines(file)
    if header.split("\t")[0].strip().casefold() != "index":
        raise DataError(file, None, "the header does not start with 'index'")
    for line, row in enumerate(rows, start=2):
        if not row.strip():
            continue
        fields = row.split("\t")
        if len(fields) != len(_FIELDS):
            raise _fault(file, line, f"{len(fields)} fields instead of {', '.join(_FIELDS)}")
        _, label, image_id, sentence, target = fields
        yield _row(file, line, label, image_id, sentence, target, NUMBERS, labels)


def _rows_of_four_lines(file: Path, labels: Labels) -> Iterator[TargetRow]:
    lines = [(number, line) for number, line in enumerate(_lines(file), start=1) if line.strip()]
    for first in range(0, len(lines), 4):
        four = lines[first : first + 4]
        if len(four) < 4:
            raise _fault(file, four[0][0], f"{len(four)} lines instead of four: sentence, target, label, image")
        (line, sentence), (_, target), (_, label), (_, image_id) = four
        yield _row(file, line, label, image_id, sentence, target, SIGNED_NUMBERS, labels)


def _row(
    file: Path,
    line: int,
    label: str,
    image_id: str,
    sentence: str,
    target: str,
    numbers: dict[str, Polarity],
    labels: Labels,
) -> TargetRow:
    words, term = sentence.split(), target.split()
    if words.count(PLACE) != 1:
        raise _fault(file, line, f"{PLACE} occurs {words.count(PLACE)} times instead of once")
    start = words.index(PLACE)
    words[start : start + 1] = term
    if not term:
        raise _fault(file, line, "the target is empty")
    try:
        polarity = labels.polarity(label, numbers)
    except UnknownLabel as error:
        raise _fault(file, line, str(error)) from None
    aspect = None if polarity == "dropped" else Aspect(start, start + len(term), polarity)
    return TargetRow(line, image_id.strip(), tuple(words), aspect)


def _tweets(file: Path, rows: Iterable[TargetRow]) -> list[TargetTweet]:
    """Rows of the same words and image as one tweet, at the place of the first; rows that repeat each other as one.

    DataError names both rows where two contradict each other.
    """
    named: dict[tuple[str, tuple[str, ...]], list[TargetRow]] = {}
    for row in rows:
        of_tweet = named.setdefault((row.image_id, row.words), [])
        if row.aspect is None or not any(_agree(file, before, row) for before in of_tweet):
            of_tweet.append(row)
    tweets = []
    for (image_id, words), of_tweet in named.items():
        aspects = sorted((row.aspect for row in of_tweet if row.aspect), key=lambda aspect: aspect.start)
        dropped = sum(row.aspect is None for row in of_tweet)
        tweets.append(TargetTweet(of_tweet[0].line, image_id, words, tuple(aspects), dropped))
    return tweets


def _agree(file: Path, before: TargetRow, row: TargetRow) -> bool:
    """Whether two rows of a tweet say the same; DataError where they cannot both be right."""
    one, two = before.aspect, row.aspect
    if one is None or two is None or one.end <= two.start or two.end <= one.start:
        return False
    if one == two:
        return True
    target = " ".join(row.words[two.start : two.end])
    if (one.start, one.end) == (two.start, two.end):
        fault = f"{target!r} has polarity {two.polarity}, in line {before.line} it has {one.polarity}"
    else:
        other = " ".join(row.words[one.start : one.end])
        fault = f"{target!r} overlaps {other!r} of line {before.line}, the same tweet, labelled apart"
    raise _fault(file, row.line, fault)


def _fault(file: Path, line: int, reason: str) -> DataError:
    return DataError(f"{file}: line {line}", None, reason)
