"""Does adaptive weighting reduce gradient interference? Cosines between tasks' gradients, and how much steps vary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clamp.config import TASKS
from repro.evidence.by_seed import BySeed, difference, of_records
from repro.evidence.cells import PLACES, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import cosines, in_order, loss_sd, mean_cosine, negative_share, relative_norm_sd
from repro.evidence.stats import summarise
from repro.records.run import RunRecord
from repro.report.ledger import Entry, answer, entry_of, ledger
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, frame_by_place, place_title
from repro.report.wording import NOT_RECORDED, NOT_RUN, difference_in_words, mean_and_sd, number, of_fewer, seeds

WEIGHTINGS = {"full": "AMA", "no_ama": "equal weights", "fixed_weights": "fixed weights"}


def _over_epochs(course: Callable[[RunRecord], list[float] | None]) -> Callable[[RunRecord], float | None]:
    """The mean from the second epoch on: the first one's deviation is mostly the loss's descent."""

    def value(record: RunRecord) -> float | None:
        settled = (course(record) or [])[1:]
        return float(np.mean(settled)) if settled else None

    return value


_LOSS_SD = {task: _over_epochs(lambda record, task=task: loss_sd(record, task)) for task in TASKS}  # type: ignore[misc]
_NORM_SD = _over_epochs(relative_norm_sd)


def _three_digits(values: Sequence[float]) -> str:
    return number(values, digits=3)


def pairs(evidence: Evidence, place: Place) -> list[str]:
    """Every pair of tasks that some run there has cosines of, in the order of TASKS."""
    cells = [evidence.block(place)[v] for v in WEIGHTINGS if v in evidence.block(place)]
    return in_order({pair for cell in cells for record in cell.records for pair in cosines(record)})


def interference(evidence: Evidence) -> Table:
    """Adaptive, equal and fixed weights beside each other at each place."""
    claims = ledger(evidence)

    def columns(place: Place) -> list[str]:
        return [
            "negative cosines", "mean cosine", *(f"negative: {pair}" for pair in pairs(evidence, place)),
            *(f"sd of {task} loss" for task in TASKS), "relative sd of gradient norm",
        ]  # fmt: skip

    def row(place: Place, cell: Cell) -> TextRow:
        made: dict[str, tuple[Any, BySeed]] = {
            "negative cosines": (mean_and_sd, of_records(cell, negative_share)),
            "mean cosine": (number, of_records(cell, mean_cosine)),
            **{f"sd of {task} loss": (_three_digits, of_records(cell, value)) for task, value in _LOSS_SD.items()},
            "relative sd of gradient norm": (_three_digits, of_records(cell, _NORM_SD)),
        }
        for pair in pairs(evidence, place):
            of_pair = of_records(cell, lambda record, pair=pair: negative_share(record, pair))  # type: ignore[misc]
            made[f"negative: {pair}"] = (mean_and_sd, of_pair)
        shown = {name: (text, list(of_seeds.values())) for name, (text, of_seeds) in made.items()}
        return {name: of_fewer(text(v), v, cell.n) if v else NOT_RECORDED for name, (text, v) in shown.items()}

    return Table(
        name="interference",
        title="Does adaptive weighting reduce gradient interference?",
        about="At some twenty steps of a run the gradients that each task's loss has on the text encoder are compared: "
        "where their cosine is negative, a step along one raises the other's loss. The cosines do not depend on the "
        "weights of the moment; the course of training does.",
        findings=tuple(_finding(evidence, place, claims[place]) for place in PLACES),
        frame=frame_by_place(evidence, columns, row, lambda place: tuple(WEIGHTINGS)),
        footer=(
            "Negative cosines: share of those sampled, in percent, of all pairs of tasks and of each. The standard "
            "deviations (sd) are over the steps of an epoch, averaged over epochs from the second on (in the first "
            "they are mostly the descent): of each task's loss, unweighted, and of the norm of the weighted sum's "
            "gradient before clipping, over its mean. That ratio takes out the scale of constant weights; AMA's "
            "change within an epoch, and their trend is in it too. A variance is the square. Cells: mean ± standard "
            "deviation over seeds.",
            "Yes and no are the verdicts of the claims' table: CLAMP against equal weights, t test over seeds, "
            "adjusted there. Other differences are described, not tested.",
            SELECTION,
            *provenance_footer(
                [{v: block[v] for v in WEIGHTINGS if v in block} for block in evidence.grouped.values()],
                evidence.marks,
            ),
        ),
    )


def _finding(evidence: Evidence, place: Place, entries: list[Entry]) -> str:
    block = evidence.block(place)
    shares = {v: of_records(block.get(v), negative_share) for v in WEIGHTINGS}
    start = f"{place_title(place)}: does adaptive weighting (AMA) reduce gradient interference?"
    if not shares["full"]:
        return f"{start} {NOT_RECORDED.capitalize() if 'full' in block else NOT_RUN.capitalize()}."
    entry = entry_of(entries, "interference")
    listed = ", ".join(
        f"{mean_and_sd(list(of_seed.values()))} % with {WEIGHTINGS[v]} ({seeds(len(of_seed))})"
        for v, of_seed in shares.items()
        if of_seed
    )
    parts = [f"Negative are {listed} of the sampled cosines."]
    apart = {v: difference(shares[v], shares["full"]) for v in shares if v != "full"}
    for variant, values in apart.items():
        if values:
            parts.append(f"{WEIGHTINGS[variant].capitalize()} minus AMA: {difference_in_words(values)} points.")
    varies = {f"of the {task} loss": value for task, value in _LOSS_SD.items()}
    varies["of the gradient's norm, relative to its mean,"] = _NORM_SD
    deviations = []
    for what, value in varies.items():
        means = {WEIGHTINGS[v]: list(of_records(block.get(v), value).values()) for v in WEIGHTINGS}
        by_weighting = ", ".join(f"{summarise(of).mean:.3f} ({name})" for name, of in means.items() if of)
        if by_weighting:
            deviations.append(f"{what} {by_weighting}")
    if deviations:
        parts.append(f"From the second epoch on the standard deviations within an epoch are: {'; '.join(deviations)}.")
    verdict = answer(entry)
    return f"{start} {verdict[0].upper()}{verdict[1:]}. {' '.join(parts)}"
