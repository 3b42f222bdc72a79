"""Counterfactual images: generated test tweets of which one figure's mouth, or all distractors', is another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clamp.config import SyntheticConfig
from clamp.data import SPLITS, Tweet, generate_synthetic
from clamp.data.schema import Polarity
from clamp.data.synthetic import IMAGE_SIZE


@dataclass(frozen=True)
class Redrawn:
    """Tweet number `of` with its image redrawn: the mouth of its aspect number `aspect`, or all distractors' (None).

    `shows` is the polarity of the aspect's mouth now. Words and annotation are as they were.
    """

    of: int
    tweet: Tweet
    aspect: int | None = None
    shows: Polarity | None = None


def redrawn_tweets(config: SyntheticConfig, count: int) -> tuple[list[Tweet], list[Redrawn]]:
    """The first `count` tweets of the test split, and their counterfactuals: one an aspect, and one for distractors.

    Every mouth shows another polarity than before: where it can be chosen, one that the annotation does not name
    either.
    """
    tweets = first_test_tweets(config, count)
    # told by the image, an aspect's mouth shows its polarity, whoever told it before: the rest of the scene is the same
    as_annotated = _generated(config, count, 1.0)
    otherwise = _generated(config, count, 1.0, "mentioned")
    distracting = _generated(config, count, config.image_told_share, "distractors")
    changed: list[Redrawn] = []
    for number, tweet in enumerate(tweets):
        changed += _aspects_redrawn(number, tweet, [otherwise[number], as_annotated[number]])
        if tweet.distractors:
            changed.append(Redrawn(number, replace(tweet, image=distracting[number].image)))
    return tweets, changed


def first_test_tweets(config: SyntheticConfig, count: int) -> list[Tweet]:
    """The first tweets of the test split, without generating what comes after them; with their images."""
    return _generated(config, count, config.image_told_share)


def _generated(
    config: SyntheticConfig,
    count: int,
    image_told_share: float,
    redraw: Literal["nothing", "mentioned", "distractors"] = "nothing",
) -> list[Tweet]:
    stream = np.random.SeedSequence(config.seed).spawn(len(SPLITS))[SPLITS.index("test")]
    tweets = generate_synthetic(
        count, stream, image_told_share=image_told_share, distractors=config.distractors, cells=config.cells,
        noise=config.noise, redraw=redraw, id_prefix="test-",
    )  # fmt: skip
    return [replace(tweet, proxy=None) for tweet in tweets]


def _aspects_redrawn(number: int, tweet: Tweet, donors: list[Tweet]) -> Iterator[Redrawn]:
    """One for each aspect: its cell alone from the first donor where that cell is not what it was."""
    for position, aspect in enumerate(tweet.aspects):
        assert aspect.region is not None
        row, column = divmod(aspect.region, tweet.cells)
        side = IMAGE_SIZE // tweet.cells
        cell = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for donor in donors:
            assert isinstance(tweet.image, np.ndarray)
            assert isinstance(donor.image, np.ndarray)
            if not np.array_equal(donor.image[cell], tweet.image[cell]):
                image = tweet.image.copy()
                image[cell] = donor.image[cell]
                shows = donor.aspects[position].polarity
                yield Redrawn(number, replace(tweet, image=image), position, shows)
                break
