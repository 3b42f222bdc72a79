"""What test tweets are changed to, or exchanged for, to see how far a trained system falls.

Robustness: the same tweets with less or other than their image, or with letters missing. Shift: other tweets than
training saw. Every change depends on the tweet's position and a fixed seed alone, so that all systems and seeds see
the same tweets; aspects and their polarities stay as annotated. Where an image is taken away or exchanged, an aspect
whose polarity only the image tells can no longer be read: the fall is what the image was worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from clamp.config import Config
from clamp.data import Tweet, generate_synthetic
from clamp.data.images import read_image
from clamp.data.synthetic import UNSEEN_CLAUSES
from repro.run.other_data_set import OTHER_DATA_SET, other_data_set, other_tweets

OTHERS_IMAGE = "other_image"  # the condition that tells whether the image is used at all
Group = Literal["robustness", "shift"]
Change = Callable[[list[Tweet], Config], list[Tweet]]

_SEED = 20250721
_BLUR_PIXELS = (1, 2, 4)  # standard deviation, for an image 64 pixels wide; wider images in proportion
_NOISE_LEVELS = (16, 32, 64)  # standard deviation, in grey levels of 255, added to what the image has
_WORDS_LOST = (0.25, 0.5, 0.75)  # of a description that stands for the image
_LETTERS_LOST = (0.05, 0.1, 0.2)
_DISTRACTORS = (4, 8)
_REFERENCE_WIDTH = 64


@dataclass(frozen=True)
class Condition:
    """One change of the test tweets: what tables call it, and what makes it of (test tweets, config)."""

    group: Group
    label: str
    change: Change


def conditions(config: Config, root: Path | None) -> dict[str, Condition]:
    """Every condition that a system trained with this config is tested under, by name.

    `root` is the folder of the real data sets; where the other one is missing, or half of it, there is no test on it.
    """
    found = {f"letters_{share}": Condition("robustness", f"{share:.0%} of letters lost", _without_letters(share))
             for share in _LETTERS_LOST}  # fmt: skip
    if config.data.visual != "none":
        found = _visual_conditions(config) | found
    if root is None or config.data.name == "synthetic":
        return found | _synthetic_shifts()
    tweets = other_tweets(config.data, root)
    if tweets is None:
        return found
    label = f"test split of {other_data_set(config.data)}"
    return found | {OTHER_DATA_SET: Condition("shift", label, lambda *_: tweets)}


def _visual_conditions(config: Config) -> dict[str, Condition]:
    what = "image" if config.data.visual == "image" else "description"
    found = {
        "no_image": Condition("robustness", f"no {what}", lambda tweets, *_: [_without_image(t) for t in tweets]),
        OTHERS_IMAGE: Condition("robustness", f"the {what} of another tweet", lambda tweets, *_: exchanged(tweets)),
    }
    if config.data.visual == "proxy":
        for share in _WORDS_LOST:
            found[f"words_{share}"] = Condition(
                "robustness", f"{share:.0%} of the description lost", _without_proxy_words(share)
            )
        return found
    for radius in _BLUR_PIXELS:
        found[f"blur_{radius}"] = Condition("robustness", f"blur, sd {radius} px in 64", _with_pixels(_blurred(radius)))
    for level in _NOISE_LEVELS:
        found[f"noise_{level}"] = Condition("robustness", f"noise, sd {level} of 255", _with_pixels(_noised(level)))
    return found


def _synthetic_shifts() -> dict[str, Condition]:
    found = {
        "unseen_clauses": Condition("shift", "unseen clauses", _generated(clauses=UNSEEN_CLAUSES)),
        "unseen_looks": Condition("shift", "unseen looks", _generated(look="unseen")),
    }
    for number in _DISTRACTORS:
        found[f"distractors_{number}"] = Condition("shift", f"{number} distractors", _generated(distractors=number))
    return found


def _generated(**changes: object) -> Change:
    """As many fresh tweets as there were, with some settings of the generator changed."""

    def generate(tweets: list[Tweet], config: Config) -> list[Tweet]:
        synthetic = config.data.synthetic
        settings = {
            "image_told_share": synthetic.image_told_share, "distractors": synthetic.distractors,
            "cells": synthetic.cells, "noise": synthetic.noise, **changes,
        }  # fmt: skip
        made = generate_synthetic(len(tweets), _SEED, id_prefix="shift-", **settings)  # type: ignore[arg-type]
        return made if config.data.visual == "image" else [replace(tweet, image=None) for tweet in made]

    return generate


def _without_image(tweet: Tweet) -> Tweet:
    return replace(tweet, image=None, proxy=None)


def exchanged(tweets: Sequence[Tweet]) -> list[Tweet]:
    """Every tweet that has an image or a description with those of another such tweet."""
    having = [k for k, tweet in enumerate(tweets) if tweet.image is not None or tweet.proxy is not None]
    order = np.random.default_rng(_SEED).permutation(having).tolist()
    giver = dict(zip(order, order[1:] + order[:1], strict=True))  # one cycle: nobody keeps its own
    return [
        replace(tweet, image=tweets[giver[k]].image, proxy=tweets[giver[k]].proxy) if k in giver else tweet
        for k, tweet in enumerate(tweets)
    ]


def _per_tweet(change: Callable[[Tweet, np.random.Generator], Tweet]) -> Change:
    """The same change of every tweet, with random numbers of its own."""
    return lambda tweets, *_: [change(t, np.random.default_rng((_SEED, k))) for k, t in enumerate(tweets)]


def _with_pixels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """Of images at the model's own size: what is done to a larger one would be averaged away on the way there."""

    def changed(tweets: list[Tweet], config: Config) -> list[Tweet]:
        def one(tweet: Tweet, rng: np.random.Generator) -> Tweet:
            if tweet.image is None:
                return tweet
            return replace(tweet, image=change(_as_seen(tweet.image, config.model.vision.image_size), rng))

        return _per_tweet(one)(tweets, config)

    return changed


def _as_seen(image: Path | np.ndarray, side: int) -> np.ndarray:
    """The pixels as `clamp.data.collate` makes them, (side, side, 3) uint8."""
    pixels = read_image(image) if isinstance(image, Path) else image
    if pixels.shape[:2] == (side, side):
        return pixels
    return np.array(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


def _blurred(radius: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def blur(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
        wide = radius * pixels.shape[1] / _REFERENCE_WIDTH
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(wide)))

    return blur


def _noised(level: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noisy = pixels + np.float32(level) * rng.standard_normal(pixels.shape, dtype=np.float32)
        return np.asarray(np.clip(np.rint(noisy), 0, 255), dtype=np.uint8)

    return noise


def _without_proxy_words(share: float) -> Change:
    def changed(tweet: Tweet, rng: np.random.Generator) -> Tweet:
        sentences = [sentence.split() for sentence in tweet.proxy or ()]
        if not any(sentences):
            return tweet
        kept = [[word for word in words if rng.random() >= share] for words in sentences]
        left = tuple(" ".join(words) for words in kept if words)
        return replace(tweet, proxy=left or (next(words[0] for words in sentences if words),))

    return _per_tweet(changed)


def _without_letters(share: float) -> Change:
    def changed(tweet: Tweet, rng: np.random.Generator) -> Tweet:
        return replace(tweet, words=tuple(_thinned(word, share, rng) for word in tweet.words))

    return _per_tweet(changed)


def _thinned(word: str, share: float, rng: np.random.Generator) -> str:
    kept = [letter for letter, draw in zip(word, rng.random(len(word)), strict=True) if draw >= share]
    return "".join(kept) or word[0]  # never empty: positions of words are what aspects are given in
