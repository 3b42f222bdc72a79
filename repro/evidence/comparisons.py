"""Systems compared by joint F1 on test, over the seeds that all of them have, with p adjusted over a table (Holm)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from clamp.data import SPLITS
from repro.evidence.cells import Cell, counts
from repro.evidence.crossed import Crossed, crossed_effects, per_tweet_f1
from repro.evidence.stats import (
    LEAST_SEEDS,
    RESAMPLES,
    Difference,
    Standing,
    approximate_randomisation,
    holm,
    pooled_contrast,
    standing,
    t_against_zero,
)
from repro.records.run import RunRecord


@dataclass(frozen=True)
class Comparison:
    """A contrast of joint test F1 over the seeds that all its cells have; None where too few of them forbid a test.

    `by_seed` is its value for each of them. `p_tweets`, `p_seeds` and `p_crossed` (seeds and tweets both random) are
    adjusted over the comparisons of one table; `p_randomisation` is a plain check, of two systems only. `tweets` is how
    many there are.
    """

    by_seed: tuple[float, ...]
    bootstrap: Difference | None
    p_tweets: float | None
    p_seeds: float | None
    p_randomisation: float | None
    crossed: Crossed | None = None
    p_crossed: float | None = None
    tweets: int = 0

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def difference(self) -> float | None:
        return float(np.mean(self.by_seed)) if self.by_seed else None

    @property
    def standing(self) -> Standing:
        return standing(self.difference or 0.0, self.p_tweets, self.p_seeds)

    def turned(self) -> Comparison:
        """The other minus the one."""
        return replace(
            self,
            by_seed=tuple(-value for value in self.by_seed),
            bootstrap=self.bootstrap and self.bootstrap.turned(),
            crossed=self.crossed and self.crossed.turned(),
        )


Contrast = Sequence[tuple[float, Cell]]  # weights and what they are of


def compare(pairs: Sequence[tuple[Cell, Cell]], resamples: int = RESAMPLES) -> list[Comparison]:
    """Each pair's first cell minus its second, as `compare_contrasts`."""
    return compare_contrasts([((1.0, ours), (-1.0, other)) for ours, other in pairs], resamples)


def compare_contrasts(contrasts: Sequence[Contrast], resamples: int = RESAMPLES) -> list[Comparison]:
    """Test each contrast, and adjust the p values over all of them (Holm).

    Seeds are paired where all ran on the same tweets. Fewer than three shared seeds: a difference without a test.
    """
    return adjusted([_tested(contrast, resamples) for contrast in contrasts])


def adjusted(comparisons: Sequence[Comparison], others: Sequence[float] = ()) -> list[Comparison]:
    """The same, as adjusted when these are the comparisons of one table (Holm), whatever they were adjusted over.

    `others` are the p values of that table's other tests over seeds.
    """
    tested = [i for i, comparison in enumerate(comparisons) if comparison.bootstrap is not None]

    def by_place(p_values: Sequence[float]) -> dict[int, float]:
        return dict(zip(tested, holm(p_values)[: len(tested)], strict=True))

    p_tweets = by_place([c.bootstrap.p for c in comparisons if c.bootstrap is not None])
    p_seeds = by_place([*p_over_seeds(comparisons), *others])
    p_crossed = by_place([*(c.crossed.p for c in comparisons if c.crossed is not None), *others])
    return [
        replace(c, p_tweets=p_tweets.get(i), p_seeds=p_seeds.get(i), p_crossed=p_crossed.get(i))
        for i, c in enumerate(comparisons)
    ]


def p_over_seeds(comparisons: Sequence[Comparison]) -> list[float]:
    """The unadjusted p over seeds of those that were tested."""
    return [t_against_zero(c.by_seed) for c in comparisons if c.bootstrap is not None]


def _tested(contrast: Contrast, resamples: int) -> Comparison:
    """Without its p values over tweets and seeds, which are for a table to adjust."""
    weights, shared = [weight for weight, _ in contrast], shared_records([cell for _, cell in contrast])
    by_seed = tuple((np.array(weights) @ [_f1(records) for records in shared]).tolist())
    if len(by_seed) < LEAST_SEEDS:
        return Comparison(by_seed, None, None, None, None)
    of_tweets = [counts(records) for records in shared]
    of_two = weights == [1.0, -1.0]
    p_randomisation = approximate_randomisation(of_tweets[0], of_tweets[1], resamples) if of_two else None
    tested = of_counts([(weight, [one]) for weight, one in zip(weights, of_tweets, strict=True)], resamples)
    return replace(tested, by_seed=by_seed, p_randomisation=p_randomisation)


def of_counts(parts: Sequence[tuple[float, Sequence[np.ndarray]]], resamples: int = RESAMPLES) -> Comparison:
    """A contrast of systems of which there are per-tweet counts (S, N, 3) of the same seeds and tweets.

    parts: (weight, counts on each data set); F1 is that of all data sets' spans together.
    """
    together = [(weight, np.concatenate(of_sets, axis=1)) for weight, of_sets in parts]
    values_SN = np.sum([weight * per_tweet_f1(counts_SN3) for weight, counts_SN3 in together], axis=0)
    by_seed = tuple(values_SN.mean(axis=1).tolist())
    if len(by_seed) < LEAST_SEEDS:
        return Comparison(by_seed, None, None, None, None)
    bootstrap = pooled_contrast(parts, resamples)
    return Comparison(
        by_seed, bootstrap, None, None, None, crossed=crossed_effects(values_SN), tweets=values_SN.shape[1]
    )


def shared_records(cells: Sequence[Cell]) -> list[list[RunRecord]]:
    """Each cell's records of the seeds that all have, all on the tweets of the first cell's first record."""
    tweets = _tweets(cells[0].records[0])
    by_seed = [cell.by_seed() for cell in cells]
    seeds = [seed for seed in by_seed[0] if all(seed in of_cell for of_cell in by_seed)]
    same = [seed for seed in seeds if all(_tweets(of_cell[seed]) == tweets for of_cell in by_seed)]
    return [[of_cell[seed] for seed in same] for of_cell in by_seed]


def _tweets(record: RunRecord) -> dict[str, str]:
    """The digests of the annotated splits. What a system sees of the images is its own: text only sees nothing."""
    return {name: sha for name, sha in record.provenance.data.items() if PurePosixPath(name).stem in SPLITS}


def _f1(records: Sequence[RunRecord]) -> list[float]:
    return [record.f1() for record in records]
