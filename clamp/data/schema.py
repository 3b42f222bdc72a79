"""What a tweet is: words, aspects with their polarity, and what can be seen of its image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Polarity = Literal["POS", "NEU", "NEG"]
POLARITIES: tuple[Polarity, ...] = ("POS", "NEU", "NEG")


class DataError(ValueError):
    """A record that cannot be used; its text names the file, the record and the reason in one line."""

    def __init__(self, file: str | Path, record: str | int | None, reason: str) -> None:
        where = f"{file}" if record is None else f"{file}: record {record}"
        super().__init__(f"{where}: {reason}")


@dataclass(frozen=True, slots=True)
class Aspect:
    """An aspect term: words[start:end], and the polarity expressed towards it.

    `region` and `told_by` are known for generated tweets only: the image cell (row-major) that shows the entity, and
    whether the words or the image tell the polarity. `second_region` is the cell of the figure that the entity's badge
    names, in tweets that need two looks: there its mouth tells what the image tells.
    """

    start: int
    end: int
    polarity: Polarity
    region: int | None = None
    told_by: Literal["text", "image"] | None = None
    second_region: int | None = None


@dataclass(frozen=True, slots=True)
class Tweet:
    """One tweet. `image` is pixels (H, W, 3) uint8, a readable file, or None where there is no usable image.

    `proxy` is what independent tools said of the image, sentence by sentence; `distractors` are the cells of entities
    that the tweet does not mention and whose mouth tells none of its aspects, of an image of `cells` x `cells`
    (generated tweets only).
    """

    id: str
    words: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    image: np.ndarray | Path | None = None
    proxy: tuple[str, ...] | None = None
    distractors: tuple[int, ...] = ()
    cells: int = 0

    @property
    def proxy_text(self) -> str:
        """The proxy as one text, a sentence a line; empty where there is none."""
        return "\n".join(self.proxy or ())
