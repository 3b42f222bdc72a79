"""The pointing table: where each stage looks for the aspects that only the image tells (generated tweets)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repro.evidence import chance
from repro.evidence.cells import GENERATED, Block
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import best_stage, pointing_report
from repro.plan.variants import SUITE
from repro.records.run import Pointing, StagePointing
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.wording import NOT_RUN, mean_and_sd, seeds


def stages_of_seeds(reports: Sequence[Pointing]) -> list[tuple[StagePointing, ...]]:
    """Of each stage what every seed has; nothing where seeds differ in their stages, which then have no mean."""
    levels = {tuple(stage.level for stage in report.stages) for report in reports}
    return list(zip(*(report.stages for report in reports), strict=True)) if len(levels) == 1 else []


def pointing(evidence: Evidence) -> Table | None:
    """Where each stage of every system looks for the aspects that only the image tells; None where nothing was run."""
    if not evidence.block(GENERATED):
        return None
    block, marks = {v: cell for v, cell in evidence.block(GENERATED).items() if v in SUITE}, evidence.marks
    rows, findings, unlike = [], [], []
    for cell in block.values():
        best = [stage for record in cell.records if (stage := best_stage(record))]
        reports = [report for record in cell.records if (report := pointing_report(record, "test"))]
        if len(best) < cell.n:
            continue  # no image path, or no aspect that only the image tells
        if cell.variant == "full":
            findings.append(
                f"CLAMP points at the right cell for {mean_and_sd([s.pointing for s in best])} percent of the "
                f"aspects that only the image tells, at the stage that points best on dev (n = {cell.n})."
            )
            findings += _course(reports)
        by_stage = stages_of_seeds(reports)
        unlike += [] if by_stage else [cell.label]
        for title, stages in [*((f"{k}", stages) for k, stages in enumerate(by_stage, 1)), ("best on dev", best)]:
            rows.append(
                {
                    BLOCK: "Profile synthetic",
                    "variant": cell.label + marks.of(cell, block),
                    "stage": title,
                    "level": ", ".join(sorted({stage.level for stage in stages})),
                    "n": str(cell.n),
                    "aspects": ", ".join(sorted({str(stage.n) for stage in stages})),
                    "pointing accuracy": mean_and_sd([stage.pointing for stage in stages]),
                    "mass on distractors": mean_and_sd([stage.distractor_mass for stage in stages]),
                }
            )
    columns = [BLOCK, "variant", "stage", "level", "n", "aspects", "pointing accuracy", "mass on distractors"]
    return Table(
        name="pointing_synthetic",
        title="Where the attention looks: generated tweets (test split, percent)",
        about="In generated tweets the region that shows an aspect is known, so that attention can be held against it.",
        findings=tuple(findings) or (f"CLAMP: {NOT_RUN}.",),
        frame=pd.DataFrame(rows, columns=columns),
        footer=(
            "Pointing accuracy: the region with the most attention, averaged over heads and the aspect's words, lies "
            "in the cell that shows the aspect; a region of several cells scores one part in as many. Mean ± standard "
            "deviation over n seeds.",
            "Mass on distractors: the share of the attention, averaged in the same way over the same aspects, that "
            "falls on cells with figures that the tweet does not mention; a region of several cells counts in parts.",
            *_chance(block),
            *([f"Seeds with unlike stages, so that only the best is shown: {'; '.join(unlike)}."] if unlike else []),
            SELECTION,
            *provenance_footer([block], marks),
        ),
    )


def _course(reports: Sequence[Pointing]) -> list[str]:
    """Where CLAMP's stages look, one after the other; nothing where seeds have unlike stages."""
    course = [
        f"{mean_and_sd([s.pointing for s in stages])} percent at stage {k} ({stages[0].level}), with "
        f"{mean_and_sd([s.distractor_mass for s in stages])} percent of the attention on distractors"
        for k, stages in enumerate(stages_of_seeds(reports), 1)
    ]
    return [f"By stage, CLAMP points right for {'; '.join(course)} ({seeds(len(reports))})."] if course else []


def _chance(block: Block) -> list[str]:
    """What attention that knows nothing would score, where all runs are on images of one kind."""
    data = [record.config["data"]["synthetic"] for cell in block.values() for record in cell.records]
    kinds = {(chance.pointing(one), chance.distractor_mass(one)) for one in data}
    if len(kinds) != 1:
        return []
    ((pointing, mass),) = kinds
    return [
        f"Chance: a region picked at random points right for {100 * pointing:g} percent, and attention spread evenly "
        f"over the image has {100 * mass:g} percent on distractors."
    ]
