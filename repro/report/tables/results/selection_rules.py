"""How far F1 moves without any other model, by what the epoch is chosen on."""

from __future__ import annotations

import numpy as np

from repro.evidence.cells import PLACES, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import f1_by_epoch_on_test
from repro.evidence.stats import summarise
from repro.plan.variants import GROUPS
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, frame_by_place, only, place_title
from repro.report.wording import NOT_RECORDED, NOT_RUN, between, mean_and_sd, percent, seeds, signed


def selection_rules(evidence: Evidence) -> Table:
    """Test F1 at the epoch that is best on dev, against the best test F1 of any epoch."""
    columns = ["best dev epoch", "best test epoch", "gain", "95 % t interval"]

    def row(place: Place, cell: Cell) -> TextRow:
        gains = _gains(cell)
        if gains is None:
            return {"best dev epoch": mean_and_sd(cell.test("joint", "f1")), "gain": NOT_RECORDED}
        summary = summarise(gains)
        made = {
            "best dev epoch": mean_and_sd(cell.test("joint", "f1")),
            "best test epoch": mean_and_sd([max(f1_by_epoch_on_test(record)) for record in cell.records]),
            "gain": mean_and_sd(gains),
        }
        if summary.low is not None and summary.high is not None:
            made["95 % t interval"] = between(summary.low, summary.high)
        return made

    return Table(
        name="selection_rules",
        title="Selection on dev against selection on test (joint test F1, percent)",
        about="Some published systems keep the epoch with the best test F1. The same runs are read both ways: at the "
        "epoch that is best on dev, which is how every other table here is made, and at the best test epoch.",
        findings=tuple(_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, lambda place: columns, row, lambda place: GROUPS["main"]),
        footer=(
            "Gain: best test epoch minus best dev epoch, never negative by construction; mean ± standard deviation "
            "over n seeds. Test F1 of each epoch is recorded for this table and decides nothing.",
            SELECTION,
            *provenance_footer(only(GROUPS["main"], evidence), evidence.marks),
        ),
    )


def _gains(cell: Cell) -> list[float] | None:
    curves = [f1_by_epoch_on_test(record) for record in cell.records]
    if not all(curves):
        return None
    return [max(curve) - f1 for curve, f1 in zip(curves, cell.test("joint", "f1"), strict=True)]


def _finding(evidence: Evidence, place: Place) -> str:
    block = evidence.block(place)
    cells = [block[v] for v in GROUPS["main"] if v in block]
    gains = {cell.label: (float(np.mean(gained)), cell.n) for cell in cells if (gained := _gains(cell)) is not None}
    if not gains:
        return f"{place_title(place)}: {NOT_RECORDED if cells else NOT_RUN}."
    largest = max(gains, key=lambda label: gains[label][0])
    (mean, n), average = gains[largest], float(np.mean([gain for gain, _ in gains.values()]))
    return (
        f"{place_title(place)}: choosing the epoch on test would add {percent(average)} F1 on average over "
        f"{len(gains)} system{'s' if len(gains) > 1 else ''}, most for {largest} ({signed(mean)}, {seeds(n)})."
    )
