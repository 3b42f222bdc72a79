"""One training run: AdamW over length-bucketed batches, the dev split's best checkpoint, resumable to the bit."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from clamp.baselines import ARCHITECTURES
from clamp.config import Config, Task, TrainConfig
from clamp.cost import forward_flops
from clamp.data.bucketing import length_bucketed
from clamp.data.collate import Batch
from clamp.data.schema import Tweet
from clamp.data.splits import Splits
from clamp.encoders import tokenizer_of_words
from clamp.evaluate import Predictions, counts, joint_f1, predict, score
from clamp.metrics import span_scores, without_polarity
from clamp.model import Clamp, Tagger
from clamp.training.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from clamp.training.frozen_features import encoded_for
from clamp.training.interference import gradient_cosines
from clamp.training.kept_features import nameless_in, shared_in

OnEpoch = Callable[[int, int, float], None]  # epochs done, epochs planned, dev F1 in 0..1

LOG_POINTS = 200  # of the loss weights' course
COSINE_POINTS = 20  # of the gradients' cosines, each of which costs a backward pass a task
SMOOTHING = 0.98  # of the exponential average of each task's loss


class TrainingDiverged(ArithmeticError):
    """A loss or gradient is not finite; the text names the step, the batch's tweets and the culprit."""


@dataclass
class Course:
    """What a run remembers of its past; JSON-ready, and part of the checkpoint."""

    epochs_done: int = 0
    steps_done: int = 0
    best_epoch: int = 0
    best_f1: float = -1.0
    curve: list[dict[str, Any]] = field(default_factory=list)
    smoothed: dict[str, float] = field(default_factory=dict)
    logged_steps: list[int] = field(default_factory=list)
    logged_s: dict[str, list[float]] = field(default_factory=dict)
    logged_loss: dict[str, list[float | None]] = field(default_factory=dict)
    cosine_steps: list[int] = field(default_factory=list)
    cosines: dict[str, list[float | None]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Linear warm-up to 1 over the first share of the steps, then linear decay towards 0."""
    warmup = max(1, round(steps * warmup_share))
    return (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)


def make_optimizer(model: Tagger, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over encoders, heads and the uncertainties s, each with its rate; biases, norms and s do not decay."""
    encoders: list[nn.Parameter] = []
    heads: list[nn.Parameter] = []
    uncertainty: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("aggregation.s."):
            uncertainty.append(parameter)
        elif name.startswith(("text_encoder.encoder.", "vision_encoder.encoder.")):
            encoders.append(parameter)
        else:
            heads.append(parameter)
    groups = []
    for name, parameters, rate in (("encoder", encoders, config.lr_encoder), ("head", heads, config.lr_head)):
        for decays in (True, False):
            members = [p for p in parameters if (p.ndim >= 2) == decays]
            decay = config.weight_decay if decays else 0.0
            groups.append({"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay, "name": name})
    rate = config.lr_uncertainty
    groups.append({"params": uncertainty, "lr": rate, "base_lr": rate, "weight_decay": 0.0, "name": "uncertainty"})
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def make_deterministic(seed: int, threads: int) -> None:
    """The same bits for the same seed and thread count; sums are split differently over another number of threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=False)
    # a debugging aid that costs a tenth of a step here
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (unknown to type checkers)
    torch.backends.cudnn.benchmark = False
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Trainer:
    """The state of one run in `folder`; `fit` carries it to its end from wherever it stands."""

    def __init__(self, config: Config, splits: Splits, folder: Path, features: Path | None = None) -> None:
        make_deterministic(config.train.seed, config.train.threads)
        self.config, self.folder = config.train, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # from scratch a text encoder knows the generated tweets' words, which are not those of anybody's own
        is_new = config.data.name != "synthetic" and config.model.text.weights is None
        tokenizer = tokenizer_of_words(word for t in splits.train for word in t.words) if is_new else None
        self.model = ARCHITECTURES[config.model.architecture](config.model, tokenizer=tokenizer).to(self.device)
        keep = None
        if self.config.feature_cache:
            keep = nameless_in(folder) if features is None else shared_in(features)
        self.data = {
            name: encoded_for(self.model, tweets, keep)
            for name, tweets in (("train", splits.train), ("dev", splits.dev), ("test", splits.test))
        }
        self.optimizer = make_optimizer(self.model, self.config)
        self.clipped = [p for g in self.optimizer.param_groups if g["name"] != "uncertainty" for p in g["params"]]
        self.steps = self.config.epochs * -(-len(splits.train) // self.config.batch_size)
        self.course = Course()
        wanted = self.config.precision == "bfloat16"
        self.autocast = wanted or (self.config.precision == "auto" and self.device.type == "cuda")

    @property
    def _checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def fit(self, on_epoch: OnEpoch | None = None) -> None:
        """Train until the last epoch or until dev F1 has not risen for `patience` epochs."""
        if self._checkpoint.exists():
            self.course = Course(**read_checkpoint(self._checkpoint, self.model, self.optimizer))
        while self.course.epochs_done < self.config.epochs and not self._out_of_patience():
            self._epoch()
            write_checkpoint(self._checkpoint, self.model, self.optimizer, vars(self.course))
            if on_epoch is not None:
                on_epoch(self.course.epochs_done, self.config.epochs, self.course.curve[-1]["dev_f1"])

    def _out_of_patience(self) -> bool:
        return self.course.epochs_done - self.course.best_epoch >= self.config.patience

    def _epoch(self) -> None:
        course, started, cpu_started = self.course, time.perf_counter(), time.process_time()
        order = torch.Generator().manual_seed(self.config.seed * 1_000_003 + course.epochs_done)
        seen: dict[Task, list[float]] = {}
        norms: list[float] = []
        self.model.train()
        for indices in length_bucketed(self.data["train"].lengths_N2, self.config.batch_size, order):
            losses, norm = self._step(self.data["train"].batch(indices).to(self.device))
            norms.append(norm)
            for task, loss in losses.items():
                seen.setdefault(task, []).append(loss)
        course.epochs_done += 1
        predictions = self._predict("dev")
        dev = self.data["dev"].tweets
        f1 = joint_f1(predictions, dev)
        gold = [[(a.start, a.end) for a in tweet.aspects] for tweet in dev]
        if f1 > course.best_f1:
            course.best_epoch, course.best_f1 = course.epochs_done, f1
            self.model.save_pretrained(self.folder / "model")
        seconds = time.perf_counter() - started
        course.seconds += seconds
        course.cpu_seconds += time.process_time() - cpu_started
        # Nothing is chosen by it; it tells what choosing by it, as some do, would have claimed.
        test_f1 = joint_f1(self._predict("test"), self.data["test"].tweets)
        course.curve.append({
            "epoch": course.epochs_done,
            "loss": {task: float(np.mean(values)) for task, values in seen.items()},
            "loss_sd": {task: float(np.std(values)) for task, values in seen.items()},
            "gradient_norm": {"mean": float(np.mean(norms)), "sd": float(np.std(norms))},  # before clipping
            "dev_f1": f1,
            "test_f1": test_f1,
            "dev_mate_f1": span_scores(without_polarity(predictions.spans), gold).f1,
            "seconds": seconds,
        })  # fmt: skip

    def _predict(self, split: str, *, pointing: bool = False) -> Predictions:
        return predict(self.model, self.data[split], pointing=pointing, batch_size=self.config.batch_size)

    def _step(self, batch: Batch) -> tuple[dict[Task, float], float]:
        """Each task's loss and the norm of their sum's gradient, before clipping."""
        factor = learning_rate_factor(self.course.steps_done, self.steps, self.config.warmup_share)
        for group in self.optimizer.param_groups:
            # s follows its own loss, not the schedule: it has to get where it belongs within the run
            group["lr"] = group["base_lr"] * (1.0 if group["name"] == "uncertainty" else factor)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            losses, total = self._losses(batch)
        if len(losses) > 1 and self._is_due(COSINE_POINTS):
            self._log_cosines(gradient_cosines(losses, list(self.model.text_encoder.parameters()), self._whole))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.clipped, self.config.clip_norm).item()
        values: dict[Task, float] = {task: loss.item() for task, loss in losses.items()}
        if not np.isfinite(norm) or not all(map(np.isfinite, values.values())):
            raise TrainingDiverged(self._diagnosis(batch, values))
        self.optimizer.step()
        self.model.project()
        self.course.steps_done += 1
        self._log(values)
        return values, norm

    def _losses(self, batch: Batch) -> tuple[dict[Task, Tensor], Tensor]:
        """Each task's loss, and the scalar to minimise."""
        losses = self.model.losses(self.model(batch), batch)
        return losses, self.model.total(losses)

    def _whole(self, gradient: Tensor) -> Tensor:
        """The batch's gradient, of the part of it that this process holds."""
        return gradient

    def _diagnosis(self, batch: Batch, losses: dict[Task, float]) -> str:
        culprit = next((f"the {task} loss" for task, value in losses.items() if not np.isfinite(value)), None)
        if culprit is None:
            named = ((n, p.grad) for n, p in self.model.named_parameters() if p.grad is not None)
            culprit = next(
                (f"the gradient of {n}" for n, grad in named if not grad.isfinite().all()), "a gradient norm"
            )
        ids = ", ".join(tweet.id for tweet in batch.tweets)
        return f"step {self.course.steps_done + 1}: {culprit} is not finite; tweets: {ids}"

    def _is_due(self, points: int) -> bool:
        """Whether the step at hand is one of the about `points` that the whole run logs."""
        return self.course.steps_done % -(-self.steps // points) == 0

    def _log_cosines(self, cosines: dict[str, float]) -> None:
        course = self.course
        for pair in cosines.keys() - course.cosines.keys():
            course.cosines[pair] = [None] * len(course.cosine_steps)
        course.cosine_steps.append(course.steps_done + 1)
        for pair, values in course.cosines.items():
            values.append(cosines.get(pair))

    def _log(self, losses: dict[Task, float]) -> None:
        course = self.course
        for task, loss in losses.items():
            course.smoothed[task] = SMOOTHING * course.smoothed.get(task, loss) + (1 - SMOOTHING) * loss
        if not isinstance(self.model, Clamp):
            return
        aggregation = self.model.aggregation
        if self._is_due(LOG_POINTS) or course.steps_done == self.steps:
            course.logged_steps.append(course.steps_done)
            for task, s in aggregation.values().items():
                course.logged_s.setdefault(task, []).append(s)
                course.logged_loss.setdefault(task, []).append(course.smoothed.get(task))

    def result(self) -> dict[str, Any]:
        """Scores of the best checkpoint and the run's course, as the record holds them."""
        weights: dict[str, Tensor] = load_file(self.folder / "model" / "model.safetensors", device=str(self.device))
        self.model.load_state_dict(weights)
        predictions = {name: self._predict(name, pointing=True) for name in ("dev", "test")}
        metrics = {name: score(found, self.data[name].tweets) for name, found in predictions.items()}
        _name_best_stage(metrics)
        return {
            "best_epoch": self.course.best_epoch,
            "metrics": metrics,
            "per_tweet": {"test": counts(predictions["test"], self.data["test"].tweets)},
            "curve": self.course.curve,
            "weighting": self._weighting(),
            "interference": {"step": self.course.cosine_steps, "cosine": self.course.cosines},
            "cost": {
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "flops_per_tweet": self._flops_per_tweet(),
                "train_seconds": self.course.seconds,
                "cpu_seconds": self.course.cpu_seconds,  # of all threads; other work on the machine does not count
                "peak_memory_bytes": _peak_memory(self.device),
            },
            "images": {name: _image_counts(data.tweets) for name, data in self.data.items()},
        }

    def _weighting(self) -> dict[str, Any] | None:
        if not isinstance(self.model, Clamp):
            return None
        course = self.course
        return {
            "mode": self.model.aggregation.config.mode,
            "step": course.logged_steps,
            "s": course.logged_s,  # of the weight exp(-s)/2, in every mode
            "loss": course.logged_loss,
            "moved": {task: s[-1] - s[0] for task, s in course.logged_s.items()},  # from the first step to the last
        }

    def _flops_per_tweet(self) -> int:
        some = list(range(min(64, len(self.data["test"]))))
        return forward_flops(self.model, self.data["test"].batch(some).to(self.device)) // len(some)


def _name_best_stage(metrics: dict[str, Any]) -> None:
    """The stage that points best on dev is the one whose test figure counts; every stage stays in the record."""
    if any(split["pointing"] is None for split in metrics.values()):
        for split in metrics.values():  # without a stage to choose, or without one to report, there is no figure
            split["pointing"] = None
        return
    best = int(np.argmax([stage["pointing"] for stage in metrics["dev"]["pointing"]]))
    for split in metrics.values():
        split["pointing"] = {"best_stage": best, "stages": split["pointing"]}


def _image_counts(tweets: list[Tweet]) -> dict[str, int]:
    present = sum(tweet.image is not None or tweet.proxy is not None for tweet in tweets)
    return {"present": present, "absent": len(tweets) - present}


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def train(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch | None = None, features: Path | None = None
) -> dict[str, Any]:
    """Train `config` on `splits` and return its record's `result`; folder/model/ holds the checkpoint best on dev.

    In `features`, a folder, what frozen encoders say stays for later runs; without it, it is kept for this run alone.
    A run that was killed continues from folder/checkpoint.safetensors and ends bitwise as if it had not been.
    Raises TrainingDiverged, ConfigError or DataError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, splits, folder, features)
    trainer.fit(on_epoch)
    return trainer.result()
