"""Records grouped for reporting: a cell holds the seeds of one variant on one data set under one profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repro.evidence.stats import resampled_f1
from repro.plan.profiles import PROFILES
from repro.plan.variants import STANDING, VARIANTS
from repro.records.evaluation import EvaluationRecord
from repro.records.run import Head, RunRecord

Place = tuple[str, str]  # profile, data set
PLACES: list[Place] = [(profile, dataset) for profile, made in PROFILES.items() for dataset in made.seeds]
GENERATED: Place = ("synthetic", "synthetic")
DATASET_TITLES = {"synthetic": "generated tweets", "twitter2015": "Twitter-2015", "twitter2017": "Twitter-2017"}
REAL = ("twitter2015", "twitter2017")
POOLED = "pooled"  # what stands for both of the real data sets, as one test set
TITLES = {**DATASET_TITLES, POOLED: "Twitter-2015 and 2017 pooled"}


@dataclass(frozen=True)
class Cell:
    """The records of one variant, one a seed, in the order of their seeds, and what there is of their evaluations."""

    variant: str
    records: tuple[RunRecord, ...]
    evaluations: tuple[EvaluationRecord, ...] = ()

    @property
    def label(self) -> str:
        return VARIANTS[self.variant].label

    @property
    def n(self) -> int:
        return len(self.records)

    def test(self, task: str, score: str) -> list[float]:
        """One test score a seed, such as ("joint", "f1"), in 0..1."""
        return [getattr(getattr(record.result.metrics["test"], task), score) for record in self.records]

    def resampled_f1(self, resamples: int) -> np.ndarray:
        """(R, S) joint test F1 of each seed in every resample of the tweets."""
        return np.concatenate([resampled_f1(counts([record]), resamples) for record in self.records], axis=1)

    def by_seed(self) -> dict[int, RunRecord]:
        return {record.seed: record for record in self.records}


Block = dict[str, Cell]  # variant -> its cell; a variant that was not run is absent


def blocks(
    records: Sequence[RunRecord], evaluations: Sequence[EvaluationRecord] = (), variants: Sequence[str] = STANDING
) -> dict[Place, Block]:
    """The cells of each place with records of these variants; profiles, data sets, variants, seeds in fixed order.

    An evaluation counts where it is of the very run that is there.
    """
    found: dict[Place, Block] = {}
    evaluated = {_run_of(evaluation): evaluation for evaluation in evaluations}
    ran = {(record.profile, record.experiment) for record in records if record.variant in variants}
    for place in [place for place in PLACES if place in ran]:
        found[place] = {}
        for variant in variants:
            of_variant = [r for r in records if (r.profile, r.experiment, r.variant) == (*place, variant)]
            if of_variant:
                of_variant.sort(key=lambda record: record.seed)
                theirs = tuple(evaluated[_run_of(r)] for r in of_variant if _run_of(r) in evaluated)
                found[place][variant] = Cell(variant, tuple(of_variant), theirs)
    return found


def image_told_shares(block: Block) -> list[float]:
    """Which shares of the polarities only the image tells, in the generated tweets of these runs."""
    data = [record.config["data"] for cell in block.values() for record in cell.records]
    return sorted({one["synthetic"]["image_told_share"] for one in data if one["name"] == "synthetic"})


def _run_of(record: Head) -> tuple[object, ...]:
    return record.profile, record.experiment, record.variant, record.seed, record.key


def counts(records: Sequence[RunRecord]) -> np.ndarray:
    """(S, N, 3) per-tweet counts of spans: right, predicted, gold."""
    return np.array([record.result.per_tweet["test"] for record in records])
