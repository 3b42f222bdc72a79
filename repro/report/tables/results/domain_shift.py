"""How far each system falls on tweets of another kind than it was trained on."""

from __future__ import annotations

from repro.evidence.by_seed import f1_lost_under, f1_under
from repro.evidence.cells import PLACES, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.stats import summarise
from repro.plan.variants import SUITE
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, evaluated, frame_by_place, place_title
from repro.report.tables.results.under_conditions import (
    FALL_NOTE,
    applicable,
    averaged,
    unchanged_f1,
    why_nothing,
)
from repro.report.wording import NOT_EVALUATED, mean_and_sd, percent, seeds


def domain_shift(evidence: Evidence) -> Table:
    """F1 and fall of every system on tweets of another kind than it was trained on."""

    def columns(place: Place) -> list[str]:
        shown = applicable(evidence, place, "shift").values()
        return ["F1", *(f"{label}: {what}" for label in shown for what in ("F1", "fall"))]

    def row(place: Place, cell: Cell) -> TextRow:
        if not cell.evaluations:
            return dict.fromkeys(columns(place), NOT_EVALUATED)
        made = {"F1": unchanged_f1(cell)}
        for condition, label in applicable(evidence, place, "shift").items():
            if shifted := list(f1_under(cell, condition).values()):
                made[f"{label}: F1"] = averaged(cell, shifted)
                made[f"{label}: fall"] = averaged(cell, list(f1_lost_under(cell, condition).values()))
        return made

    return Table(
        name="domain_shift",
        title="Domain shift (joint test F1, percent)",
        about="Every system is trained and selected on its own data set and tested on tweets of another kind: the "
        "other Twitter data set, or generated tweets with clauses, looks or numbers of distractors not seen before.",
        findings=tuple(_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, columns, row, n=evaluated),
        footer=(
            FALL_NOTE,
            "Part of any fall is that the other test split is harder or easier: systems are compared, not data sets.",
            SELECTION,
            *provenance_footer(list(evidence.grouped.values()), evidence.marks),
        ),
    )


def _finding(evidence: Evidence, place: Place) -> str:
    block, parts = evidence.block(place), []
    full = block.get("full")
    for condition, label in applicable(evidence, place, "shift").items() if full else []:
        by_variant = {v: list(f1_under(block[v], condition).values()) for v in SUITE if v in block}
        means = {v: summarise(f1).mean for v, f1 in by_variant.items() if f1}
        if "full" not in means:
            continue
        best = max(means, key=lambda variant: means[variant])
        lost = list(f1_lost_under(full, condition).values())
        parts.append(
            f"{label}: CLAMP falls by {mean_and_sd(lost)} to {percent(means['full'])} ({seeds(len(lost))}), the "
            f"highest mean of the {len(means)} systems is {percent(means[best])} ({block[best].label}, "
            f"{seeds(len(by_variant[best]))})"
        )
    return f"{place_title(place)}: {'; '.join(parts) or f'CLAMP {why_nothing(block)}'}."
