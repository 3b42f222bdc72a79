"""Annotated tweets as files, in the three forms that tools of the field exchange."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from clamp.data.annotations import AnnotatedTweet
from clamp.data.labels import NUMBERS
from clamp.data.schema import DataError, Polarity
from clamp.data.target_rows import PLACE
from clamp.system.files import written

_NUMBER_OF: dict[Polarity, str] = {polarity: number for number, polarity in NUMBERS.items()}
_TABLE_HEAD = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n"


def write_annotations(file: Path, tweets: Sequence[AnnotatedTweet]) -> int:
    """Write tweets as the file's suffix says; returns how many cannot be told in that form: a table has no place for a
    tweet without aspects.

    DataError where a word cannot be written in the form: one that holds a separator, or is `$T$`.
    """
    with written(file) as stream:
        stream.write(_WRITERS[file.suffix](file, tweets).encode())
    return sum(not tweet.aspects for tweet in tweets) if file.suffix == ".tsv" else 0


def _as_json(file: Path, tweets: Sequence[AnnotatedTweet]) -> str:
    records = [
        {
            "words": list(tweet.words),
            "image_id": tweet.image_id,
            "aspects": [
                {"from": a.start, "to": a.end, "polarity": a.polarity, "term": list(tweet.words[a.start : a.end])}
                for a in tweet.aspects
            ],
        }
        for tweet in tweets
    ]
    return json.dumps(records, ensure_ascii=False, indent=1) + "\n"


def conll_block(image: str, words: Sequence[str], aspects: Sequence[tuple[int, int, str]]) -> str:
    """One tweet with its aspects (start, end, polarity), and the blank line that ends it."""
    tags = ["O"] * len(words)
    for start, end, polarity in aspects:
        tags[start:end] = [f"B-{polarity}"] + [f"I-{polarity}"] * (end - start - 1)
    rows = "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
    return f"IMGID:{image}\n{rows}\n"


def _as_conll(file: Path, tweets: Sequence[AnnotatedTweet]) -> str:
    for number, tweet in enumerate(tweets):
        if any(set(word) & set("\t\n\r") for word in tweet.words):
            raise DataError(file, number, "a word holds a tab or a line end, which CoNLL has no way to write")
    return "".join(
        conll_block(tweet.image_id, tweet.words, [(a.start, a.end, a.polarity) for a in tweet.aspects])
        for tweet in tweets
    )


def _as_table(file: Path, tweets: Sequence[AnnotatedTweet]) -> str:
    rows: list[str] = []
    for number, tweet in enumerate(tweets):
        if any(word == PLACE or word.split() != [word] for word in tweet.words):
            raise DataError(file, number, f"a word holds a space or is {PLACE}, which the table has no way to write")
        for a in tweet.aspects:
            sentence = " ".join([*tweet.words[: a.start], PLACE, *tweet.words[a.end :]])
            target = " ".join(tweet.words[a.start : a.end])
            rows.append(f"{len(rows) + 1}\t{_NUMBER_OF[a.polarity]}\t{tweet.image_id}\t{sentence}\t{target}\n")
    return _TABLE_HEAD + "".join(rows)


_WRITERS: dict[str, Callable[[Path, Sequence[AnnotatedTweet]], str]] = {
    ".json": _as_json, ".txt": _as_conll, ".conll": _as_conll, ".tsv": _as_table,
}  # fmt: skip
