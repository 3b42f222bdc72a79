"""Tweets until the threshold, on planted curves and against scipy's and textbook values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from made_up import record, run_of
from scipy import stats as scipy_stats

from repro.evidence.learning_speed import (
    Seen,
    _log_rank_scores,
    differences,
    first_passed,
    log_rank,
    median,
    median_interval,
    seen_until,
    sign_test,
)

NEVER = float("inf")


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.5, 0.8, 1.0], Seen(2500.0, True)),  # half way through the third epoch
        ([0.9], Seen(1000.0, True)),  # at the very end of the first
        ([1.0, 1.0], Seen(900.0, True)),  # from 0 before the first epoch
        ([0.5, 0.9, 0.2], Seen(2000.0, True)),  # what comes later takes nothing back
        ([0.5, 0.8, 0.85, 0.95], Seen(3500.0, True)),
        ([0.5, 0.899], Seen(2000.0, False)),
        ([], Seen(0.0, False)),
    ],
)
def test_where_the_line_between_two_epochs_is_at_the_threshold(curve: list[float], expected: Seen):
    found = first_passed(curve, 1000)
    assert (found.tweets, found.reached) == (pytest.approx(expected.tweets), expected.reached)


def test_a_records_epochs_are_as_long_as_its_train_split():
    one = record("full", 0, epochs=3)
    for epoch, f1 in zip(one["result"]["curve"], (0.4, 0.8, 1.0), strict=True):
        epoch["dev_f1"] = f1
    one["result"]["images"]["train"] = {"present": 300, "absent": 100}
    assert seen_until(run_of(one)).tweets == pytest.approx(400 * 2.5)
    assert seen_until(run_of(one), 0.6).tweets == pytest.approx(400 * 1.5)


def test_differences_of_what_is_known():
    ours = [Seen(100, True), Seen(100, True), Seen(500, False), Seen(500, False), Seen(100, True), Seen(50, False)]
    other = [Seen(300, True), Seen(500, False), Seen(300, True), Seen(500, False), Seen(80, False), Seen(300, True)]
    assert differences(ours, other) == [-200, -NEVER, NEVER]  # of the other three nothing is known
    assert differences(other, ours) == [200, NEVER, -NEVER]


def test_the_sign_test_is_that_of_a_coin():
    values = [3.0, 2.0, 5.0, -1.0, 4.0, NEVER, 0.0]
    assert sign_test(values) == pytest.approx(2 * sum(scipy_stats.binom.pmf(k, 6, 0.5) for k in (0, 1)))
    assert sign_test([]) == 1.0
    assert sign_test([1.0] * 10) == pytest.approx(2 / 2**10)


RELAPSED, CENSORED = [6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_the_log_rank_scores_are_observed_minus_expected():
    """Freireich et al. 1963, remission in weeks of leukaemia: 9 relapses observed with 6-MP, 19.25 expected."""
    treated = [Seen(t, True) for t in RELAPSED] + [Seen(t, False) for t in CENSORED]
    scores = _log_rank_scores([*treated, *(Seen(t, True) for t in PLACEBO)])
    assert scores[: len(treated)].sum() == pytest.approx(9 - 19.25, abs=0.005)
    assert scores.sum() == pytest.approx(0.0)
    assert log_rank(treated, [Seen(t, True) for t in PLACEBO]) < 0.001


def test_the_log_rank_test_tends_to_scipys():
    rng = np.random.default_rng(1)
    for faster in (1.0, 1.5, 2.0):
        sides = [rng.exponential(scale, size=60) for scale in (1.0, faster)]
        seen = [[Seen(min(t, 1.5), bool(t < 1.5)) for t in side] for side in sides]
        theirs = scipy_stats.logrank(
            *(
                scipy_stats.CensoredData(
                    uncensored=[s.tweets for s in side if s.reached], right=[s.tweets for s in side if not s.reached]
                )
                for side in seen
            )
        ).pvalue
        assert log_rank(*seen) == pytest.approx(theirs, abs=0.02)


def test_the_log_rank_test_says_nothing_where_nothing_can_be_said():
    never, at_once = [Seen(500, False)] * 5, [Seen(500, True)] * 5
    assert log_rank(never, never) == 1.0
    assert log_rank(at_once, at_once) == 1.0
    assert log_rank(at_once, never) == pytest.approx(2 / 252)  # ten seeds can be divided in so many ways


def test_medians_may_be_infinite():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([3.0, 1.0]) == 2.0
    assert median([1.0, NEVER]) == NEVER
    assert median([1.0, NEVER, NEVER]) == NEVER
    assert median([-NEVER, NEVER]) == 0.0


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("n", range(1, 16))
def test_the_medians_interval_is_the_narrowest_that_the_sign_test_allows(n: int, confidence: float):
    """Its ends are the values that a sign test at that level just does not reject."""
    values = [float(k) for k in range(n)]
    found = median_interval(values, confidence)
    kept = [
        centre
        for centre in np.arange(-0.5, n, 1.0)
        if scipy_stats.binomtest(int(sum(value > centre for value in values)), n).pvalue >= 1 - confidence
    ]
    if kept[0] < 0:
        assert found is None  # not even the whole line is narrow enough to be rejected from
    else:
        assert found == (kept[0] - 0.5, kept[-1] + 0.5)


def test_the_medians_interval_covers_it():
    rng = np.random.default_rng(3)
    ends = [median_interval(row.tolist(), 0.9) for row in rng.exponential(size=(2000, 10))]
    covered = np.mean([low <= np.log(2) <= high for low, high in (end for end in ends if end)])
    assert covered == pytest.approx(1 - 2 * scipy_stats.binom.cdf(1, 10, 0.5), abs=0.015)


def test_the_log_rank_test_keeps_its_level_for_five_seeds():
    """Over every way to divide ten different times between two equal systems; chi square would be above it."""
    rejected = []
    for chosen in itertools.combinations(range(10), 5):
        sides = [[Seen(float(t + 1), t < 8) for t in range(10) if (t in chosen) == side] for side in (True, False)]
        rejected.append(log_rank(*sides) < 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.05
