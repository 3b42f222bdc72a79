"""What the runs say of a claim: shown, the opposite shown, nothing that matters, beyond the data, or left open.

Everything here is positive in the claim's favour, and in the metric's unit. Formulas are in `stats` and `crossed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from repro.evidence.comparisons import Comparison
from repro.evidence.stats import (
    EQUIVALENCE_CONFIDENCE,
    LEAST_SEEDS,
    SIGNIFICANCE,
    Interval,
    minimum_detectable_difference,
    t_interval,
    tweets_needed,
)

Verdict = Literal[
    "supported", "not supported", "no difference that matters", "beyond these data", "undecided", "not run"
]
VERDICTS: tuple[Verdict, ...] = (
    "supported",
    "not supported",
    "no difference that matters",
    "beyond these data",
    "undecided",
    "not run",
)


@dataclass(frozen=True)
class Judged:
    """A verdict; `detectable` over the tweets, and how many it would take, where the data are why there is no other."""

    verdict: Verdict
    detectable: float | None = None
    tweets_needed: int | None = None


def judge(compared: Comparison | None, smallest: float, margin: float) -> Judged:
    """Of a contrast of F1, with its p values adjusted over the family.

    Shown, either way, is what all three tests show: over tweets, over seeds, and over both at once. Nothing that
    matters: the 90 % intervals of all three lie within the margin, whatever the tests say, for what is surely smaller
    than the margin is of no interest. Beyond these data: more seeds of these systems would not decide it, because the
    tweets, which decide nothing either and could detect no difference as small as the margin, are the larger part of
    the error.
    """
    if compared is None or not compared.by_seed:
        return Judged("not run")
    over_tweets, over_both = compared.bootstrap, compared.crossed
    if compared.seeds < LEAST_SEEDS or over_tweets is None or over_both is None:
        return Judged("undecided")
    inner = (over_tweets.inner, t_interval(compared.by_seed, EQUIVALENCE_CONFIDENCE), over_both.inner)
    if all(is_within(interval, margin) for interval in inner):
        return Judged("no difference that matters")
    p = (compared.p_tweets, compared.p_seeds, compared.p_crossed)
    if all(one is not None and one < SIGNIFICANCE for one in p):
        return Judged("supported" if np.mean(compared.by_seed) > 0 else "not supported")
    detectable = minimum_detectable_difference(over_tweets.standard_error)
    over_seeds = float(np.std(compared.by_seed, ddof=1) / np.sqrt(compared.seeds))
    open_over_tweets = not is_within(over_tweets.inner, margin) and (p[0] is None or p[0] >= SIGNIFICANCE)
    if open_over_tweets and detectable > margin and over_seeds <= over_tweets.standard_error:
        return Judged("beyond these data", detectable, tweets_needed(detectable, smallest, compared.tweets))
    return Judged("undecided")


def judge_seeds(values: Sequence[float], p: float | None, inner: Interval | None, margin: float) -> Judged:
    """Of what has one value a seed and no tweets to resample: values' mean or median, adjusted p, 90 % interval."""
    if not len(values):
        return Judged("not run")
    if len(values) < LEAST_SEEDS:
        return Judged("undecided")
    if inner is not None and is_within(inner, margin):
        return Judged("no difference that matters")
    if p is not None and p < SIGNIFICANCE:
        return Judged("supported" if np.median(values) > 0 else "not supported")
    return Judged("undecided")


def is_within(interval: Interval, margin: float) -> bool:
    """Whether both one-sided tests are passed: the interval lies inside -margin..margin."""
    return -margin < interval[0] and interval[1] < margin
