"""What one rank of a process group trains: the other half of test_distributed.py."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import torch
from builders import BERT, tiny_config, tiny_splits, with_proxies, without_images
from torch import Tensor

import clamp.training.distributed
from clamp.config import Config
from clamp.data import Splits
from clamp.training.distributed import DistributedTrainer, process_group, train_distributed

WORLD = 2
# 25 tweets in batches of 8: the last batch has one for the first rank and none for the second
_UNDROPPED = BERT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_SMALL = {
    "train__epochs": 2,
    "train__seed": 4,
    "model__dropout": 0.0,
    "model__text": {"architecture": _UNDROPPED, "max_tokens": 64},
    "data__synthetic__train": 25,
}
CONFIGS = {
    "clamp": tiny_config(**_SMALL, model__contrast__learn_scale=True),
    "words": tiny_config(**_SMALL, model__contrast__local_contrast="words", model__decoder="crf"),
    "proxy": tiny_config(**_SMALL, model__vision__kind="proxy", data__visual="proxy"),
    "frozen_proxy": tiny_config(
        **_SMALL,
        model__vision={"kind": "proxy", "frozen": True},
        data__visual="proxy",
        model__aggregation__mode="softmax",
    ),
    "no_images": tiny_config(**_SMALL),
    "cmmt": tiny_config(**_SMALL, model__architecture="cmmt"),
    "dtca": tiny_config(**_SMALL, model__architecture="dtca"),
    "text_only": tiny_config(**_SMALL, model__architecture="text_only"),
}
RESUMED = tiny_config(**_SMALL | {"model__dropout": 0.3, "train__epochs": 3})


def splits_of(name: str, config: Config) -> Splits:
    splits = tiny_splits(config)
    if name not in ("proxy", "frozen_proxy", "no_images"):
        return splits
    change = without_images if name == "no_images" else with_proxies
    return Splits(*(change(part) for part in (splits.train, splits.dev, splits.test)), manifest={})


class Killed(Exception):
    pass


def _gradients(name: str, folder: Path) -> dict[str, Tensor]:
    """Of the first eight tweets, by parameter."""
    trainer = DistributedTrainer(CONFIGS[name], splits_of(name, CONFIGS[name]), folder)
    _, total = trainer._losses(trainer.data["train"].batch(range(8)))
    total.backward()
    return {key: p.grad for key, p in trainer.model.named_parameters() if p.grad is not None}


def run(rank: int, port: int, folder: Path) -> None:
    """Train every config, and one run twice: in one go and resumed after its first epoch."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}  # fmt: skip
    assert clamp.training.distributed.is_distributed()
    with process_group():
        for name, config in CONFIGS.items():
            own = folder / f"{name}-{rank}"  # no rank sees another's folder
            torch.save(_gradients(name, own), folder / f"{name}-{rank}.pt")
            result = train_distributed(config, splits_of(name, config), own)
            (folder / f"{name}-{rank}.json").write_text(json.dumps(result))
        splits = tiny_splits(RESUMED)
        train_distributed(RESUMED, splits, folder / f"whole-{rank}")
        trainer = DistributedTrainer(RESUMED, splits, _made(folder / f"resumed-{rank}"))
        with contextlib.suppress(Killed):
            trainer.fit(_stop)
        if rank > 0:
            (folder / f"resumed-{rank}" / "checkpoint.safetensors").unlink()
        train_distributed(RESUMED, splits, folder / f"resumed-{rank}")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _stop(*_: object) -> None:
    raise Killed
