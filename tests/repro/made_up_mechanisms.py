"""Records whose inner workings are made up to a purpose, and rows of tables found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from made_up import record, set_f1

from repro.plan.variants import swept_name
from repro.report.table import Table

Records = list[dict[str, Any]]


SPREAD = {0: 0.0, 1: 0.01, 2: -0.01}


def runs(*variants: str, seeds: int = 3) -> Records:
    return [record(variant, seed) for variant in variants for seed in range(seeds)]


def row_of(table: Table, **equal: str) -> dict[str, str]:
    frame = table.frame
    for name, value in equal.items():
        frame = frame[frame[name].str.contains(value, regex=False)]
    (row,) = frame.to_dict("records")
    return {str(name): value for name, value in row.items()}


def pulled(negative: dict[str, int], seeds: int = 3) -> Records:
    """Of twenty cosines of one pair as many are negative as said, and one more or less with some seeds."""
    records = runs(*negative, seeds=seeds)
    for r in records:
        n = negative[r["variant"]] + round(100 * SPREAD[r["seed"]])
        course = {"tagging~aspect": [-0.5] * n + [0.25] * (20 - n), "tagging~global": [None, 0.1] * 10}
        r["result"]["interference"] = {"step": list(range(1, 21)), "cosine": course}
    return records


def swept(f1: Callable[[str, float], float], seeds: int = 1) -> Records:
    """Distractors alone, with default runs of three seeds."""
    records = [
        record(swept_name(system, "distractors", value), seed, f1=0.9)
        for system in ("full", "no_paf")
        for value in (0, 8)
        for seed in range(seeds)
    ] + runs("full", "no_paf")
    for r in records:
        system = "no_paf" if r["variant"].startswith("no_paf") else "full"
        value = r["config"]["data"]["synthetic"]["distractors"]
        set_f1(r, f1(system, value) + SPREAD[r["seed"]])
    return records
