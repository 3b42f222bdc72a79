"""Counterfactual images: generated test tweets of which a figure's mouth or badge, or all distractors', is another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clamp.config import SyntheticConfig
from clamp.data import SPLITS, Tweet, generate_synthetic
from clamp.data.schema import Polarity
from clamp.data.synthetic import IMAGE_SIZE, Redraw


@dataclass(frozen=True)
class Redrawn:
    """Tweet number `of` with its image redrawn for its aspect number `aspect`, or the mouths of all distractors (None).

    `shows` is the polarity that the image tells of the aspect now: with one look the aspect's own mouth. Words and
    annotation are as they were.
    """

    of: int
    tweet: Tweet
    aspect: int | None = None
    shows: Polarity | None = None


TwoLookKind = Literal["named_mouth", "badge", "own_mouth"]


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


def redrawn_two_looks(config: SyntheticConfig, count: int) -> tuple[list[Tweet], dict[TwoLookKind, list[Redrawn]]]:
    """The first `count` tweets of the test split, and for each aspect that the image tells up to three counterfactuals.

    "named_mouth": the figure that the aspect's own one names has another mouth. "badge": the aspect's figure names
    another figure, one with another mouth, or else there is none. "own_mouth": the aspect's figure itself has another
    mouth, which tells nothing of it. All else is as it was, the other figures' badges too.
    """
    tweets = first_test_tweets(config, count)
    mouths, badges = (_generated(config, count, config.image_told_share, redraw) for redraw in ("mouths", "badges"))
    changed: dict[TwoLookKind, list[Redrawn]] = {"named_mouth": [], "badge": [], "own_mouth": []}
    for number, (tweet, with_mouths, with_badges) in enumerate(zip(tweets, mouths, badges, strict=True)):
        for position, aspect in enumerate(tweet.aspects):
            if aspect.told_by != "image":
                continue
            assert aspect.region is not None
            assert aspect.second_region is not None
            new_mouth, new_badge = (donor.aspects[position].polarity for donor in (with_mouths, with_badges))
            of_named = _with_cells(tweet, [aspect.second_region], with_mouths)
            changed["named_mouth"].append(Redrawn(number, of_named, position, new_mouth))
            of_own = _with_cells(tweet, [aspect.region], with_mouths)
            changed["own_mouth"].append(Redrawn(number, of_own, position, aspect.polarity))
            if new_badge != aspect.polarity:
                of_badge = _with_cells(tweet, [aspect.region], with_badges)
                changed["badge"].append(Redrawn(number, of_badge, position, new_badge))
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
        noise=config.noise, looks=config.looks, redraw=redraw, id_prefix="test-",
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
