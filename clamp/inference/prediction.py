"""What was found in a tweet: its aspects, how sure the model is, and where in the image it looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clamp.data.schema import POLARITIES, Polarity

_NAMES: dict[Polarity, str] = {"POS": "positive", "NEU": "neutral", "NEG": "negative"}
_DIGITS = 6  # of a probability, a weight or a place in the image, when written out


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the image and the share of an aspect's attention that it received, from 0 to 1.

    `row` and `column` count from the upper left, from 0, on the grid that the model's last stage reads; left, top,
    right and bottom are fractions of the image's width and height. For a model that reads words in place of the image,
    `row` is 0, `column` counts sub-words (or pairs of them), and `text` says which.
    """

    row: int
    column: int
    left: float
    top: float
    right: float
    bottom: float
    weight: float
    text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        box = (self.left, self.top, self.right, self.bottom, self.weight)
        left, top, right, bottom, weight = (round(value, _DIGITS) for value in box)
        place = {"left": left, "top": top, "right": right, "bottom": bottom}
        return {"row": self.row, "column": self.column, **place, "weight": weight, "text": self.text}

    def __str__(self) -> str:
        share = f"{100 * self.weight:.0f} %"
        if self.text is not None:
            return f"{self.text!r} {share}"
        across, down = (f"{100 * a:.0f}-{100 * b:.0f} %" for a, b in ((self.left, self.right), (self.top, self.bottom)))
        return f"row {self.row + 1}, column {self.column + 1} ({across} from left, {down} from top) {share}"


@dataclass(frozen=True, slots=True)
class FoundAspect:
    """words[start:end], the polarity towards it, and the probability of each polarity, given the span.

    `start_char` and `end_char` are there where the tweet was given as text; `regions` where they were asked for, those
    with the largest weights first, and none where the tweet has no image.
    """

    start: int
    end: int
    text: str
    polarity: Polarity
    probabilities: tuple[float, float, float]  # in the order of POLARITIES
    start_char: int | None = None
    end_char: int | None = None
    regions: tuple[Region, ...] | None = None

    @property
    def probability(self) -> float:
        """That of the polarity found."""
        return self.probabilities[POLARITIES.index(self.polarity)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = {
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "polarity": self.polarity,
            "probability": round(self.probability, _DIGITS),
            "probabilities": {
                name: round(value, _DIGITS) for name, value in zip(POLARITIES, self.probabilities, strict=True)
            },
        }
        if self.start_char is not None:
            found |= {"start_char": self.start_char, "end_char": self.end_char}
        if self.regions is not None:
            found["regions"] = [region.to_dict() for region in self.regions]
        return found

    def __str__(self) -> str:
        lines = [f"{self.text}: {_NAMES[self.polarity]} ({100 * self.probability:.0f} %)"]
        return "\n".join([*lines, *(f"  looks at {region}" for region in self.regions or ())])


@dataclass(frozen=True, slots=True)
class Prediction:
    """A tweet's words and the aspects found among the first `words_read` of them: the model reads no more.

    `image` is what became of its image: read, truncated (read, though it lacked its end), absent, unread and why, none
    (it has none), or not used (the model reads no images).
    """

    id: str
    words: tuple[str, ...]
    words_read: int
    aspects: tuple[FoundAspect, ...]
    image: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        aspects = [aspect.to_dict() for aspect in self.aspects]
        head = {"id": self.id, "words": list(self.words), "words_read": self.words_read}
        return {**head, "aspects": aspects, "image": self.image}

    def __str__(self) -> str:
        lines = [str(aspect) for aspect in self.aspects] or ["no aspect found"]
        if self.words_read < len(self.words):
            lines.append(f"(only the first {self.words_read} of {len(self.words)} words were read)")
        if self.image not in ("read", "none"):
            lines.append(f"(image: {self.image})")
        return "\n".join(lines)
