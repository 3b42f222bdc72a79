"""Counterfactual images: generated test tweets of which one figure's mouth, or all distractors', is another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from clamp.config import SyntheticConfig
from clamp.data import SPLITS, Tweet, generate_synthetic
from clamp.data.schema import Polarity
from clamp.data.synthetic import IMAGE_SIZE, Redraw


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
    otherwise = _generated(config, count, 1.0, "mouths")
    changed: list[Redrawn] = []
    for number, tweet in enumerate(tweets):
        changed += _aspects_redrawn(number, tweet, [otherwise[number], as_annotated[number]])
        if tweet.distractors:
            changed.append(Redrawn(number, _with_cells(tweet, tweet.distractors, otherwise[number])))
    return tweets, changed


def first_test_tweets(config: SyntheticConfig, count: int) -> list[Tweet]:
    """The first tweets of the test split, without generating what comes after them; with their images."""
    return _generated(config, count, config.image_told_share)


def _generated(
    config: SyntheticConfig,
    count: int,
    image_told_share: float,
    redraw: Redraw = "nothing",
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
        for donor in donors:
            changed = _with_cells(tweet, [aspect.region], donor)
            if not np.array_equal(_pixels(changed), _pixels(tweet)):
                yield Redrawn(number, changed, position, donor.aspects[position].polarity)
                break


def _with_cells(tweet: Tweet, cells: Iterable[int], donor: Tweet) -> Tweet:
    """The tweet with these cells of its image taken from that of another one."""
    image = _pixels(tweet).copy()
    side = IMAGE_SIZE // tweet.cells
    for cell in cells:
        row, column = divmod(cell, tweet.cells)
        window = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        image[window] = _pixels(donor)[window]
    return replace(tweet, image=image)


def _pixels(tweet: Tweet) -> np.ndarray:
    assert isinstance(tweet.image, np.ndarray)
    return tweet.image
