"""What a figure shows, in words made from the records that it was drawn from."""

from __future__ import annotations

import numpy as np

from repro.evidence.cells import Block, Cell
from repro.evidence.evidence import Evidence
from repro.plan.variants import SUITE
from repro.report.table import Table
from repro.report.table_rows import place_title
from repro.report.tables.results.ablations import bounds_findings
from repro.report.wording import mean_and_sd, seeds


def figure_sentences(name: str, evidence: Evidence, operators: Table | None) -> tuple[str, ...]:
    """One sentence for each place that the figure has a panel for; of the operators', those of their table."""
    said = _SENTENCES.get(name)
    if said is None:
        return operators.findings if operators else ()
    found = [(place, said(block)) for place, block in evidence.grouped.items()]
    return tuple(f"{place_title(place)}: {sentence}" for place, sentence in found if sentence)


def _learning_curves(block: Block) -> str:
    if "full" not in block:
        return ""
    records = block["full"].records
    best = [max(epoch["dev_f1"] for epoch in record["result"]["curve"]) for record in records]
    at = sorted({record["result"]["best_epoch"] for record in records})
    where = f"epoch {at[0]}" if len(at) == 1 else f"epochs {at[0]} to {at[-1]}"
    length = max(len(record["result"]["curve"]) for record in records)
    return f"CLAMP is best on dev after {where} of {length}, at {mean_and_sd(best)} F1 ({seeds(len(records))})."


def _loss_weights(block: Block) -> str:
    return " ".join(bounds_findings(block.get("full")))


def _ablations(block: Block) -> str:
    cells = [block[variant] for variant in SUITE if variant in block]
    if len(cells) < 2:
        return ""

    def mean(cell: Cell) -> float:
        return float(np.mean(cell.test("joint", "f1")))

    def said(cell: Cell) -> str:
        return f"{cell.label} ({mean_and_sd(cell.test('joint', 'f1'))}, {seeds(cell.n)})"

    highest, lowest = said(max(cells, key=mean)), said(min(cells, key=mean))
    return f"of {len(cells)} systems the highest mean is that of {highest}, the lowest that of {lowest}."


_SENTENCES = {"learning_curves": _learning_curves, "loss_weights": _loss_weights, "ablations": _ablations}
