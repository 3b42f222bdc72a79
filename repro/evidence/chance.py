"""What is to be expected on generated tweets of a system that sees nothing in the image.

`synthetic` is the generated data's part of a config, as a record has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words_alone(image_told_share: float) -> float:
    """F1 (0 to 1) of who finds every span by the words and guesses one in three where only the image tells."""
    return 1 - 2 / 3 * image_told_share


def pointing(synthetic: Mapping[str, Any]) -> float:
    """Share (0 to 1) of aspects whose cell a region picked at random lies in."""
    return float(1 / synthetic["cells"] ** 2)


def distractor_mass(synthetic: Mapping[str, Any]) -> float:
    """Share (0 to 1) of the attention on distractors' cells where it is spread evenly over the image."""
    return float(synthetic["distractors"] / synthetic["cells"] ** 2)
