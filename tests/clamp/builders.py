"""Models of a few thousand parameters, and tweets and batches for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from clamp.baselines import ARCHITECTURES
from clamp.config import Config, ModelConfig, config_from_dict, override
from clamp.data import Aspect, Splits, Tweet, generate_synthetic
from clamp.data.collate import Batch, EncodedTweets
from clamp.model import Tagger

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}


def tiny_config(**changes: Any) -> Config:
    """Width 16, one BERT layer, 8 x 8 patches; `model__dropout=0.0` sets model.dropout.

    Without the identity start, so that whatever a stage does shows in what an untrained model says.
    """
    config = config_from_dict(
        {
            "data": {"synthetic": {"train": 24, "dev": 8, "test": 8}},
            "model": {
                "text": {"architecture": BERT, "max_tokens": 64},
                "vision": {"channels": [4, 8]},
                "width": 16,
                "heads": 2,
                "ffn_multiple": 2,
                "identity_start": False,
                "contrast": {"width": 8},
            },
            "train": {"epochs": 2, "batch_size": 8},
        },
        "tiny_config",
    )
    return override(config, {name.replace("__", "."): value for name, value in changes.items()}, "tiny_config")


def tiny_model(config: ModelConfig, seed: int = 0) -> Tagger:
    """A model whose initial parameters depend on `seed` alone, in eval mode."""
    torch.manual_seed(seed)
    return ARCHITECTURES[config.architecture](config).eval()


def tweets(n: int, *, seed: int = 3) -> list[Tweet]:
    """Generated tweets; every image tells something."""
    return generate_synthetic(n, seed, image_told_share=0.5)


def without_images(some: list[Tweet]) -> list[Tweet]:
    return [replace(tweet, image=None, proxy=None) for tweet in some]


def with_proxies(some: list[Tweet]) -> list[Tweet]:
    """A made-up caption in place of every image that there is."""
    return [
        replace(tweet, image=None, proxy=None if tweet.image is None else (f"the {tweet.words[0]} square on my river",))
        for tweet in some
    ]


def one_word_tweets(n: int) -> list[Tweet]:
    image = np.full((64, 64, 3), 90, dtype=np.uint8)
    return [Tweet(f"one-{k}", ("lovely",), (Aspect(0, 1, "POS"),), image=image + k) for k in range(n)]


def batch_of(model: Tagger, some: list[Tweet]) -> Batch:
    """All of them in one batch, in their order."""
    return EncodedTweets(some, model.tokenizer, model.config).batch(range(len(some)))


def tiny_splits(config: Config) -> Splits:
    sizes = config.data.synthetic
    parts = [
        generate_synthetic(n, seed, id_prefix=f"{name}-")
        for seed, (name, n) in enumerate((("train", sizes.train), ("dev", sizes.dev), ("test", sizes.test)))
    ]
    return Splits(*parts, manifest={})


def gradients(model: Tagger, batch: Batch) -> dict[str, torch.Tensor | None]:
    """Of the total loss, by parameter; None where the loss does not depend on it."""
    model.zero_grad(set_to_none=True)
    model.total(model.losses(model(batch), batch)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}
