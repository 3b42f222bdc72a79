"""One value a seed of what is compared between systems, and how a difference over shared seeds reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from repro.cells import Cell, Record
from repro.claims import Entry
from repro.render import NOT_RUN, between, seeds, signed
from repro.stats import LEAST_SEEDS, summarise

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


def difference_said(values: Sequence[float]) -> str:
    """In points, with the t interval where there are seeds enough for one."""
    if not values:
        return NOT_RUN
    found = summarise(values)
    if found.low is None or found.high is None or found.n < LEAST_SEEDS:
        return f"{signed(found.mean)} ({seeds(found.n)})"
    return f"{signed(found.mean)} (95 % interval {between(found.low, found.high)}, {seeds(found.n)})"


def number(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation of what is no percentage."""
    found = summarise(values)
    mean = f"{found.mean:z.{digits}f}"  # what rounds to zero has no sign
    return mean + (f" ± {found.sd:.{digits}f}" if found.sd is not None else "")


def answer(entry: Entry | None) -> str:
    """What the claims ledger says of a question that is one of its claims."""
    if entry is None or entry.judgement == "not run":
        return NOT_RUN if entry is None else entry.missing
    if entry.judgement == "supported":
        return "yes"
    if entry.judgement == "not supported":
        return "no, the other way round"
    return "not shown either way" if entry.n >= LEAST_SEEDS else f"undecided, of {seeds(entry.n)}"
