"""Tweets with aspects and images: generated ones, and readers for Twitter-2015 and Twitter-2017."""

from clamp.data.schema import POLARITIES, Aspect, DataError, Polarity, Tweet
from clamp.data.splits import SPLITS, Splits, data_manifest, load_splits
from clamp.data.synthetic import VOCABULARY, generate_synthetic

__all__ = [
    "POLARITIES",
    "SPLITS",
    "VOCABULARY",
    "Aspect",
    "DataError",
    "Polarity",
    "Splits",
    "Tweet",
    "data_manifest",
    "generate_synthetic",
    "load_splits",
]
