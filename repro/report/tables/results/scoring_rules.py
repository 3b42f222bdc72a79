"""How far F1 moves without any other model: by rules of scoring, and by what the epoch is chosen on."""

from __future__ import annotations

import numpy as np

from repro.evaluate.scoring_rules import LABELS
from repro.evidence.cells import PLACES, Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.stats import summarise
from repro.plan.variants import GROUPS
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import Row, evaluated, frame_by_place, place_title
from repro.report.wording import NOT_EVALUATED, NOT_RECORDED, NOT_RUN, between, mean_and_sd, percent, seeds, signed

_JOINT = {
    "strict": "strict IOB2",
    "orphans_open": "orphan I- opens",
    "viterbi": "Viterbi",
    "lower_cased_text": "text, not position",
    "kept_words_only": "kept words only",
}
_MASC = {"macro": "MASC macro-F1", "harmonic": "MASC harmonic F1", "micro": "MASC micro-F1"}


def _systems(place: Place) -> tuple[str, ...]:
    return GROUPS["main"]


def _shown(evidence: Evidence) -> list[Block]:
    return [{v: cell for v, cell in block.items() if v in _systems(place)} for place, block in evidence.grouped.items()]


# Rules of scoring


def scoring_rules(evidence: Evidence) -> Table:
    """The same predictions under peers' rules."""
    columns = [*_JOINT.values(), "spread", *_MASC.values()]

    def row(place: Place, cell: Cell) -> Row:
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
        findings=tuple(_rules_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, lambda place: columns, row, _systems, evaluated),
        footer=(
            *(f"{_JOINT[rule]}: {label}." for rule, label in LABELS.items()),
            "Mean ± standard deviation over the n seeds that were evaluated. Spread: the highest of the five joint F1 "
            "figures minus the lowest, of their means over seeds.",
            "MASC of gold spans: macro-F1 as in scikit-learn; harmonic: of macro-precision and macro-recall "
            "(VLP-MABSA, ESAFN); micro: equal to accuracy (DQPSA).",
            SELECTION,
            *provenance_footer(_shown(evidence), evidence.marks),
        ),
    )


def _by_rule(cell: Cell, task: str, rule: str) -> list[float]:
    return [evaluation["evaluation"]["rules"][task][rule] for evaluation in cell.evaluations]


def _spread(cell: Cell) -> float:
    return float(np.ptp([np.mean(_by_rule(cell, "joint", rule)) for rule in _JOINT]))


def _rules_finding(evidence: Evidence, place: Place) -> str:
    block = evidence.block(place)
    spreads = {v: _spread(block[v]) for v in _systems(place) if v in block and block[v].evaluations}
    if not spreads:
        return f"{place_title(place)}: {NOT_EVALUATED if block else NOT_RUN}."

    def said(variant: str) -> str:
        return f"{percent(spreads[variant])} ({block[variant].label}, {seeds(evaluated(block[variant]))})"

    largest, smallest = (of(spreads, key=lambda variant: spreads[variant]) for of in (max, min))
    systems = f"{len(spreads)} system{'s' if len(spreads) > 1 else ''}"
    return (
        f"{place_title(place)}: of {systems}, the rule alone moves joint F1 by up to {said(largest)} and by at least "
        f"{said(smallest)}."
    )


# Rules of selection


def selection_rules(evidence: Evidence) -> Table:
    """Test F1 at the epoch that is best on dev, against the best test F1 of any epoch."""
    columns = ["best dev epoch", "best test epoch", "gain", "95 % t interval"]

    def row(place: Place, cell: Cell) -> Row:
        gains = _gains(cell)
        if gains is None:
            return {"best dev epoch": mean_and_sd(cell.test("joint", "f1")), "gain": NOT_RECORDED}
        found = summarise(gains)
        made = {
            "best dev epoch": mean_and_sd(cell.test("joint", "f1")),
            "best test epoch": mean_and_sd([max(_test_curve(record)) for record in cell.records]),
            "gain": mean_and_sd(gains),
        }
        if found.low is not None and found.high is not None:
            made["95 % t interval"] = between(found.low, found.high)
        return made

    return Table(
        name="selection_rules",
        title="Selection on dev against selection on test (joint test F1, percent)",
        about="Some published systems keep the epoch with the best test F1. The same runs are read both ways: at the "
        "epoch that is best on dev, which is how every other table here is made, and at the best test epoch.",
        findings=tuple(_selection_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, lambda place: columns, row, _systems),
        footer=(
            "Gain: best test epoch minus best dev epoch, never negative by construction; mean ± standard deviation "
            "over n seeds. Test F1 of each epoch is recorded for this table and decides nothing.",
            SELECTION,
            *provenance_footer(_shown(evidence), evidence.marks),
        ),
    )


def _test_curve(record: dict) -> list[float]:
    """Test F1 after each epoch, and at the chosen one as scored in the end; none where epochs were not recorded."""
    curve = [epoch.get("test_f1") for epoch in record["result"]["curve"]]
    return [] if None in curve else [*curve, record["result"]["metrics"]["test"]["joint"]["f1"]]


def _gains(cell: Cell) -> list[float] | None:
    curves = [_test_curve(record) for record in cell.records]
    if not all(curves):
        return None
    return [max(curve) - f1 for curve, f1 in zip(curves, cell.test("joint", "f1"), strict=True)]


def _selection_finding(evidence: Evidence, place: Place) -> str:
    block = evidence.block(place)
    cells = [block[v] for v in _systems(place) if v in block]
    gains = {cell.label: (float(np.mean(gained)), cell.n) for cell in cells if (gained := _gains(cell)) is not None}
    if not gains:
        return f"{place_title(place)}: {NOT_RECORDED if cells else NOT_RUN}."
    largest = max(gains, key=lambda label: gains[label][0])
    (mean, n), average = gains[largest], float(np.mean([gain for gain, _ in gains.values()]))
    return (
        f"{place_title(place)}: choosing the epoch on test would add {percent(average)} F1 on average over "
        f"{len(gains)} system{'s' if len(gains) > 1 else ''}, most for {largest} ({signed(mean)}, {seeds(n)})."
    )
