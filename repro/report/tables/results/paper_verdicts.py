"""The table of the paper's own figures against what was measured in its setting."""

from __future__ import annotations

import pandas as pd

from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS_AGAINST_PAPER
from repro.report.against_paper import judge, judged_cell, published_f1
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, NOTE, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_RUN, mean_and_sd, percent, seeds, signed


def verdict_sentence(evidence: Evidence, dataset: str) -> str:
    values, against, _ = judged = judge(evidence, dataset)
    note = f" {judged.note[0].upper()}{judged.note[1:]}." if judged.note else ""
    published = published_f1(evidence, dataset)
    text = f"Against the {published} F1 that the paper reports, with a tolerance of 1.0: {against.verdict}"
    if against.difference is None:
        return f"{text}.{note}"
    half = "" if against.half_width is None else f", prediction half-width {percent(against.half_width)}"
    return f"{text} (difference {signed(against.difference)}, {seeds(len(values))}{half}).{note}"


def paper_verdicts(evidence: Evidence) -> Table:
    """One row a data set."""
    rows = []
    for dataset in ("twitter2015", "twitter2017"):
        values, against, _ = judged = judge(evidence, dataset)
        rows.append(
            {
                BLOCK: "Joint F1 of CLAMP",
                "data set": place_title(("paper", dataset)),
                "n": str(len(values)),
                "paper": str(published_f1(evidence, dataset)),
                "measured": mean_and_sd(values) if values else NOT_RUN,
                "difference": NOT_RUN if against.difference is None else signed(against.difference),
                "half-width": "-" if against.half_width is None else percent(against.half_width),
                "verdict": against.verdict,
                NOTE: judged.note,
            }
        )
    shown = [{"full": cell} for dataset in ("twitter2015", "twitter2017") if (cell := judged_cell(evidence, dataset))]
    return Table(
        name="paper_verdicts",
        title="The paper's figures against measured ones",
        about="Only runs with the paper's data, images and encoders of its size, in all settings of the profile "
        "`paper`, are set against its figures; what those encoders were is not known.",
        findings=tuple(
            f"{place_title(('paper', dataset))}. {verdict_sentence(evidence, dataset)}"
            for dataset in ("twitter2015", "twitter2017")
        ),
        frame=pd.DataFrame(rows),
        footer=(
            "Half-width: of the 95 % prediction interval for one more run, t s sqrt(1 + 1/n), because the paper's "
            "figure may be one run. More than twice the tolerance of 1.0 F1, or fewer than "
            f"{LEAST_SEEDS_AGAINST_PAPER} seeds: inconclusive; within the tolerance: reproduced; beyond both tolerance "
            "and half-width: higher or lower; else inconclusive.",
            SELECTION,
            *provenance_footer(shown, evidence.marks),
        ),
    )
