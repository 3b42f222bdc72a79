"""The paper's own figures against what was measured in its setting: the profile `paper`, and no other."""

from __future__ import annotations

import pandas as pd

from repro.evidence import Evidence
from repro.footer import SELECTION, provenance_footer
from repro.render import BLOCK, NOT_RUN, Table, mean_and_sd, percent, seeds, signed
from repro.rows import place_title
from repro.stats import LEAST_SEEDS_AGAINST_PAPER, AgainstPaper, against_paper

TOLERANCE = 0.01


def published_f1(evidence: Evidence, dataset: str) -> float:
    """Joint F1 that the paper reports, in percent."""
    reported = evidence.reported
    row = reported[(reported.dataset == dataset) & (reported.method == "CLAMP") & (reported.task == "MABSA")]
    return float(row.f1.iloc[0])


def judge(evidence: Evidence, dataset: str) -> tuple[list[float], AgainstPaper]:
    """CLAMP's F1 of each seed of the paper profile, and the verdict."""
    block = evidence.block(("paper", dataset))
    values = block["full"].test("joint", "f1") if "full" in block else []
    return values, against_paper(values, published_f1(evidence, dataset) / 100, TOLERANCE)


def verdict_sentence(evidence: Evidence, dataset: str) -> str:
    values, judged = judge(evidence, dataset)
    published = published_f1(evidence, dataset)
    text = f"Against the {published} F1 that the paper reports, with a tolerance of 1.0: {judged.verdict}"
    if judged.difference is None:
        return f"{text}."
    half = "" if judged.half_width is None else f", prediction half-width {percent(judged.half_width)}"
    return f"{text} (difference {signed(judged.difference)}, {seeds(len(values))}{half})."


def paper_verdicts(evidence: Evidence) -> Table:
    """One row a data set."""
    rows = []
    for dataset in ("twitter2015", "twitter2017"):
        values, judged = judge(evidence, dataset)
        rows.append(
            {
                BLOCK: "Joint F1 of CLAMP",
                "data set": place_title(("paper", dataset)),
                "n": str(len(values)),
                "paper": str(published_f1(evidence, dataset)),
                "measured": mean_and_sd(values) if values else NOT_RUN,
                "difference": NOT_RUN if judged.difference is None else signed(judged.difference),
                "half-width": "-" if judged.half_width is None else percent(judged.half_width),
                "verdict": judged.verdict,
            }
        )
    shown = [{"full": block["full"]} for (profile, _), block in evidence.grouped.items()
             if profile == "paper" and "full" in block]  # fmt: skip
    return Table(
        name="paper_verdicts",
        title="The paper's figures against measured ones",
        about="Only runs with the paper's data, images and encoders of its size are set against its figures; what "
        "those encoders were is not known.",
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
