"""One value a seed of what is compared between systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from repro.evidence.cells import Cell, Record

BySeed = dict[int, float]


def of_records(cell: Cell | None, value: Callable[[Record], float | None]) -> BySeed:
    """What `value` finds in each seed's record, where it finds anything."""
    found = {record["seed"]: value(record) for record in cell.records} if cell else {}
    return {seed: one for seed, one in found.items() if one is not None}


def of_evaluations(cell: Cell | None, value: Callable[[dict[str, Any]], float | None]) -> BySeed:
    """What `value` finds in each seed's evaluation, where it finds anything."""
    found = {e["seed"]: value(e["evaluation"]) for e in cell.evaluations} if cell else {}
    return {seed: one for seed, one in found.items() if one is not None}


def measured(cell: Cell | None, part: str) -> list[Any]:
    """One part of what was measured of the inner workings, of each evaluation that has it."""
    found = [(e["evaluation"].get("mechanism") or {}).get(part) for e in cell.evaluations] if cell else []
    return [one for one in found if one is not None]


def difference(one: BySeed, other: BySeed) -> list[float]:
    """The one minus the other, of each seed that both have."""
    return [one[seed] - other[seed] for seed in one if seed in other]
