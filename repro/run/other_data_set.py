"""The other of the two real data sets, as test tweets for a system that was trained on the one: domain shift."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from clamp.config import DataConfig
from clamp.data import DataError, Tweet, load_twitter

OTHER_DATA_SET = "other_data_set"  # what evaluations call this condition
_OTHER = {"twitter2015": "twitter2017", "twitter2017": "twitter2015"}
_FIELDS_OF_ONE = {"description"}  # of a visual proxy


def other_data_set(data: DataConfig) -> str | None:
    """Its name, where there is one."""
    return _OTHER.get(data.name)


def other_tweets(data: DataConfig, root: Path | None) -> list[Tweet] | None:
    """Its test split under `root`, with what `data` reads of an image.

    None where it lacks annotations, or what the system reads of an image.
    """
    other = other_data_set(data)
    if other is None or root is None:
        return None
    fields = ("caption", "faces") if _FIELDS_OF_ONE.intersection(data.proxy_fields) else data.proxy_fields
    try:
        tweets = load_twitter(root / other, "test", visual=data.visual, proxy_fields=fields)
    except DataError:
        return None
    unseen = data.visual == "image" and all(tweet.image is None for tweet in tweets)
    return None if unseen else tweets


@cache  # reads every tweet and image of it
def is_there_another(data: DataConfig, root: Path | None) -> bool:
    """Whether there are such tweets."""
    return other_tweets(data, root) is not None
