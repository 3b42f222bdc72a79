"""The paper's own figures against what was measured in its setting: the profile `paper` as it is, and no other."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import PurePath
from typing import Any, NamedTuple

from repro.evidence.cells import Cell
from repro.evidence.evidence import Evidence
from repro.evidence.stats import AgainstPaper, against_paper
from repro.plan.profiles import plan
from repro.records.run import RunRecord
from repro.report.wording import seeds

TOLERANCE = 0.01


def published_f1(evidence: Evidence, dataset: str) -> float:
    """Joint F1 that the paper reports, in percent."""
    reported = evidence.reported
    row = reported[(reported.dataset == dataset) & (reported.method == "CLAMP") & (reported.task == "MABSA")]
    return float(row.f1.iloc[0])


def in_the_papers_setting(record: RunRecord) -> bool:
    """Whether a record's config is what the profile `paper` plans for its variant, but for the seed and the threads."""
    if record.profile != "paper":
        return False
    return _comparable(record.config) == _planned(record.experiment, record.variant)


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
    """CLAMP's runs on a data set against the paper's figure, as far as they are in its setting."""
    full, cell = _full(evidence, dataset), judged_cell(evidence, dataset)
    values = cell.test("joint", "f1") if cell else []
    left_out = (full.n if full else 0) - len(values)
    return Judged(values, against_paper(values, published_f1(evidence, dataset) / 100, TOLERANCE), left_out)


def _full(evidence: Evidence, dataset: str) -> Cell | None:
    return evidence.block(("paper", dataset)).get("full")


def judged_cell(evidence: Evidence, dataset: str) -> Cell | None:
    """Its records that are set against the paper's figure; None where there are none."""
    full = _full(evidence, dataset)
    records = tuple(record for record in full.records if in_the_papers_setting(record)) if full else ()
    return Cell("full", records) if records else None
