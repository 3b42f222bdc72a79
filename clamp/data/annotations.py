"""Annotated tweets from the file forms in use: JSON, CoNLL lines, a table of targets, and four lines a target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass as form

from clamp.data.files import read_json, read_text
from clamp.data.labels import NUMBERS, Labels, UnknownLabel, spans_of_tags
from clamp.data.schema import Aspect, DataError
from clamp.data.target_rows import PLACE, TargetTweet, read_four_lines, read_table

SUFFIXES = (".json", ".txt", ".conll", ".tsv")
_HEAD = "IMGID:"


@dataclass(frozen=True, slots=True)
class AnnotatedTweet:
    """One annotated tweet: the name of its image file, its words, its aspects by position.

    `dropped` counts the aspects that were left out because of their labels, as was asked for.
    """

    image_id: str
    words: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    dropped: int = 0


def read_annotations(file: Path, labels: Labels | None = None) -> list[AnnotatedTweet]:
    """The tweets of a file in any of the forms, told by its suffix and, of a .txt, by its first line.

    DataError names the file, the record or line, and the reason.
    """
    labels = labels or Labels()
    if file.suffix == ".json":
        return read_json_records(file, labels)
    if file.suffix == ".tsv":
        return read_target_records(file, labels)
    if file.suffix not in SUFFIXES:
        raise DataError(file, None, f"its name ends in none of {', '.join(SUFFIXES)}")
    first = next((line for line in read_text(file).split("\n") if line.strip()), "")
    if not first.startswith(_HEAD) and PLACE in first.split():
        return _of_targets(file, read_four_lines(file, labels))
    return read_conll_records(file, labels)


def _checked_tweet(
    file: Path, number: int | None, image_id: str, words: Sequence[str], aspects: Iterable[Aspect], dropped: int = 0
) -> AnnotatedTweet:
    """The record, if it is sound: an image name that cannot leave its folder, words, spans within them and apart."""
    if not image_id or image_id in {".", ".."} or any(c in "/\\" or not c.isprintable() for c in image_id):
        raise DataError(file, number, f"image_id {image_id!r} is not a file name")
    if not words:
        raise DataError(file, number, "no words")
    for word in words:
        if not word.strip():
            raise DataError(file, number, f"empty word {word!r}")
    ordered = sorted(aspects, key=lambda aspect: (aspect.start, aspect.end))
    end_before = 0
    for aspect in ordered:
        span = f"aspect {aspect.start}:{aspect.end}"
        if aspect.start >= aspect.end:
            raise DataError(file, number, f"{span} is empty")
        if aspect.start < 0 or aspect.end > len(words):
            raise DataError(file, number, f"{span} lies outside the {len(words)} words")
        if aspect.start < end_before:
            raise DataError(file, number, f"{span} overlaps the one before it")
        end_before = aspect.end
    return AnnotatedTweet(image_id, tuple(words), tuple(ordered), dropped)


def _number_as_text(value: object) -> object:
    return str(value) if type(value) is int and abs(value) < 10**18 else value


_Label = Annotated[str, BeforeValidator(_number_as_text)]


@form(frozen=True)
class _JsonAspect:
    start: Annotated[int, Field(alias="from")]
    to: int
    polarity: _Label
    term: list[str] | None = None


@form(frozen=True)
class _JsonRecord:
    words: list[str]
    image_id: Annotated[str, BeforeValidator(_number_as_text)]
    aspects: list[_JsonAspect]


_JSON_FORM: TypeAdapter[list[_JsonRecord]] = TypeAdapter(list[_JsonRecord])


def read_json_records(file: Path, labels: Labels | None = None) -> list[AnnotatedTweet]:
    """A list of {"words", "image_id", "aspects": [{"from", "to", "polarity", "term"}]}.

    `to` is exclusive; `term` may be absent, else it must be the words of its span.
    """
    labels = labels or Labels()
    records = []
    raws: list[_JsonRecord] = read_json(file, _JSON_FORM)
    for number, raw in enumerate(raws):
        aspects = []
        for place, aspect in enumerate(raw.aspects):
            try:
                polarity = labels.polarity(aspect.polarity, NUMBERS)
            except UnknownLabel as error:
                raise DataError(file, number, f"aspects.{place}.polarity: {error}") from None
            if polarity != "dropped":
                aspects.append(Aspect(aspect.start, aspect.to, polarity))
        records.append(_checked_tweet(file, number, raw.image_id, raw.words, aspects, len(raw.aspects) - len(aspects)))
        for aspect in raw.aspects:
            if aspect.term is not None and aspect.term != raw.words[aspect.start : aspect.to]:
                words = raw.words[aspect.start : aspect.to]
                raise DataError(file, number, f"term {aspect.term} is not {words}, words {aspect.start}:{aspect.to}")
    return records


def read_conll_records(file: Path, labels: Labels | None = None) -> list[AnnotatedTweet]:
    """Blocks of an `IMGID:<name>` line and lines `word<TAB>tag[<TAB>...]`, set apart by blank lines.

    Spaces may stand for the tabs. Tags are those of `clamp.data.labels.spans_of_tags`. An image name without a suffix
    gets ".jpg".
    """
    labels = labels or Labels()
    # Not splitlines(): words may hold the other line breaks of Unicode.
    lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip(" \t\r"):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])

    records = []
    for number, (head, *rows) in enumerate(block for block in blocks if block):
        if not head.startswith(_HEAD):
            raise DataError(file, number, f"starts with {head!r}, not with {_HEAD}")
        image_id = head.removeprefix(_HEAD).strip()
        words, tags = [], []
        for row in rows:
            word, *columns = row.split("\t") if "\t" in row else row.split()
            if not columns:
                raise DataError(file, number, f"no tag in {row!r}")
            words.append(word)
            tags.append(columns[0])
        name = image_id if not image_id or Path(image_id).suffix else f"{image_id}.jpg"
        try:
            aspects, dropped = spans_of_tags(tags, labels)
        except UnknownLabel as error:
            raise DataError(file, number, str(error)) from None
        records.append(_checked_tweet(file, number, name, words, aspects, dropped))
    return records


def read_target_records(file: Path, labels: Labels | None = None) -> list[AnnotatedTweet]:
    """Rows `index<TAB>label<TAB>image<TAB>sentence<TAB>target` below a header, one a target; `$T$` is its place.

    `label` is 0 NEG, 1 NEU, 2 POS, or a polarity's name. Rows of the same sentence and image become one tweet, at the
    place of its first row.
    """
    return _of_targets(file, read_table(file, labels or Labels()))


def _of_targets(file: Path, tweets: Iterable[TargetTweet]) -> list[AnnotatedTweet]:
    found = []
    for tweet in tweets:
        where = Path(f"{file}: line {tweet.line}")
        found.append(_checked_tweet(where, None, tweet.image_id, tweet.words, tweet.aspects, tweet.dropped))
    return found
