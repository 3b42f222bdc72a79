"""Rows of tables that have a block for each place (profile and data set) and a row for each system in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pandas as pd

from repro.evidence.cells import PLACES, TITLES, Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.plan.variants import SUITE, VARIANTS, means_something
from repro.report.table import BLOCK
from repro.report.wording import NOT_RUN

TextRow = dict[str, str]  # column -> what stands there


def place_title(place: Place) -> str:
    profile, dataset = place
    title = TITLES[dataset]
    return f"{title[0].upper()}{title[1:]}, profile {profile}"


def only(variants: Collection[str], evidence: Evidence) -> list[Block]:
    """The cells of these variants at each place where anything was run."""
    return [{v: cell for v, cell in block.items() if v in variants} for block in evidence.grouped.values()]


def evaluated(cell: Cell) -> int:
    """The n of a row that is made of evaluations: not every seed that was trained has one."""
    return len(cell.evaluations)


def frame_by_place(
    evidence: Evidence,
    columns: Callable[[Place], Sequence[str]],
    row: Callable[[Place, Cell], TextRow],
    variants: Callable[[Place], Sequence[str]] = lambda place: SUITE,
    n: Callable[[Cell], int] = lambda cell: cell.n,
) -> pd.DataFrame:
    """A row for each of a place's `variants`, as `row` fills it; "not run" in all `columns` of one that was not run.

    A place where nothing was run has one row that says so. `n` is how many seeds a row averages.
    """
    rows = []
    for place in PLACES:
        block, start = evidence.block(place), {BLOCK: place_title(place)}
        not_run = {"n": "0", **dict.fromkeys(columns(place), NOT_RUN)}
        if not block:
            rows.append({**start, "system": "every system", **not_run})
            continue
        for variant in variants(place):
            cell = block.get(variant)
            if cell is not None:
                label = cell.label + evidence.marks.of(cell, block)
                rows.append({**start, "system": label, "n": str(n(cell)), **row(place, cell)})
            elif means_something(variant, *place):
                rows.append({**start, "system": VARIANTS[variant].label, **not_run})
    ordered = dict.fromkeys([BLOCK, "system", "n", *(c for place in PLACES for c in columns(place))])
    return pd.DataFrame(rows, columns=list(ordered)).fillna("")
