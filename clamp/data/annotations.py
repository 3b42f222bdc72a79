"""Annotated tweets from the three file forms in use: JSON, CoNLL lines, and one row per target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as form

from clamp.data.files import read_json, read_text
from clamp.data.schema import POLARITIES, Aspect, DataError, Polarity

_LABELS: dict[str, Polarity] = {"0": "NEG", "1": "NEU", "2": "POS"}
_TAGS = {f"{prefix}-{polarity}": (prefix, polarity) for prefix in "BI" for polarity in POLARITIES}
_ROW_FIELDS = ("index", "label", "image", "sentence", "target")
_PLACE = "$T$"


@dataclass(frozen=True, slots=True)
class AnnotatedTweet:
    """One annotated tweet: the name of its image file, its words, its aspects by position."""

    image_id: str
    words: tuple[str, ...]
    aspects: tuple[Aspect, ...]


def _checked_tweet(
    file: Path, number: int, image_id: str, words: Sequence[str], aspects: Iterable[Aspect]
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
    return AnnotatedTweet(image_id, tuple(words), tuple(ordered))


@form(frozen=True)
class _JsonAspect:
    start: Annotated[int, Field(alias="from")]
    to: int
    polarity: Polarity
    term: list[str] | None = None


@form(frozen=True)
class _JsonRecord:
    words: list[str]
    image_id: str
    aspects: list[_JsonAspect]


_JSON_FORM = TypeAdapter(list[_JsonRecord])


def read_json_records(file: Path) -> list[AnnotatedTweet]:
    """A list of {"words", "image_id", "aspects": [{"from", "to", "polarity", "term"}]}.

    `to` is exclusive; `term` may be absent, else it must be the words of its span.
    """
    raw_records = read_json(file, _JSON_FORM)
    records = []
    for number, raw in enumerate(raw_records):
        aspects = [Aspect(aspect.start, aspect.to, aspect.polarity) for aspect in raw.aspects]
        records.append(_checked_tweet(file, number, raw.image_id, raw.words, aspects))
        for aspect in raw.aspects:
            if aspect.term is not None and aspect.term != raw.words[aspect.start : aspect.to]:
                words = raw.words[aspect.start : aspect.to]
                raise DataError(file, number, f"term {aspect.term} is not {words}, words {aspect.start}:{aspect.to}")
    return records


def _spans(file: Path, number: int, tags: Sequence[str]) -> list[Aspect]:
    """Strict IOB2: every I- continues a span of its own polarity."""
    aspects: list[Aspect] = []
    for position, tag in enumerate(tags):
        if tag == "O":
            continue
        if tag not in _TAGS:
            raise DataError(file, number, f"unknown tag {tag!r}")
        prefix, polarity = _TAGS[tag]
        if prefix == "B":
            aspects.append(Aspect(position, position + 1, polarity))
        elif aspects and aspects[-1].end == position and aspects[-1].polarity == polarity:
            aspects[-1] = Aspect(aspects[-1].start, position + 1, polarity)
        else:
            raise DataError(file, number, f"{tag} at word {position} continues no {polarity} span")
    return aspects


def read_conll_records(file: Path) -> list[AnnotatedTweet]:
    """Blocks of an `IMGID:<name>` line and lines `word<TAB>tag[<TAB>...]`, set apart by blank lines.

    The tags are O, and B- or I- with a polarity. An image name without a suffix gets ".jpg".
    """
    # Not splitlines(): words may hold the other line breaks of Unicode.
    lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])

    records = []
    for number, (head, *rows) in enumerate(block for block in blocks if block):
        if not head.startswith("IMGID:"):
            raise DataError(file, number, f"starts with {head!r}, not with IMGID:")
        image_id = head.removeprefix("IMGID:").strip()
        words, tags = [], []
        for row in rows:
            word, *columns = row.split("\t")
            if not columns:
                raise DataError(file, number, f"no tag in {row!r}")
            words.append(word)
            tags.append(columns[0])
        name = image_id if not image_id or Path(image_id).suffix else f"{image_id}.jpg"
        records.append(_checked_tweet(file, number, name, words, _spans(file, number, tags)))
    return records


def read_target_records(file: Path) -> list[AnnotatedTweet]:
    """Rows `index<TAB>label<TAB>image<TAB>sentence<TAB>target` below a header, one a target.

    `label` is 0 NEG, 1 NEU, 2 POS; `$T$` stands for the target in the sentence. Rows of the same sentence and image
    become one tweet, at the place of its first row. A DataError's record counts rows there, tweets from then on.
    """
    header, *rows = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    if header.split("\t")[0] != "index":
        raise DataError(file, None, "the header does not start with 'index'")
    tweets: dict[tuple[str, tuple[str, ...]], list[Aspect]] = {}
    for number, row in enumerate(row for row in rows if row):
        fields = row.split("\t")
        if len(fields) != len(_ROW_FIELDS):
            raise DataError(file, number, f"{len(fields)} fields instead of {', '.join(_ROW_FIELDS)}")
        _, label, image_id, sentence, target = fields
        if label not in _LABELS:
            raise DataError(file, number, f"unknown label {label!r}")
        words, term = sentence.split(), target.split()
        if words.count(_PLACE) != 1:
            raise DataError(file, number, f"{_PLACE} occurs {words.count(_PLACE)} times instead of once")
        start = words.index(_PLACE)
        words[start : start + 1] = term
        aspect = Aspect(start, start + len(term), _LABELS[label])
        tweets.setdefault((image_id, tuple(words)), []).append(aspect)
    return [
        _checked_tweet(file, number, image_id, words, aspects)
        for number, ((image_id, words), aspects) in enumerate(tweets.items())
    ]
