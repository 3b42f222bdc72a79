"""Where on real tweets the image helps and where it hurts: CLAMP minus text only, by parts of the test tweets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.evaluate.slices import SLICES, SliceName
from repro.evidence.by_seed import BySeed, difference, of_evaluations
from repro.evidence.cells import PLACES, Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS, t_interval
from repro.plan.variants import VARIANTS
from repro.records.evaluation import Evaluation
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_EVALUATED, NOT_RECORDED, NOT_RUN, between, mean_and_sd, seeds, signed

SYSTEMS = ("full", "caption_concat", "text_only")
_APART = {"CLAMP minus text only": ("full", "text_only"), "caption minus text only": ("caption_concat", "text_only")}
_TITLES: dict[SliceName, str] = {
    "named": "the aspect's name in the image's words",
    "polarity": "polarity",
    "aspects": "aspects in the tweet",
    "mood": "polarities and the image's mood",
}


def slices(evidence: Evidence) -> Table:
    """A row for each part of the test tweets."""
    rows = []
    for place in _real_places():
        block = evidence.block(place)
        for name, values in SLICES.items():
            rows += [{BLOCK: place_title(place), **_row(block, name, value)} for value in values]
    shown = [{v: block[v] for v in SYSTEMS if v in block} for block in map(evidence.block, _real_places())]
    return Table(
        name="slices",
        title="Where the image helps on real tweets, and where it hurts (joint F1, percent)",
        about="The same checkpoints as in the main results, their test tweets divided by what they are like: a system "
        "that reads the image should gain where the image tells something.",
        findings=tuple(_finding(place, evidence.block(place)) for place in _real_places()),
        frame=pd.DataFrame(rows),
        footer=(
            "Name in the image's words: whether the words of the span, predicted or gold, stand in what two captioners "
            "said of the image, one after the other, cases and signs aside. Polarity: the span's own. Aspects: how "
            "many the tweet has. Mood: whether all polarities of the tweet's aspects are the mood that a language "
            "model named for the image (as the image), one of them is its opposite (against it), or neither. The "
            "last two divide tweets, with all spans that were predicted in them; tweets without a mood are left out.",
            "Gold: how many annotated aspects there are. Differences are of the same seeds, with a 95 % t interval "
            f"over seeds from {LEAST_SEEDS} on: with the tweets as given, and so many parts looked at, one interval "
            "without 0 is no finding. Nothing is tested here.",
            SELECTION,
            *provenance_footer([block for block in shown if block], evidence.marks),
        ),
    )


def _real_places() -> list[Place]:
    return [place for place in PLACES if place[1] != "synthetic"]


def f1_of(cell: Cell | None, name: SliceName, value: str) -> BySeed:
    """F1 in 0..1 of each evaluated seed on one part; nothing of one whose evaluation did not keep it."""

    def score(evaluation: Evaluation) -> float | None:
        counts = evaluation.slices.get(name, {}).get(value)
        return None if counts is None else counts.f1

    return of_evaluations(cell, score)


def _row(block: Block, name: SliceName, value: str) -> dict[str, str]:
    row = {"by": _TITLES[name], "part": value, "gold": _gold(block, name, value)}
    for system in SYSTEMS:
        values = list(f1_of(block.get(system), name, value).values())
        row[VARIANTS[system].label] = mean_and_sd(values) if values else _why_nothing(block.get(system))
    for column, (one, other) in _APART.items():
        apart = difference(f1_of(block.get(one), name, value), f1_of(block.get(other), name, value))
        row[column] = _apart(apart)
    return row


def _gold(block: Block, name: SliceName, value: str) -> str:
    counts = [
        e.evaluation.slices[name][value].gold
        for system in SYSTEMS
        for e in (block[system].evaluations if system in block else ())
        if value in e.evaluation.slices.get(name, {})
    ]
    return str(counts[0]) if counts else "-"


def _why_nothing(cell: Cell | None) -> str:
    if cell is None:
        return NOT_RUN
    return NOT_RECORDED if cell.evaluations else NOT_EVALUATED


def _apart(values: Sequence[float]) -> str:
    if not values:
        return "-"
    size = signed(float(np.mean(values)))
    return (
        f"{size} ({between(*t_interval(values))})" if len(values) >= LEAST_SEEDS else f"{size} ({seeds(len(values))})"
    )


def _finding(place: Place, block: Block) -> str:
    """Where CLAMP's lead over text only is largest and smallest."""
    apart = {
        (name, value): difference(f1_of(block.get("full"), name, value), f1_of(block.get("text_only"), name, value))
        for name, values in SLICES.items()
        for value in values
    }
    means = {part: float(np.mean(values)) for part, values in apart.items() if values}
    if not means:
        missing = [v for v in ("full", "text_only") if v not in block]
        return f"{place_title(place)}: {NOT_RUN if missing else NOT_RECORDED}."

    def said(part: tuple[SliceName, str]) -> str:
        return f"by {_TITLES[part[0]]}, {part[1]}: {_apart(apart[part])}"

    most, least = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return f"{place_title(place)}, CLAMP minus text only in points: most {said(most)}; least {said(least)}."
