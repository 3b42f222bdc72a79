"""Polarities as releases spell them, and sequences of tags in the schemes that they use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from clamp.data.files import read_json
from clamp.data.schema import Aspect, Polarity

Dropped = Literal["dropped"]  # an aspect that is left out, as was asked for

_SPELLINGS: dict[str, Polarity] = {
    "pos": "POS", "positive": "POS", "neu": "NEU", "neutral": "NEU", "neg": "NEG", "negative": "NEG",
}  # fmt: skip
NUMBERS: dict[str, Polarity] = {"0": "NEG", "1": "NEU", "2": "POS"}  # of the .tsv files of the TomBERT release
SIGNED_NUMBERS: dict[str, Polarity] = {"-1": "NEG", "0": "NEU", "1": "POS"}  # of its four-line files
_CONFLICT = ("conflict", "con", "mixed")
_BEGIN, _INSIDE, _END, _SINGLE, _TARGET = "BIEST"
_PREFIXES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "T": "T"}  # BIOES, BMES, BILOU, T-
_FORM = TypeAdapter(dict[str, Literal["POS", "NEU", "NEG", "drop"]])


class UnknownLabel(ValueError):
    """A label or tag that stands for no polarity; its text is the reason, and says how to map it."""


@dataclass(frozen=True)
class Labels:
    """What labels mean beyond the usual spellings. `mapping`: label -> POS, NEU, NEG, or drop for one to leave out.

    `drop_conflict` leaves out what is labelled as both positive and negative.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    drop_conflict: bool = False
    notes: list[str] = field(default_factory=list, compare=False)  # what was taken for granted, each said once

    @classmethod
    def read(cls, file: Path | None, drop_conflict: bool) -> Labels:
        """From a JSON file {"their label": "POS"}, where there is one; DataError where it is not of that form."""
        mapping = {} if file is None else read_json(file, _FORM)
        return cls({label.strip().casefold(): value for label, value in mapping.items()}, drop_conflict)

    def polarity(self, label: str, numbers: Mapping[str, Polarity]) -> Polarity | Dropped:
        """Of a label, whatever its case; `numbers` is what numbers mean in the form it is from. UnknownLabel."""
        folded = label.strip().casefold()
        if folded in self.mapping:
            value = self.mapping[folded]
            return "dropped" if value == "drop" else value  # type: ignore[return-value]
        known = _SPELLINGS | dict(numbers)
        if folded in known:
            if folded in numbers:
                self._note(numbers)
            return known[folded]
        if folded in _CONFLICT:
            if self.drop_conflict:
                return "dropped"
            raise UnknownLabel(
                f"label {label!r} is no polarity; --drop-conflict leaves such aspects out, --labels FILE maps them"
            )
        numbered = "".join(f", {number} = {polarity}" for number, polarity in numbers.items())
        known_ones = f"POS, NEU and NEG, positive, neutral and negative in any case{numbered}"
        example = json.dumps({label: "POS"})
        raise UnknownLabel(f"unknown label {label!r}; known are {known_ones}; --labels FILE maps others, as {example}")

    def _note(self, numbers: Mapping[str, Polarity]) -> None:
        said = ", ".join(f"{number} = {polarity}" for number, polarity in numbers.items())
        note = f"labels are numbers: {said}, as in the TomBERT release"
        if note not in self.notes:
            self.notes.append(note)


def spans_of_tags(tags: Sequence[str], labels: Labels) -> tuple[list[Aspect], int]:
    """The aspects of a tweet's tags, and how many were dropped.

    Tags are O, or a prefix and a polarity in either order: B-POS, I-Positive, POS-B. Prefixes are those of BIO and of
    BIOES and its kin; T-POS marks each word of a target. UnknownLabel for any other tag, and for one that continues
    nothing.
    """
    spans: list[tuple[int, int, str, Polarity | Dropped]] = []  # start, end, label as written, what it means
    is_open = False
    for position, tag in enumerate(tags):
        if tag.strip() in ("O", "o"):
            is_open = False
            continue
        prefix, label = _parts(tag)
        continues = is_open and spans[-1][2] == label.casefold()
        if prefix in (_BEGIN, _SINGLE) or (prefix == _TARGET and not continues):
            spans.append((position, position + 1, label.casefold(), labels.polarity(label, {})))
        elif continues:
            spans[-1] = (spans[-1][0], position + 1, *spans[-1][2:])
        else:
            raise UnknownLabel(f"{tag} at word {position} continues no {label} span")
        is_open = prefix not in (_END, _SINGLE)
    aspects = [Aspect(start, end, polarity) for start, end, _, polarity in spans if polarity != "dropped"]
    return aspects, len(spans) - len(aspects)


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and label of a tag, which may stand in either order."""
    first, separator, second = tag.strip().replace("_", "-", 1).partition("-")
    for prefix, label in ((first, second), (second, first)):
        if separator and label and prefix.upper() in _PREFIXES:
            return _PREFIXES[prefix.upper()], label
    raise UnknownLabel(f"unknown tag {tag!r}; known are O, and as B-POS: B, I, E, S or T with POS, NEU or NEG")
