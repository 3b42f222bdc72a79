"""The paper's own figures against what was measured in its setting: the profile `paper` as it is, and no other."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import PurePath
from typing import Any, NamedTuple

import pandas as pd

from repro.evidence.cells import Cell, Record
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS_AGAINST_PAPER, AgainstPaper, against_paper
from repro.plan.profiles import plan
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, NOTE, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_RUN, mean_and_sd, percent, seeds, signed

TOLERANCE = 0.01


def published_f1(evidence: Evidence, dataset: str) -> float:
    """Joint F1 that the paper reports, in percent."""
    reported = evidence.reported
    row = reported[(reported.dataset == dataset) & (reported.method == "CLAMP") & (reported.task == "MABSA")]
    return float(row.f1.iloc[0])


def in_the_papers_setting(record: Record) -> bool:
    """Whether a record's config is what the profile `paper` plans for its variant, but for the seed and the threads."""
    if record["profile"] != "paper":
        return False
    return _comparable(record["config"]) == _planned(record["experiment"], record["variant"])


@cache
def _planned(dataset: str, variant: str) -> dict[str, Any]:
    (run,) = plan("paper", only=(variant,), datasets=(dataset,), seeds=1)
    return _comparable(run.config.to_dict())


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """Without seed and threads, and weights by their last name: a record names a local folder of them so."""
    config = copy.deepcopy(config)
    del config["train"]["seed"], config["train"]["threads"]
    for encoder in (config["model"]["text"], config["model"]["vision"]["encoder"]):
        encoder["weights"] = encoder["weights"] and PurePath(encoder["weights"]).name
    return config


class Judged(NamedTuple):
    """CLAMP in the paper's setting: its F1 of each seed, the verdict, and how many seeds had other settings."""

    values: list[float]
    against: AgainstPaper
    left_out: int

    @property
    def note(self) -> str:
        return f"{seeds(self.left_out)} run with other settings than the profile's, not judged" if self.left_out else ""


def judge(evidence: Evidence, dataset: str) -> Judged:
    full, cell = _full(evidence, dataset), _judged(evidence, dataset)
    values = cell.test("joint", "f1") if cell else []
    left_out = (full.n if full else 0) - len(values)
    return Judged(values, against_paper(values, published_f1(evidence, dataset) / 100, TOLERANCE), left_out)


def _full(evidence: Evidence, dataset: str) -> Cell | None:
    return evidence.block(("paper", dataset)).get("full")


def _judged(evidence: Evidence, dataset: str) -> Cell | None:
    """Its records that are set against the paper's figure; None where there are none."""
    full = _full(evidence, dataset)
    records = tuple(record for record in full.records if in_the_papers_setting(record)) if full else ()
    return Cell("full", records) if records else None


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
    shown = [{"full": cell} for dataset in ("twitter2015", "twitter2017") if (cell := _judged(evidence, dataset))]
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
