"""One value a seed of what is compared between systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from repro.evidence.cells import Cell
from repro.records.evaluation import Evaluation
from repro.records.run import RunRecord

BySeed = dict[int, float]


def of_records(cell: Cell | None, value: Callable[[RunRecord], float | None]) -> BySeed:
    """What `value` gives of each seed's record, where it gives anything."""
    values = {record.seed: value(record) for record in cell.records} if cell else {}
    return {seed: one for seed, one in values.items() if one is not None}


def of_evaluations(cell: Cell | None, value: Callable[[Evaluation], float | None]) -> BySeed:
    """What `value` gives of each seed's evaluation, where it gives anything."""
    values = {e.seed: value(e.evaluation) for e in cell.evaluations} if cell else {}
    return {seed: one for seed, one in values.items() if one is not None}


def f1_under(cell: Cell | None, condition: str) -> BySeed:
    """Joint F1 of each seed that was evaluated under the condition."""

    def value(evaluation: Evaluation) -> float | None:
        under = evaluation.conditions.get(condition)
        return None if under is None else under.joint.f1

    return of_evaluations(cell, value)


def f1_lost_under(cell: Cell | None, condition: str) -> BySeed:
    """By how much joint F1 is lower than on the unchanged tweets, of each such seed."""
    unchanged = of_evaluations(cell, lambda evaluation: evaluation.clean.joint.f1)
    return {seed: unchanged[seed] - f1 for seed, f1 in f1_under(cell, condition).items()}


def measured(cell: Cell | None, part: str) -> list[Any]:
    """One part of `Mechanism`, of each evaluation that has it."""
    within = [e.evaluation.mechanism for e in cell.evaluations] if cell else []
    parts = [getattr(mechanism, part) for mechanism in within if mechanism is not None]
    return [one for one in parts if one is not None]


def difference(one: BySeed, other: BySeed) -> list[float]:
    """The one minus the other, of each seed that both have."""
    return [one[seed] - other[seed] for seed in one if seed in other]
