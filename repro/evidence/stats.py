"""How a number is reported: mean, spread and interval over seeds; tests of two systems; measured against published.

Scores are F1 in 0..1 here, and per-tweet counts are (true positives, predicted, gold). Intervals are two-sided 95 %,
tests two-sided at 5 %; of equivalence they are two one-sided ones at 5 %, which a 90 % interval amounts to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
EQUIVALENCE_CONFIDENCE = 0.9  # of the interval that two one-sided tests at 5 % each amount to
SIGNIFICANCE = 0.05
POWER = 0.8
RESAMPLES = 10_000
RESAMPLING_SEED = 2507  # one seed for every comparison, so that a table made twice is the same table
LEAST_SEEDS = 3  # fewer say too little of the spread for a test
LEAST_SEEDS_AGAINST_PAPER = 5
_CHUNK = 500  # resamples worked on at once: 2 MB of weights at a thousand tweets

Interval = tuple[float, float]
Standing = Literal["ahead", "behind", "no difference shown", "undecided"]
Verdict = Literal["reproduced", "higher", "lower", "inconclusive", "not run"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean over `n` seeds; the sample standard deviation and the interval are None for one seed."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference in F1, or another contrast, with its bootstrap interval, p value and standard error.

    `inner` is the 90 % interval, `low` and `high` are the ends of the 95 % one.
    """

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    inner: Interval

    def turned(self) -> Difference:
        """Of the opposite contrast."""
        inner = (-self.inner[1], -self.inner[0])
        return Difference(-self.difference, -self.high, -self.low, self.p, self.standard_error, inner)


@dataclass(frozen=True, slots=True)
class AgainstPaper:
    """Measured mean minus the paper's figure, the half-width it is judged by (None for one run), and the verdict."""

    difference: float | None
    half_width: float | None
    verdict: Verdict


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and Student-t interval of one value a seed; ValueError where there is none.

    Student t, because percentile intervals of a bootstrap over a handful of seeds are far too narrow.
    """
    n = len(values)
    if not n:
        raise ValueError("no values to summarise")
    mean = float(np.mean(values))
    if n == 1:
        return Summary(mean, None, None, None, 1)
    return Summary(mean, float(np.std(values, ddof=1)), *t_interval(values), n)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The Student-t interval of the mean of one value a seed; ValueError for fewer than two."""
    if len(values) < 2:
        raise ValueError("a t interval needs two values")
    n, mean = len(values), float(np.mean(values))
    half = _t_quantile(n, confidence) * float(np.std(values, ddof=1)) / np.sqrt(n)
    return float(mean - half), float(mean + half)


def bootstrap_contrast(parts: Sequence[tuple[float, ArrayLike]], resamples: int = RESAMPLES) -> Difference:
    """A weighted sum of the F1 of several systems on the same tweets, by resampling the tweets.

    parts: (weight, counts_SN3) of each, weights 1 and -1 for the difference of two; counts are integers of S seeds (S
    may differ between the parts) over the same N tweets. F1 is averaged over the seeds within each resample, so the
    result is conditional on these seeds. The interval is the percentile interval, and p twice the smaller share of
    resamples on one side of zero: p < 0.05 where the interval excludes zero.
    """
    return pooled_contrast([(weight, [counts_SN3]) for weight, counts_SN3 in parts], resamples)


def pooled_contrast(parts: Sequence[tuple[float, Sequence[ArrayLike]]], resamples: int = RESAMPLES) -> Difference:
    """The same where each system has counts on several data sets: F1 is of the spans of all their tweets.

    Every data set's own tweets are drawn as often as it has tweets (a stratified bootstrap).
    """
    counts = [(weight, [np.asarray(one) for one in of_sets]) for weight, of_sets in parts]
    drawn_R = sum(weight * _pooled_f1(of_sets, resamples).mean(axis=-1) for weight, of_sets in counts)
    low, high = np.quantile(drawn_R, _ends(CONFIDENCE))
    inner_low, inner_high = np.quantile(drawn_R, _ends(EQUIVALENCE_CONFIDENCE))
    one_sided = min((drawn_R <= 0).sum(), (drawn_R >= 0).sum())
    return Difference(
        difference=sum(weight * _observed(np.concatenate(of_sets, axis=1)) for weight, of_sets in counts),
        low=float(low),
        high=float(high),
        p=_share(2 * one_sided, resamples),
        standard_error=float(np.std(drawn_R, ddof=1)),
        inner=(float(inner_low), float(inner_high)),
    )


