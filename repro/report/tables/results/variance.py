"""Where the noise is: seeds against the size of the test set, what could be detected, and what it cost."""

from __future__ import annotations

import numpy as np

from repro.evidence.cells import PLACES, Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.stats import detectable_over_seeds, minimum_detectable_difference, summarise
from repro.plan.variants import STANDING
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, frame_by_place, place_title
from repro.report.wording import NOT_RECORDED, NOT_RUN, percent

_COLUMNS = ["F1", "sd over seeds", "sd over tweets", "seeds' share", "detectable, tweets", "detectable, seeds",
            "core-hours"]  # fmt: skip


def variance(evidence: Evidence) -> Table:
    """One row a cell, whatever it is."""
    sd_over_tweets = {
        place: {variant: _sd_over_tweets(cell, evidence.resamples) for variant, cell in evidence.block(place).items()}
        for place in PLACES
    }

    def row(place: Place, cell: Cell) -> TextRow:
        summary, over_tweets = summarise(cell.test("joint", "f1")), sd_over_tweets[place][cell.variant]
        made = {
            "F1": percent(summary.mean),
            "sd over tweets": percent(over_tweets),
            "core-hours": NOT_RECORDED if (hours := core_hours(cell)) is None else f"{hours:.2f}",
        }
        if summary.sd is not None:
            total = summary.sd**2 + over_tweets**2
            made["sd over seeds"] = percent(summary.sd)
            made["seeds' share"] = f"{summary.sd**2 / total:.0%}" if total else "-"
        compared = evidence.against_full.get(place, {}).get(cell.variant)
        if compared is not None and compared.bootstrap is not None:
            made["detectable, tweets"] = percent(minimum_detectable_difference(compared.bootstrap.standard_error))
            made["detectable, seeds"] = percent(detectable_over_seeds(compared.by_seed))
        return made

    def variants(place: Place) -> list[str]:
        return [variant for variant in STANDING if variant in evidence.block(place)]

    return Table(
        name="variance",
        title="Variance over seeds and over the test set, detectable differences, core-hours (joint test F1, percent)",
        about="A measured F1 differs from the next one because the seed differs and because the test set is one sample "
        "of tweets; which of the two is larger says whether seeds or tweets are wanted.",
        findings=tuple(_finding(place, evidence.block(place), sd_over_tweets[place]) for place in PLACES),
        frame=frame_by_place(evidence, lambda place: _COLUMNS, row, variants),
        footer=(
            "Sd over tweets: of one run's F1 over bootstrap resamples of the test set, root mean square over seeds. "
            "Seeds' share: of the sum of both variances.",
            "Detectable: the smallest true difference to CLAMP that the paired test over tweets, or over seeds, would "
            "find four times in five, unadjusted; three seeds at least.",
            "Core-hours: processor time of training, all threads, summed over seeds.",
            SELECTION,
            *provenance_footer(list(evidence.grouped.values()), evidence.marks),
        ),
    )


def _sd_over_tweets(cell: Cell, resamples: int) -> float:
    return float(np.sqrt(cell.resampled_f1(resamples).var(axis=0, ddof=1).mean()))


def core_hours(cell: Cell) -> float | None:
    """Of all its runs; None where one of them, made by earlier sources, did not record its processor time."""
    seconds = [s for record in cell.records if (s := record.result.cost.cpu_seconds) is not None]
    return sum(seconds) / 3600 if len(seconds) == cell.n else None


def _finding(place: Place, block: Block, sd_over_tweets: dict[str, float]) -> str:
    cells = list(block.values())
    several = [cell for cell in cells if cell.n > 1]
    if not cells:
        return f"{place_title(place)}: {NOT_RUN}."
    recorded = [hours for hours in map(core_hours, cells) if hours is not None]
    hours = f"{sum(recorded):.1f} core-hours" if len(recorded) == len(cells) else f"core-hours {NOT_RECORDED}"
    hours += f" for {sum(cell.n for cell in cells)} runs"
    if not several:
        return f"{place_title(place)}: {hours}; one seed a system, so nothing is known of the spread over seeds."
    seeds_first = sum(
        float(np.std(cell.test("joint", "f1"), ddof=1)) > sd_over_tweets[cell.variant] for cell in several
    )
    return (
        f"{place_title(place)}: {hours}; seeds vary more than the test set does in {seeds_first} of {len(several)} "
        "systems with more than one seed."
    )
