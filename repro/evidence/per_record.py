"""What one run's record says of its scores and of what happens inside, where it says anything."""

from __future__ import annotations

import numpy as np

from clamp.config import TASKS
from repro.evidence.cells import Cell
from repro.records.run import Pointing, RunRecord, StagePointing, Weighting

# Scores


def joint_f1(record: RunRecord, split: str = "test") -> float:
    """In 0..1, of the chosen epoch."""
    return record.result.metrics[split].joint.f1


def f1_by_epoch_on_test(record: RunRecord) -> list[float]:
    """After each epoch, then at the chosen one as scored in the end; empty where epochs were not recorded."""
    curve = [epoch.test_f1 for epoch in record.result.curve if epoch.test_f1 is not None]
    return [*curve, joint_f1(record)] if len(curve) == len(record.result.curve) else []


# Where the attention points (generated tweets)


def pointing_report(record: RunRecord, split: str) -> Pointing | None:
    """Pointing and attention on distractors by stage; None where there was nothing to point at."""
    return record.result.metrics[split].pointing


def best_stage(record: RunRecord) -> StagePointing | None:
    """What the stage that points best on dev does on test."""
    dev, test = pointing_report(record, "dev"), pointing_report(record, "test")
    return test.stages[dev.best_stage] if dev and test else None


def pointing_at_best(record: RunRecord) -> float | None:
    """Share, 0..1, of the aspects that only the image tells."""
    stage = best_stage(record)
    return stage.pointing if stage else None


def distractor_mass_at_best(record: RunRecord) -> float | None:
    """Share, 0..1, of these aspects' attention."""
    stage = best_stage(record)
    return stage.distractor_mass if stage else None


# Gradients and losses


def cosines(record: RunRecord) -> dict[str, list[float | None]]:
    """Pair of tasks -> the cosine at each sampled step, in the order of TASKS; empty where a run did not keep them.

    A record has its pairs, and perhaps the two of a pair, in an order that differs from process to process.
    """
    kept = record.result.interference.cosine if record.result.interference else {}
    named = {tuple(sorted(pair.split("~"), key=_place_of)): course for pair, course in kept.items()}
    return {"~".join(pair): named[pair] for pair in sorted(named, key=lambda pair: [_place_of(task) for task in pair])}


def sampled_steps(record: RunRecord) -> list[int]:
    """The optimiser steps at which cosines were taken."""
    return record.result.interference.step if record.result.interference else []


def in_order(pairs: set[str]) -> list[str]:
    """Pairs of tasks in the order of TASKS."""
    return sorted(pairs, key=lambda pair: [_place_of(task) for task in pair.split("~")])


def _place_of(task: str) -> tuple[int, str]:
    """By which tasks are ordered; a baseline's own come last, by name."""
    return (list(TASKS).index(task) if task in TASKS else len(TASKS), task)


def negative_share(record: RunRecord, pair: str | None = None) -> float | None:
    """Of one pair's sampled cosines, or of all pairs', in 0..1."""
    values = _sampled(record, pair)
    return float(np.mean([value < 0 for value in values])) if values else None


def mean_cosine(record: RunRecord) -> float | None:
    """Over all pairs and sampled steps."""
    values = _sampled(record, None)
    return float(np.mean(values)) if values else None


def _sampled(record: RunRecord, pair: str | None) -> list[float]:
    return [v for name, course in cosines(record).items() if pair in (None, name) for v in course if v is not None]


def weightings(cell: Cell) -> list[Weighting]:
    """How each seed's losses were weighted; empty unless every seed logged it."""
    logs = [record.result.weighting for record in cell.records if record.result.weighting is not None]
    return logs if len(logs) == cell.n else []


def loss_sd(record: RunRecord, task: str = "tagging") -> list[float] | None:
    """The standard deviation of a task's loss over the steps of each epoch; the loss has its own weight nowhere."""
    kept = [epoch.loss_sd[task] for epoch in record.result.curve if task in epoch.loss_sd]
    return kept or None


def relative_norm_sd(record: RunRecord) -> list[float] | None:
    """The same of the gradient's norm before clipping, over its mean, which takes out the scale of constant weights.

    AMA's weights change within an epoch, so that their trend is in this deviation too.
    """
    norms = [epoch.gradient_norm for epoch in record.result.curve if epoch.gradient_norm is not None]
    return [norm.sd / max(norm.mean, 1e-12) for norm in norms] or None
