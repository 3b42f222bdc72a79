"""What one run's record says of its scores and of what happens inside, where it says anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from clamp.config import TASKS
from repro.evidence.cells import Record

# Scores


def joint_f1(record: Record, split: str = "test") -> float:
    """In 0..1, of the chosen epoch."""
    return record["result"]["metrics"][split]["joint"]["f1"]


def f1_by_epoch_on_test(record: Record) -> list[float]:
    """After each epoch, then at the chosen one as scored in the end; empty where epochs were not recorded."""
    curve = [epoch.get("test_f1") for epoch in record["result"]["curve"]]
    return [] if None in curve else [*curve, joint_f1(record)]


# Where the attention points (generated tweets)


def pointing_report(record: Record, split: str) -> dict[str, Any] | None:
    """Pointing and attention on distractors by stage; None where there was nothing to point at."""
    return record["result"]["metrics"][split]["pointing"]


def best_stage(record: Record) -> dict[str, Any] | None:
    """What the stage that points best on dev does on test."""
    dev, test = pointing_report(record, "dev"), pointing_report(record, "test")
    return test["stages"][dev["best_stage"]] if dev and test else None


def pointing_at_best(record: Record) -> float | None:
    """Share, 0..1, of the aspects that only the image tells."""
    stage = best_stage(record)
    return stage["pointing"] if stage else None


def distractor_mass_at_best(record: Record) -> float | None:
    """Share, 0..1, of these aspects' attention."""
    stage = best_stage(record)
    return stage["distractor_mass"] if stage else None


# Gradients and losses


def cosines(record: Record) -> dict[str, list[float | None]]:
    """Pair of tasks -> the cosine at each sampled step, in the order of TASKS; empty where a run did not keep them.

    A record has its pairs, and perhaps the two of a pair, in an order that differs from process to process.
    """
    kept = (record["result"].get("interference") or {}).get("cosine", {})
    named = {tuple(sorted(pair.split("~"), key=_place_of)): course for pair, course in kept.items()}
    return {"~".join(pair): named[pair] for pair in sorted(named, key=lambda pair: [_place_of(task) for task in pair])}


def in_order(pairs: set[str]) -> list[str]:
    """Pairs of tasks in the order of TASKS."""
    return sorted(pairs, key=lambda pair: [_place_of(task) for task in pair.split("~")])


def _place_of(task: str) -> tuple[int, str]:
    """By which tasks are ordered; a baseline's own come last, by name."""
    return (list(TASKS).index(task) if task in TASKS else len(TASKS), task)


def negative_share(record: Record, pair: str | None = None) -> float | None:
    """Of one pair's sampled cosines, or of all pairs', in 0..1."""
    values = _sampled(record, pair)
    return float(np.mean([value < 0 for value in values])) if values else None


def mean_cosine(record: Record) -> float | None:
    """Over all pairs and sampled steps."""
    values = _sampled(record, None)
    return float(np.mean(values)) if values else None


def _sampled(record: Record, pair: str | None) -> list[float]:
    return [v for name, course in cosines(record).items() if pair in (None, name) for v in course if v is not None]


def loss_sd(record: Record, task: str = "tagging") -> list[float] | None:
    """The standard deviation of a task's loss over the steps of each epoch; the loss has its own weight nowhere."""
    kept = [epoch["loss_sd"][task] for epoch in record["result"]["curve"] if task in epoch.get("loss_sd", {})]
    return kept or None


def relative_norm_sd(record: Record) -> list[float] | None:
    """The same of the gradient's norm before clipping, over its mean, which takes out the scale of constant weights.

    AMA's weights change within an epoch, so that their trend is in this deviation too.
    """
    norms = [epoch["gradient_norm"] for epoch in record["result"]["curve"] if "gradient_norm" in epoch]
    return [norm["sd"] / max(norm["mean"], 1e-12) for norm in norms] or None
