"""From a data config to its train, dev and test tweets, and to a manifest that says which bytes they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from clamp.config import ConfigError, DataConfig, SyntheticConfig
from clamp.data.schema import Tweet
from clamp.data.synthetic import generate_synthetic
from clamp.data.twitter import SPLITS, Visual, load_twitter, twitter_manifest


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of a data set, and the sha256 of what they were made from, by name."""

    train: list[Tweet]
    dev: list[Tweet]
    test: list[Tweet]
    manifest: dict[str, str]


def _synthetic(config: SyntheticConfig) -> dict[str, list[Tweet]]:
    seeds = np.random.SeedSequence(config.seed).spawn(len(SPLITS))  # disjoint streams: no split repeats another
    sizes = (config.train, config.dev, config.test)
    return {
        split: generate_synthetic(
            size,
            seed,
            image_told_share=config.image_told_share,
            distractors=config.distractors,
            cells=config.cells,
            noise=config.noise,
            id_prefix=f"{split}-",
        )
        for split, size, seed in zip(SPLITS, sizes, seeds, strict=True)
    }


def _digest(tweets: Iterable[Tweet]) -> str:
    """sha256 of all that a generated tweet holds: words, aspects, distractors, caption and pixels."""
    digest = hashlib.sha256()
    for tweet in tweets:
        digest.update(repr(replace(tweet, image=None)).encode())
        digest.update(np.ascontiguousarray(tweet.image).tobytes())
    return digest.hexdigest()


def _synthetic_manifest(splits: dict[str, list[Tweet]]) -> dict[str, str]:
    return {f"synthetic/{split}": _digest(tweets) for split, tweets in splits.items()}


@lru_cache(maxsize=8)
def _cached_synthetic_manifest(config: SyntheticConfig) -> dict[str, str]:
    return _synthetic_manifest(_synthetic(config))


def _folder(data: DataConfig, root: Path | None) -> Path:
    if root is None:
        raise ConfigError(f"data: {data.name} needs a data folder")
    return root if data.name == "own" else root / data.name


def _only(tweet: Tweet, visual: Visual) -> Tweet:
    """The tweet with no more of its image than `visual` asks for."""
    image = tweet.image if visual == "image" else None
    return replace(tweet, image=image, proxy=tweet.proxy if visual == "proxy" else None)


def data_manifest(data: DataConfig, root: Path | None) -> dict[str, str]:
    """The manifest of `load_splits` without its tweets; of generated data once per process and config."""
    if data.name == "synthetic":
        return dict(_cached_synthetic_manifest(data.synthetic))
    return twitter_manifest(_folder(data, root), visual=data.visual)


def load_splits(data: DataConfig, root: Path | None) -> Splits:
    """The tweets of a data set.

    `root` holds twitter2015/ and twitter2017/, and their images in <name>_images/ or images/; data of one's own lie in
    `root` itself, and generated data need none. ConfigError where the folder is missing from the call, DataError where
    its files are unsound.
    """
    if data.name != "synthetic":
        folder = _folder(data, root)
        tweets = {
            split: load_twitter(folder, split, visual=data.visual, proxy_fields=data.proxy_fields) for split in SPLITS
        }
        return Splits(**tweets, manifest=data_manifest(data, root))

    tweets = _synthetic(data.synthetic)
    manifest = _synthetic_manifest(tweets)
    kept = {split: [_only(tweet, data.visual) for tweet in part] for split, part in tweets.items()}
    return Splits(**kept, manifest=manifest)