def resampled_f1(counts_SN3: ArrayLike, resamples: int = RESAMPLES) -> np.ndarray:
    """(R, S) F1 of each seed in every resample of the N tweets; the same resamples for every system."""
    return _pooled_f1([np.asarray(counts_SN3)], resamples)


def _pooled_f1(of_sets: Sequence[np.ndarray], resamples: int) -> np.ndarray:
    """(R, S). One data set's resample r goes with the next one's r + 1: the same draws are behind both."""
    totals = [np.roll(_resampled_totals(one, resamples), k, axis=0) for k, one in enumerate(of_sets)]
    return _f1(np.sum(totals, axis=0))


def _resampled_totals(counts_SN3: np.ndarray, resamples: int) -> np.ndarray:
    """(R, S, 3) totals of each seed in every resample."""
    counts = np.ascontiguousarray(counts_SN3, dtype=np.int64)
    return np.stack([_resampled_totals_of_one(one.tobytes(), len(one), resamples) for one in counts], axis=1)


@lru_cache(maxsize=768)
def _resampled_totals_of_one(counts: bytes, tweets: int, resamples: int) -> np.ndarray:
    """(R, 3) of one seed, whole numbers as float32.

    Kept, because a record stands in many comparisons, and a product for each takes seconds.
    """
    counts_1N3 = np.frombuffer(counts, dtype=np.int64).reshape(1, tweets, 3)
    weights_RN = _bootstrap_weights(tweets, resamples)
    return np.concatenate([_totals(chunk, counts_1N3)[:, 0] for chunk in _chunks(weights_RN)]).astype(np.float32)


@lru_cache(maxsize=4)
def _bootstrap_weights(tweets: int, resamples: int) -> np.ndarray:
    """(R, N): how often each tweet is drawn. Kept, because drawing takes longer than all that is done with it."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    weights_RN = np.empty((resamples, tweets), dtype=np.float32)
    for chunk_RN in _chunks(weights_RN):
        picked_RN = rng.integers(tweets, size=chunk_RN.shape)
        flat = picked_RN + tweets * np.arange(len(chunk_RN))[:, None]
        chunk_RN[:] = np.bincount(flat.ravel(), minlength=chunk_RN.size).reshape(chunk_RN.shape)
    return weights_RN


def approximate_randomisation(ours_SN3: ArrayLike, other_SN3: ArrayLike, resamples: int = RESAMPLES) -> float:
    """p of the difference in seed-averaged F1 when the two systems' outputs are swapped tweet by tweet at random.

    A check on the bootstrap's p (Noreen 1989; Yeh, COLING 2000). The arguments are counts as in `bootstrap_contrast`
    with as many seeds on either side; a tweet is swapped in every seed at once.
    """
    ours, other = np.asarray(ours_SN3), np.asarray(other_SN3)
    observed = abs(_observed(ours) - _observed(other))
    extreme = 0
    for swap_RN in _chunks(_swaps(ours.shape[1], resamples)):
        shift_RS3 = _totals(swap_RN, other - ours)
        swapped = _f1(ours.sum(axis=1) + shift_RS3).mean(axis=-1) - _f1(other.sum(axis=1) - shift_RS3).mean(axis=-1)
        extreme += int((np.abs(swapped) >= observed - 1e-12).sum())  # the swap of everything is a tie, up to rounding
    return _share(extreme, resamples)


@lru_cache(maxsize=4)
def _swaps(tweets: int, resamples: int) -> np.ndarray:
    """(R, N): 1 where the two systems' outputs for a tweet are exchanged."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    swaps_RN = np.empty((resamples, tweets), dtype=np.float32)
    for chunk_RN in _chunks(swaps_RN):
        chunk_RN[:] = rng.integers(2, size=chunk_RN.shape)
    return swaps_RN


def t_against_zero(values: Sequence[float]) -> float:
    """p of the t test that one value a seed has mean zero; ValueError for fewer than two.

    Of differences between two systems it is the paired t test. Values without any spread leave t undefined: 0 where
    they are not zero, 1 where they are.
    """
    if len(values) < 2:
        raise ValueError("a t test needs two seeds")
    if np.ptp(values) < 1e-12:
        return 0.0 if abs(values[0]) > 1e-12 else 1.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of the p values of one table's comparisons, in their order (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def minimum_detectable_difference(standard_error: float) -> float:
    """The true difference that a two-sided 5 % test of this standard error would find four times in five."""
    return float((stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(POWER)) * standard_error)


