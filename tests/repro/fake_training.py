"""Training functions that stand in for the real one where a test is about the harness, not about learning."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from clamp.config import Config
from clamp.data import Splits, Tweet

OnEpoch = Callable[[int, int, float], None]
EPOCH_SECONDS = 0.03


def train(config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path) -> dict[str, Any]:
    """Counts epochs, a checkpoint each, and resumes from it; its scores are a function of the config alone."""
    checkpoint = folder / "checkpoint.json"
    done = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
    course = folder / "course.txt"  # what was done, for a test to read
    with open(course, "a") as file:
        file.write(f"from {done}:")
    for epoch in range(done + 1, config.train.epochs + 1):
        time.sleep(EPOCH_SECONDS)
        (folder / "checkpoint.tmp").write_text(json.dumps(epoch))
        os.replace(folder / "checkpoint.tmp", checkpoint)
        with open(course, "a") as file:
            file.write(f" {epoch}")
        on_epoch(epoch, config.train.epochs, 0.5)
    return result(config, len(splits.test), torch.get_num_threads())


def train_on_a_node(config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path) -> dict[str, Any]:
    """`train`, in no hurry; adds a line to the file NODE_LOG: node, seed, process and the GPUs that it may see."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    with open(os.environ["NODE_LOG"], "a") as file:
        file.write(json.dumps([os.environ["NODE"], config.train.seed, os.getpid(), gpus]) + "\n")

    def on_slow_epoch(epoch: int, planned: int, dev_f1: float) -> None:
        time.sleep(0.5)
        on_epoch(epoch, planned, dev_f1)

    return train(config, splits, folder, on_slow_epoch, features)


def train_a_model(config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path) -> dict[str, Any]:
    """`train`, with a model for `evaluate`."""
    return _with_a_model(config, folder, train(config, splits, folder, on_epoch, features))


def train_a_model_on_a_node(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path
) -> dict[str, Any]:
    """`train_on_a_node`, with a model for `evaluate`."""
    return _with_a_model(config, folder, train_on_a_node(config, splits, folder, on_epoch, features))


def _with_a_model(config: Config, folder: Path, found: dict[str, Any]) -> dict[str, Any]:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "weights.bin").write_bytes(bytes([config.train.seed]) * 1000)
    return found


def train_for_ever_on_a_node(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path
) -> dict[str, Any]:
    """Tells of itself as `train_on_a_node` does, and never ends."""
    train_on_a_node(config, splits, folder, on_epoch, features)
    while True:
        time.sleep(1)


def evaluate(
    config: Config, model_folder: Path, test: list[Tweet], root: Path | None, features: Path
) -> dict[str, Any]:
    """Its clean scores' count of gold spans is the first byte of the model's file."""
    counts = [0, 0, (model_folder / "weights.bin").read_bytes()[0]]
    clean = {"joint": counts, "mate": counts, "masc_accuracy": 0.0}
    return {"clean": clean, "conditions": {}, "rules": {"joint": {}, "masc": {}}}


def train_but_some_fail(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path
) -> dict[str, Any]:
    """Without the gate it raises; without the focus prior it is killed; else it is `train`."""
    if not config.model.gate:
        raise ValueError("loss is NaN\nat step 7")
    if not config.model.focus:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(config, splits, folder, on_epoch, features)


def train_onto_a_full_disk(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path
) -> dict[str, Any]:
    raise OSError(28, "No space left on device", "checkpoint.safetensors")


def train_onto_a_full_disk_in_rust(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path
) -> dict[str, Any]:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def train_for_ever(config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch, features: Path) -> dict[str, Any]:
    (folder / "pid.txt").write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def result(config: Config, n_test: int = 2, threads: int = 1) -> dict[str, Any]:
    """A whole result, as training returns it; its `parameters` are the threads that it had."""
    tp = 30 + len(config.model.levels) + config.train.seed
    f1 = 2 * tp / 100
    counts = {"precision": f1, "recall": f1, "f1": f1, "tp": tp, "predicted": 50, "gold": 50}
    masc = {"accuracy": f1, "macro_f1": f1, "n": 50, "accuracy_on_extracted": f1, "n_extracted": tp, "ece": 0.1}
    split = {"joint": counts, "mate": counts, "masc": masc, "pointing": None}
    epochs = range(1, config.train.epochs + 1)
    curve = [
        {"epoch": e, "loss": {"tagging": 1.0 / e}, "dev_f1": f1, "dev_mate_f1": f1, "seconds": EPOCH_SECONDS}
        for e in epochs
    ]
    return {
        "best_epoch": 1,
        "metrics": {"dev": split, "test": split},
        "per_tweet": {"test": [[1, 1, 1]] * n_test},
        "curve": curve,
        "weighting": None,
        "cost": {
            "parameters": threads,
            "flops_per_tweet": 10,
            "train_seconds": 1.0,
            "cpu_seconds": 1.0,
            "peak_memory_bytes": 10,
        },
        "images": {name: {"present": n_test, "absent": 0} for name in ("train", "dev", "test")},
    }
