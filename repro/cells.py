"""Records grouped for reporting: a cell holds the seeds of one variant on one data set under one profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from clamp.data import SPLITS
from repro.experiments import PROFILES, VARIANTS
from repro.stats import (
    LEAST_SEEDS,
    RESAMPLES,
    Difference,
    Standing,
    approximate_randomisation,
    holm,
    paired_bootstrap,
    paired_t,
    standing,
)

Record = dict[str, Any]
PLACES = [(profile, dataset) for profile, made in PROFILES.items() for dataset in made.seeds]
DATASET_TITLES = {"synthetic": "generated tweets", "twitter2015": "Twitter-2015", "twitter2017": "Twitter-2017"}


@dataclass(frozen=True)
class Cell:
    """The records of one variant, one a seed, in the order of their seeds."""

    variant: str
    records: tuple[Record, ...]

    @property
    def label(self) -> str:
        return VARIANTS[self.variant].label

    @property
    def n(self) -> int:
        return len(self.records)

    def test(self, task: str, score: str) -> list[float]:
        """One test score a seed, such as ("joint", "f1"), in 0..1."""
        return [record["result"]["metrics"]["test"][task][score] for record in self.records]

    def by_seed(self) -> dict[int, Record]:
        return {record["seed"]: record for record in self.records}


Block = dict[str, Cell]  # variant -> its cell; a variant that was not run is absent


def blocks(records: Sequence[Record]) -> dict[tuple[str, str], Block]:
    """The cells of each (profile, experiment) with records; profiles, data sets, variants and seeds in fixed order."""
    found: dict[tuple[str, str], Block] = {}
    ran = {(record["profile"], record["experiment"]) for record in records}
    for place in [place for place in PLACES if place in ran]:
        found[place] = {}
        for variant in VARIANTS:
            of_variant = [r for r in records if (r["profile"], r["experiment"], r["variant"]) == (*place, variant)]
            if of_variant:
                found[place][variant] = Cell(variant, tuple(sorted(of_variant, key=lambda record: record["seed"])))
    return found


@dataclass(frozen=True)
class Comparison:
    """Joint test F1 of one cell minus another's, over the seeds that both have; None where too few seeds forbid a test.

    `p_tweets` and `p_seeds` are adjusted over the comparisons made together; `p_randomisation` is a plain check.
    """

    seeds: int
    difference: float | None
    bootstrap: Difference | None
    p_tweets: float | None
    p_seeds: float | None
    p_randomisation: float | None
    standing: Standing


def compare(pairs: Sequence[tuple[Cell, Cell]], resamples: int = RESAMPLES) -> list[Comparison]:
    """Compare each pair's first cell with its second, and adjust the p values over all pairs (Holm).

    Seeds are paired where both ran on the same tweets. Fewer than three shared seeds: a difference without a test.
    """
    shared = [_shared_records(ours, other) for ours, other in pairs]
    tested = [i for i, (ours, _) in enumerate(shared) if len(ours) >= LEAST_SEEDS]
    bootstraps = {i: paired_bootstrap(_counts(shared[i][0]), _counts(shared[i][1]), resamples) for i in tested}
    p_tweets = dict(zip(tested, holm([bootstraps[i].p for i in tested]), strict=True))
    p_seeds = dict(zip(tested, holm([paired_t(_f1(shared[i][0]), _f1(shared[i][1])) for i in tested]), strict=True))
    comparisons = []
    for i, (ours, other) in enumerate(shared):
        difference = float(np.mean(_f1(ours)) - np.mean(_f1(other))) if ours else None
        randomised = approximate_randomisation(_counts(ours), _counts(other), resamples) if i in bootstraps else None
        verdict = standing(difference or 0.0, p_tweets.get(i), p_seeds.get(i))
        comparisons.append(
            Comparison(len(ours), difference, bootstraps.get(i), p_tweets.get(i), p_seeds.get(i), randomised, verdict)
        )
    return comparisons


def _shared_records(ours: Cell, other: Cell) -> tuple[list[Record], list[Record]]:
    """The two cells' records of the seeds that both have, all on the tweets of the first cell's first record."""
    tweets = _tweets(ours.records[0])
    ours_by_seed, other_by_seed = ours.by_seed(), other.by_seed()
    pairs = [(ours_by_seed[seed], other_by_seed[seed]) for seed in ours_by_seed if seed in other_by_seed]
    same_tweets = [pair for pair in pairs if all(_tweets(record) == tweets for record in pair)]
    return [a for a, _ in same_tweets], [b for _, b in same_tweets]


def _tweets(record: Record) -> dict[str, str]:
    """The digests of the annotated splits. What a system sees of the images is its own: text only sees nothing."""
    return {name: sha for name, sha in record["provenance"]["data"].items() if PurePosixPath(name).stem in SPLITS}


def _f1(records: Sequence[Record]) -> list[float]:
    return [record["result"]["metrics"]["test"]["joint"]["f1"] for record in records]


def _counts(records: Sequence[Record]) -> np.ndarray:
    """(S, N, 3) per-tweet counts."""
    return np.array([record["result"]["per_tweet"]["test"] for record in records])