def tweets_needed(detectable: float, smallest: float, tweets: int) -> int:
    """How many tweets would bring the detectable difference down to `smallest`: it goes with one over their root."""
    return int(np.ceil(tweets * (detectable / smallest) ** 2))


def detectable_over_seeds(differences: Sequence[float]) -> float:
    """The same for the paired t test over seeds, from one difference a seed; ValueError for fewer than two."""
    if len(differences) < 2:
        raise ValueError("a spread needs two seeds")
    n = len(differences)
    return float((_t_quantile(n) + stats.t.ppf(POWER, n - 1)) * np.std(differences, ddof=1) / np.sqrt(n))


def standing(difference: float, p_tweets: float | None, p_seeds: float | None) -> Standing:
    """Whether a system is ahead of another: the test over tweets and the one over seeds must both say so.

    The p values are Holm-adjusted; None where fewer than three seeds forbid a test, which leaves it undecided.
    """
    if p_tweets is None or p_seeds is None:
        return "undecided"
    if max(p_tweets, p_seeds) >= SIGNIFICANCE:
        return "no difference shown"
    return "ahead" if difference > 0 else "behind"


def prediction_half_width(values: Sequence[float]) -> float:
    """Half-width of the interval for one more run: t s sqrt(1 + 1/n); ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("a prediction interval needs two values")
    n = len(values)
    return float(_t_quantile(n) * np.std(values, ddof=1) * np.sqrt(1 + 1 / n))


def against_paper(values: Sequence[float], paper: float, tolerance: float = 0.01) -> AgainstPaper:
    """Judge one value a seed against a published figure, which may itself be a single run; hence a prediction interval.

    `inconclusive` below five seeds, or where the half-width exceeds twice the tolerance; `reproduced` within the
    tolerance; `higher` or `lower` beyond both tolerance and half-width.
    """
    if not len(values):
        return AgainstPaper(None, None, "not run")
    difference = float(np.mean(values)) - paper
    half = prediction_half_width(values) if len(values) > 1 else None
    return AgainstPaper(difference, half, _verdict(difference, half, len(values), tolerance))


def _verdict(difference: float, half: float | None, n: int, tolerance: float) -> Verdict:
    if half is None or n < LEAST_SEEDS_AGAINST_PAPER or half > 2 * tolerance:
        return "inconclusive"
    if abs(difference) <= tolerance:
        return "reproduced"
    if abs(difference) > max(tolerance, half):
        return "higher" if difference > 0 else "lower"
    return "inconclusive"


def _t_quantile(n: int, confidence: float = CONFIDENCE) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, n - 1))


def _ends(confidence: float) -> Interval:
    """The quantiles between which that share lies."""
    return (1 - confidence) / 2, (1 + confidence) / 2


def _share(extreme: int, resamples: int) -> float:
    """A Monte Carlo p value; one is added to both counts, because a p of 0 would claim more than was drawn."""
    return float(min((extreme + 1) / (resamples + 1), 1.0))


def _totals(weights_RN: np.ndarray, counts_SN3: np.ndarray) -> np.ndarray:
    """(R, S, 3) weighted sums over tweets. Integers below 2**24: exact, so the same on any machine and thread count."""
    seeds, tweets, _ = counts_SN3.shape
    counts_MN = counts_SN3.transpose(0, 2, 1).reshape(seeds * 3, tweets).astype(np.float32)
    # not by BLAS: on products this small its threads wait for each other ten times as long as they work
    totals_RM: np.ndarray = np.einsum("rn,mn->rm", weights_RN, counts_MN)
    return totals_RM.astype(np.float64).reshape(-1, seeds, 3)


def _f1(totals: np.ndarray) -> np.ndarray:
    """F1 of (..., 3) totals, float64; 0 where nothing is predicted and nothing is gold."""
    totals = np.asarray(totals, dtype=np.float64)
    return np.asarray(2 * totals[..., 0] / np.maximum(totals[..., 1] + totals[..., 2], 1))


def _observed(counts_SN3: np.ndarray) -> float:
    return float(_f1(counts_SN3.sum(axis=1)).mean())


def _chunks(rows_RN: np.ndarray) -> Iterator[np.ndarray]:
    """Views of the rows, few at a time, so that what is made of them stays in a cache."""
    yield from (rows_RN[start : start + _CHUNK] for start in range(0, len(rows_RN), _CHUNK))
