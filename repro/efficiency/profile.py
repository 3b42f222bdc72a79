"""The systems of the profile `synthetic`: their latency, to be set beside the F1 and the FLOPs of their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from clamp.baselines import ARCHITECTURES
from clamp.data import load_splits
from clamp.data.collate import Batch, EncodedTweets
from clamp.model import Tagger
from repro.efficiency.names import PROFILE
from repro.plan.profiles import plan


def made(names: Sequence[str], tweets: int, device: torch.device) -> dict[str, tuple[Tagger, Batch]]:
    """Each variant as the profile trains it, untrained, and a batch of generated tweets as it reads them."""
    found = {}
    for run in plan(PROFILE, only=names, datasets=[], seeds=1):
        data = replace(run.config.data, synthetic=replace(run.config.data.synthetic, train=1, dev=1, test=tweets))
        model = ARCHITECTURES[run.config.model.architecture](run.config.model).to(device).eval()
        read = EncodedTweets(load_splits(data, None).test, model.tokenizer, model.config)
        found[run.variant] = (model, read.batch(range(tweets)).to(device))
    return found
