"""From a data config to its train, dev and test tweets, and to a manifest that says which bytes they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from clamp.config import ConfigError, DataConfig, SyntheticConfig
from clamp.data.labels import Labels
from clamp.data.schema import Tweet
from clamp.data.synthetic import generate_synthetic
from clamp.data.twitter import SPLITS, LoadedSplit, Visual, has_split, load_split, twitter_manifest, warn_of_images


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of a data set, and the sha256 of what they were made from, by name."""

    train: list[Tweet]
    dev: list[Tweet]
    test: list[Tweet]  # empty where data of one's own have none
    manifest: dict[str, str]
    loaded: dict[str, LoadedSplit] = field(default_factory=dict)  # of files: what became of each split's images


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
            looks=config.looks,
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


def _splits_of(data: DataConfig, folder: Path) -> list[str]:
    """Data of one's own need no test tweets."""
    return [split for split in SPLITS if split != "test" or data.name != "own" or has_split(folder, split)]


def data_manifest(data: DataConfig, root: Path | None, labels: Labels | None = None) -> dict[str, str]:
    """The manifest of `load_splits` without its tweets; of generated data once per process and config."""
    if data.name == "synthetic":
        return dict(_cached_synthetic_manifest(data.synthetic))
    folder = _folder(data, root)
    manifest = twitter_manifest(folder, visual=data.visual, splits=_splits_of(data, folder), labels=labels)
    if labels is not None and labels != Labels():
        manifest["labels"] = hashlib.sha256(
            repr((sorted(labels.mapping.items()), labels.drop_conflict)).encode()
        ).hexdigest()
    return manifest


def load_splits(data: DataConfig, root: Path | None, labels: Labels | None = None) -> Splits:
    """The tweets of a data set.

    `root` holds twitter2015/ and twitter2017/, and their images in <name>_images/ or images/; data of one's own lie in
    `root` itself, and generated data need none. `labels` says what unusual labels mean. ConfigError where the folder is
    missing from the call, DataError where its files are unsound.
    """
    if data.name != "synthetic":
        folder = _folder(data, root)
        loaded = {
            split: load_split(folder, split, visual=data.visual, proxy_fields=data.proxy_fields, labels=labels)
            for split in _splits_of(data, folder)
        }
        tweets = {split: loaded[split].tweets if split in loaded else [] for split in SPLITS}
        for split, part in loaded.items():
            warn_of_images(folder, split, part)
        manifest = data_manifest(data, root, labels)
        return Splits(tweets["train"], tweets["dev"], tweets["test"], manifest, loaded)

    tweets = _synthetic(data.synthetic)
    manifest = _synthetic_manifest(tweets)
    kept = {split: [_only(tweet, data.visual) for tweet in part] for split, part in tweets.items()}
    return Splits(kept["train"], kept["dev"], kept["test"], manifest)
