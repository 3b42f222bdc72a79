"""The counterfactual table: whose mouth moves which label (generated tweets)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from repro.evidence.by_seed import measured
from repro.evidence.cells import GENERATED, Cell
from repro.evidence.evidence import Evidence
from repro.plan.variants import SUITE
from repro.records.evaluation import COUNTERFACTUAL_TWEETS
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_RUN, mean_and_sd, of_fewer, percent, seeds

# column -> the kind of redrawing, and what is counted
_COLUMNS = {
    "own mouth: label follows": ("own", "followed"),
    "own mouth: label unchanged": ("own", "unchanged"),
    "own mouth, words tell: unchanged": ("own_told_by_text", "unchanged"),
    "another aspect's mouth: unchanged": ("another_aspect", "unchanged"),
    "distractors' mouths: unchanged": ("distractors", "unchanged"),
}


def rates(cell: Cell | None, column: str) -> list[float]:
    """The share of each evaluated seed, in 0..1; nothing where no such aspect was found."""
    kind, counted = _COLUMNS[column]
    tallies = [getattr(one, kind) for one in measured(cell, "counterfactuals")]
    return [getattr(tally, counted) / tally.n for tally in tallies if tally.n]


def counterfactuals(evidence: Evidence) -> Table:
    """Of every system that reads the image: which labels follow which redrawn mouths."""
    block = evidence.block(GENERATED)
    shown = {v: block[v] for v in SUITE if v in block and measured(block[v], "counterfactuals")}
    rows: list[dict[str, str]] = [
        {
            BLOCK: place_title(GENERATED),
            "system": cell.label + evidence.marks.of(cell, block),
            "n": str(len(measured(cell, "counterfactuals"))),
            "aspects": _counts(measured(cell, "counterfactuals")),
            **{column: _in_row(cell, column) for column in _COLUMNS},
        }
        for cell in shown.values()
    ]
    if not rows:
        nothing = dict.fromkeys(("aspects", *_COLUMNS), NOT_RUN)
        rows = [{BLOCK: place_title(GENERATED), "system": "every system", "n": "0", **nothing}]
    return Table(
        name="counterfactuals",
        title="Counterfactual images: which label follows which mouth (generated tweets, percent)",
        about="In generated tweets a figure's mouth can be drawn anew with nothing else changed. The label of an "
        "aspect that the image tells should follow its own mouth; no other mouth should change any label.",
        findings=_findings(shown),
        frame=pd.DataFrame(rows),
        footer=(
            f"Of the first {COUNTERFACTUAL_TWEETS} test tweets, and of their aspects whose span was found before. Each "
            "aspect's mouth is redrawn in an image of its own; all distractors of a tweet are redrawn together. A span "
            "that is no longer found counts as changed.",
            "A system that ignores the image is unchanged everywhere; where it guesses, the new mouth shows its guess "
            "in one case of three.",
            "A label that was wrong before and what the new mouth shows both follows and is unchanged: the two can add "
            "up to more than 100 %.",
            "Aspects: those told by the image, pooled over n seeds. Rates: mean ± standard deviation over seeds. "
            "Systems that read no image are left out.",
            SELECTION,
            *provenance_footer([shown] if shown else [], evidence.marks),
        ),
    )


def _counts(tallies: list[Any]) -> str:
    return f"{sum(one.own.n for one in tallies):,}"


def _rate(cell: Cell, column: str) -> str:
    values = rates(cell, column)
    return mean_and_sd(values) if values else "-"


def _in_row(cell: Cell, column: str) -> str:
    return of_fewer(_rate(cell, column), rates(cell, column), len(measured(cell, "counterfactuals")))


def _findings(shown: dict[str, Cell]) -> tuple[str, ...]:
    full = shown.get("full")
    if full is None or not all(rates(full, column) for column in _COLUMNS):
        return (f"CLAMP: {NOT_RUN}.",)
    follows, unchanged, told, another, distractors = (_rate(full, column) for column in _COLUMNS)
    sentences = [
        f"CLAMP's label follows the redrawn mouth of {follows} % of the aspects that the image tells, and is what it "
        f"was for {unchanged} % ({seeds(len(measured(full, 'counterfactuals')))}). It is unchanged for {distractors} % "
        f"when all distractors' mouths are redrawn, for {another} % when another aspect's is, and for {told} % when "
        "its own is but the words tell its polarity."
    ]
    column = "own mouth: label follows"
    means = {v: sum(rates(cell, column)) / len(rates(cell, column)) for v, cell in shown.items() if rates(cell, column)}
    best, worst = max(means, key=lambda v: means[v]), min(means, key=lambda v: means[v])
    if means[best] > means[worst]:
        most, least = (
            f"{shown[v].label} ({percent(means[v])} %, {seeds(len(rates(shown[v], column)))})" for v in (best, worst)
        )
        sentences.append(
            f"Of {len(means)} systems that read the image, labels follow most often with {most} and least often with "
            f"{least}."
        )
    return tuple(sentences)
