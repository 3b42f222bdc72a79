"""Tweets with aspects and images: generated ones, and readers for Twitter-2015 and Twitter-2017."""

from clamp.data.images import read_image
from clamp.data.schema import POLARITIES, Aspect, DataError, Polarity, Tweet
from clamp.data.splits import Splits, data_manifest, load_splits
from clamp.data.synthetic import VOCABULARY, generate_synthetic
from clamp.data.twitter import ANNOTATION_SHA256, SPLITS, load_twitter

__all__ = [
    "ANNOTATION_SHA256",
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
    "load_twitter",
    "read_image",
]
