"""Seeds and tweets both as random: what a difference in F1 would be with other seeds and other tweets at once.

The bootstrap holds the seeds fixed, the t test over seeds the tweets; each leaves out the other's share of the
variance. Here every seed's every tweet is an observation of a two-way layout with crossed random effects: y = mean +
seed + tweet + rest. It is balanced, so that the mean squares give what restricted maximum likelihood would (Searle,
Casella and McCulloch, Variance Components, 1992, ch. 4), in a millisecond; statsmodels' MixedLM, for which crossed
effects are one dense matrix, takes minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from repro.evidence.stats import CONFIDENCE, EQUIVALENCE_CONFIDENCE, Interval


@dataclass(frozen=True, slots=True)
class Crossed:
    """A mean, its standard error over seeds and tweets, the degrees of freedom, 95 % and 90 % t intervals, and p."""

    mean: float
    standard_error: float
    df: float
    interval: Interval
    inner: Interval
    p: float

    def turned(self) -> Crossed:
        """Of the opposite difference."""
        (low, high), (inner_low, inner_high) = self.interval, self.inner
        return Crossed(-self.mean, self.standard_error, self.df, (-high, -low), (-inner_high, -inner_low), self.p)


def crossed_effects(values_SN: np.ndarray) -> Crossed:
    """Of one value a seed and tweet; ValueError for fewer than two of either.

    Where the estimate of a variance component is negative it counts as zero: the error is never smaller than over
    seeds or over tweets alone.
    """
    seeds, tweets = values_SN.shape
    if min(seeds, tweets) < 2:
        raise ValueError("crossed effects need two seeds and two tweets")
    mean = float(values_SN.mean())
    of_seed_S1, of_tweet_1N = values_SN.mean(axis=1, keepdims=True), values_SN.mean(axis=0, keepdims=True)
    df_seeds, df_tweets = seeds - 1, tweets - 1
    df_rest = df_seeds * df_tweets
    over_seeds = tweets * float(((of_seed_S1 - mean) ** 2).sum()) / df_seeds
    over_tweets = seeds * float(((of_tweet_1N - mean) ** 2).sum()) / df_tweets
    rest = float(((values_SN - of_seed_S1 - of_tweet_1N + mean) ** 2).sum()) / df_rest
    total, df = max(
        (
            over_seeds + over_tweets - rest,
            _satterthwaite((over_seeds, over_tweets, rest), (df_seeds, df_tweets, df_rest)),
        ),
        (over_seeds, float(df_seeds)),
        (over_tweets, float(df_tweets)),
    )
    return _with_intervals(mean, float(np.sqrt(total / (seeds * tweets))), df)


def _satterthwaite(squares: Sequence[float], df: Sequence[int]) -> float:
    """Degrees of freedom of a sum and difference of independent mean squares (Satterthwaite 1946)."""
    total = squares[0] + squares[1] - squares[2]
    spread = sum(square**2 / free for square, free in zip(squares, df, strict=True))
    return float(total**2 / spread) if spread else float(df[0])


def _with_intervals(mean: float, error: float, df: float) -> Crossed:
    if error < 1e-12:  # without any spread t is undefined
        return Crossed(mean, error, df, (mean, mean), (mean, mean), 0.0 if abs(mean) > 1e-12 else 1.0)
    of_mean = stats.t(df, mean, error)
    outer, inner = (tuple(map(float, of_mean.interval(level))) for level in (CONFIDENCE, EQUIVALENCE_CONFIDENCE))
    return Crossed(
        mean, error, df, (outer[0], outer[1]), (inner[0], inner[1]), float(2 * stats.t.sf(abs(mean / error), df))
    )


def per_tweet_f1(counts_SN3: np.ndarray) -> np.ndarray:
    """(S, N): what each tweet adds to its seed's F1, to first order; the mean over tweets is that F1.

    F1 is a ratio of sums, 2 tp / (predicted + gold): its linearisation is the usual one of a ratio.
    """
    tp_SN, spans_SN = counts_SN3[..., 0].astype(np.float64), counts_SN3[..., 1:].sum(axis=-1)
    f1_S1 = 2 * tp_SN.sum(axis=1, keepdims=True) / np.maximum(spans_SN.sum(axis=1, keepdims=True), 1)
    per_tweet_S1 = np.maximum(spans_SN.mean(axis=1, keepdims=True), 1e-12)
    linear_SN: np.ndarray = f1_S1 + (2 * tp_SN - f1_S1 * spans_SN) / per_tweet_S1
    return linear_SN
