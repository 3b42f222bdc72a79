"""How soon a system learns: tweets seen until dev F1 passes a threshold, for as long as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from repro.evidence.stats import CONFIDENCE, RESAMPLES, RESAMPLING_SEED, Interval
from repro.records.run import RunRecord

THRESHOLD = 0.9  # of dev F1


@dataclass(frozen=True, slots=True)
class Seen:
    """Tweets seen until the threshold, or (not `reached`) until training ended without it: right-censored there."""

    tweets: float
    reached: bool


def seen_until(record: RunRecord, threshold: float = THRESHOLD) -> Seen:
    """Of one run: a tweet that is seen in three epochs counts three times.

    Dev F1 is known where epochs end, and taken to go straight from one end to the next, from 0 before the first.
    """
    images = record.result.images["train"]
    return first_passed([epoch.dev_f1 for epoch in record.result.curve], images.present + images.absent, threshold)


def first_passed(f1_by_epoch: Sequence[float], tweets_per_epoch: int, threshold: float = THRESHOLD) -> Seen:
    """Where the straight lines between the ends of epochs first are at the threshold."""
    before = 0.0
    for epoch, f1 in enumerate(f1_by_epoch):
        if f1 >= threshold:
            return Seen(tweets_per_epoch * (epoch + (threshold - before) / (f1 - before)), True)
        before = f1
    return Seen(float(tweets_per_epoch * len(f1_by_epoch)), False)


def differences(ours: Sequence[Seen], other: Sequence[Seen]) -> list[float]:
    """Ours minus the other's, of pairs of which one reached the threshold; infinite where the other never did.

    A pair of which neither did says nothing of which is sooner. Nor does one whose censored run ended before the other
    one reached the threshold.
    """
    found = []
    for a, b in zip(ours, other, strict=True):
        if a.reached and b.reached:
            found.append(a.tweets - b.tweets)
        elif a.reached and b.tweets >= a.tweets:
            found.append(-np.inf)
        elif b.reached and a.tweets >= b.tweets:
            found.append(np.inf)
    return found


def sign_test(values: Sequence[float]) -> float:
    """Two-sided p that values are as often above zero as below it; zeros are left out."""
    above, below = sum(value > 0 for value in values), sum(value < 0 for value in values)
    return float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0


def log_rank(ours: Sequence[Seen], other: Sequence[Seen]) -> float:
    """p of the log-rank test of two systems' seeds, unpaired, over permutations of the seeds between the systems.

    By permutation, because chi square, to which the statistic tends for many, rejects too often for ten: what is
    permuted are the log-rank scores, whose sum over one system is the statistic's numerator (Peto and Peto 1972).
    Exact up to RESAMPLES permutations, which is up to seven seeds each, and drawn from beyond.
    """
    scores_N = _log_rank_scores([*ours, *other])
    sides = scores_N[: len(ours)], scores_N[len(ours) :]
    if np.ptp(scores_N) < 1e-12:
        return 1.0
    found = stats.permutation_test(
        sides,
        lambda one, _, axis: one.sum(axis=axis),
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(RESAMPLING_SEED),
    )
    return float(found.pvalue)


def _log_rank_scores(seeds: Sequence[Seen]) -> np.ndarray:
    """(N,): 1 for one that is there, 0 for one that is not, minus the cumulative hazard (Nelson and Aalen) by then."""
    at_N = np.array([one.tweets for one in seeds])
    there_N = np.array([one.reached for one in seeds], dtype=np.float64)
    at_risk_N = (at_N[None] >= at_N[:, None]).sum(axis=1)
    hazard_N = ((at_N[None] <= at_N[:, None]) * (there_N / at_risk_N)[None]).sum(axis=1)
    return np.asarray(there_N - hazard_N)


def median(values: Sequence[float]) -> float:
    """Of values that may be infinite: between the two in the middle, 0 where these are infinite and opposite."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if low == high:
        return low
    return 0.0 if np.isinf(low) and np.isinf(high) else (low + high) / 2


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """An interval for the median by order statistics, which the sign test amounts to; None for too few values.

    It covers the median at least as often as `confidence` says, whatever the distribution. Ends can be infinite.
    """
    place = int(stats.binom.ppf((1 - confidence) / 2, len(values), 0.5)) if values else 0
    if place < 1:
        return None
    ordered = sorted(values)
    return float(ordered[place - 1]), float(ordered[-place])
