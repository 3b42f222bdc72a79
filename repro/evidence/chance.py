"""What is to be expected on generated tweets of a system that sees nothing in the image.

`synthetic` is the generated data's part of a config, as a record has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

from clamp.data.schema import POLARITIES
from clamp.data.synthetic import MAX_ASPECTS


def words_alone(image_told_share: float) -> float:
    """F1 (0 to 1) of who finds every span by the words and guesses one in three where only the image tells."""
    return 1 - 2 / 3 * image_told_share


def without_badges(image_told_share: float, distractors: int) -> float:
    """F1 (0 to 1), where two looks are needed, of who reads the words and every mouth but no badge.

    All that is left is the mouth that most of the other figures have.
    """
    counts = range(1, MAX_ASPECTS + 1)  # of aspects, all as likely
    right = sum(count * _most_frequent(count - 1 + distractors) for count in counts) / sum(counts)
    return 1 - image_told_share * (1 - right)


def _most_frequent(mouths: int) -> float:
    """The share, expected, of the most frequent of three polarities in so many independent mouths."""
    splits = [(a, b, mouths - a - b) for a in range(mouths + 1) for b in range(mouths - a + 1)]
    ways = sum(comb(mouths, a) * comb(mouths - a, b) * max(a, b, c) for a, b, c in splits)
    return float(ways / mouths / len(POLARITIES) ** mouths)


def pointing(synthetic: Mapping[str, Any]) -> float:
    """Share (0 to 1) of aspects whose cell a region picked at random lies in."""
    return float(1 / synthetic["cells"] ** 2)


def distractor_mass(synthetic: Mapping[str, Any]) -> float:
    """Share (0 to 1) of the attention on distractors' cells where it is spread evenly over the image."""
    return float(synthetic["distractors"] / synthetic["cells"] ** 2)
