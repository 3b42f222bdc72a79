"""How far F1 moves without any other model, by rules of scoring."""

from __future__ import annotations

from typing import Literal

import numpy as np

from repro.evidence.cells import PLACES, Cell, Place
from repro.evidence.evidence import Evidence
from repro.plan.variants import GROUPS
from repro.records.evaluation import SCORING_RULES
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, evaluated, frame_by_place, only, place_title
from repro.report.wording import NOT_EVALUATED, NOT_RUN, mean_and_sd, percent, seeds

_JOINT = {
    "strict": "strict IOB2",
    "orphans_open": "orphan I- opens",
    "viterbi": "Viterbi",
    "lower_cased_text": "text, not position",
    "kept_words_only": "kept words only",
}
_MASC = {"macro": "MASC macro-F1", "harmonic": "MASC harmonic F1", "micro": "MASC micro-F1"}


def scoring_rules(evidence: Evidence) -> Table:
    """The same predictions under peers' rules."""
    columns = [*_JOINT.values(), "spread", *_MASC.values()]

    def row(place: Place, cell: Cell) -> TextRow:
        if not cell.evaluations:
            return dict.fromkeys(columns, NOT_EVALUATED)
        made = {title: mean_and_sd(_by_rule(cell, "joint", rule)) for rule, title in _JOINT.items()}
        made |= {title: mean_and_sd(_by_rule(cell, "masc", rule)) for rule, title in _MASC.items()}
        return {**made, "spread": percent(_spread(cell))}

    return Table(
        name="scoring_rules",
        title="One set of predictions, several rules of scoring (test split, percent)",
        about="The predictions of each checkpoint are scored as the public code of published systems would score "
        "them, or, under Viterbi, decoded again from the same probabilities; nothing else changes from column to "
        "column.",
        findings=tuple(_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, lambda place: columns, row, lambda place: GROUPS["main"], evaluated),
        footer=(
            *(f"{_JOINT[rule]}: {label}." for rule, label in SCORING_RULES.items()),
            "Mean ± standard deviation over the n seeds that were evaluated. Spread: the highest of the five joint F1 "
            "figures minus the lowest, of their means over seeds.",
            "MASC of gold spans: macro-F1 as in scikit-learn; harmonic: of macro-precision and macro-recall "
            "(VLP-MABSA, ESAFN); micro: equal to accuracy (DQPSA).",
            SELECTION,
            *provenance_footer(only(GROUPS["main"], evidence), evidence.marks),
        ),
    )


def _by_rule(cell: Cell, task: Literal["joint", "masc"], rule: str) -> list[float]:
    return [evaluation.evaluation.rules[task][rule] for evaluation in cell.evaluations]


def _spread(cell: Cell) -> float:
    return float(np.ptp([np.mean(_by_rule(cell, "joint", rule)) for rule in _JOINT]))


def _finding(evidence: Evidence, place: Place) -> str:
    block = evidence.block(place)
    spreads = {v: _spread(block[v]) for v in GROUPS["main"] if v in block and block[v].evaluations}
    if not spreads:
        return f"{place_title(place)}: {NOT_EVALUATED if block else NOT_RUN}."

    def in_words(variant: str) -> str:
        return f"{percent(spreads[variant])} ({block[variant].label}, {seeds(evaluated(block[variant]))})"

    largest, smallest = (of(spreads, key=lambda variant: spreads[variant]) for of in (max, min))
    systems = f"{len(spreads)} system{'s' if len(spreads) > 1 else ''}"
    return (
        f"{place_title(place)}: of {systems}, the rule alone moves joint F1 by up to {in_words(largest)} and by at "
        f"least {in_words(smallest)}."
    )
