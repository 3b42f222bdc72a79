"""Verdicts follow their rule case by case, and come out of planted differences at the rates that the tests promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from repro.evidence.comparisons import Comparison, of_counts
from repro.evidence.crossed import Crossed
from repro.evidence.stats import Difference, Interval
from repro.evidence.verdicts import judge, judge_seeds
from tests.repro.evidence.planted import MARGIN, TRUE, planted, verdicts

BOUND = scipy_stats.binom.ppf(0.999, 1000, 0.05) / 1000  # what 1,000 cases of a 5 % test stay below, but one in 1,000


def compared(
    mean: float,
    error: float = 0.002,
    *,
    spread: float = 0.001,
    p: tuple[float, float, float] = (0.5, 0.5, 0.5),
    seeds: int = 5,
    tweets: int = 600,
) -> Comparison:
    """Of which the seeds differ by `spread`, the errors over tweets and over both are `error`."""
    by_seed = tuple(mean + spread * (k - (seeds - 1) / 2) for k in range(seeds))

    def around(width: float) -> Interval:
        return mean - width * error, mean + width * error

    over_tweets = Difference(mean, *around(1.96), p[0], error, around(1.645))
    over_both = Crossed(mean, error, 30.0, around(2.04), around(1.70), p[2])
    return Comparison(by_seed, over_tweets, p[0], p[1], None, over_both, p[2], tweets)


LOW = (0.01, 0.01, 0.01)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (None, "not run"),
        (Comparison((), None, None, None, None), "not run"),
        (Comparison((0.2, 0.2), None, None, None, None), "undecided"),
        (compared(0.03, p=LOW), "supported"),
        (compared(-0.03, p=LOW), "not supported"),
        (compared(0.03, p=(0.06, 0.01, 0.01)), "undecided"),
        (compared(0.03, p=(0.01, 0.06, 0.01)), "undecided"),
        (compared(0.03, p=(0.01, 0.01, 0.06)), "undecided"),
        (compared(0.03, p=(0.05, 0.01, 0.01)), "undecided"),
        (compared(0.0), "no difference that matters"),
        (compared(0.006), "no difference that matters"),
        (compared(0.003, 0.001, p=LOW), "no difference that matters"),  # surely there, and surely too small to matter
        (compared(0.0068), "undecided"),  # the 90 % interval over tweets ends at 1.009, that over both at 1.02
        (compared(-0.0068), "undecided"),
        (compared(0.0, spread=0.008), "undecided"),  # over seeds it reaches 1.2 points
        (compared(0.0, 0.01), "beyond these data"),  # 2.8 points could be detected
        (compared(0.0, 0.01, spread=0.02), "undecided"),  # the seeds are the larger error
        (compared(0.03, 0.01, p=(0.04, 0.5, 0.5)), "undecided"),  # the tweets have decided, the seeds have not
        (compared(0.0068, 0.0035), "undecided"),  # tweets that could detect a point
    ],
)
def test_the_rule(given: Comparison | None, verdict: str):
    assert judge(given, 0.01, 0.01).verdict == verdict


def test_beyond_these_data_says_what_it_would_take():
    found = judge(compared(0.0, 0.01, tweets=600), smallest=0.02, margin=0.01)
    detectable = (scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)) * 0.01
    assert found.detectable == pytest.approx(detectable)
    assert found.tweets_needed == np.ceil(600 * (detectable / 0.02) ** 2)
    assert judge(compared(0.0), 0.01, 0.01).detectable is None


def test_a_wider_margin_finds_equivalence_and_a_narrower_one_does_not():
    assert judge(compared(0.006), 0.01, 0.02).verdict == "no difference that matters"
    assert judge(compared(0.006), 0.01, 0.005).verdict != "no difference that matters"


@pytest.mark.parametrize(
    ("values", "p", "inner", "verdict"),
    [
        ([], None, None, "not run"),
        ([0.3, 0.3], 0.01, (0.2, 0.4), "undecided"),
        ([0.3, 0.3, 0.3], 0.01, (0.2, 0.4), "supported"),
        ([-0.3, -0.3, -0.3], 0.01, (-0.4, -0.2), "not supported"),
        ([0.3, 0.3, 0.3], 0.05, (-0.1, 0.6), "undecided"),
        ([0.01, 0.0, 0.01], 0.5, (-0.04, 0.04), "no difference that matters"),
        ([0.01, 0.0, 0.01], 0.5, (-0.04, 0.05), "undecided"),
        ([0.01, 0.0, 0.01], 0.5, (-0.05, 0.04), "undecided"),
        ([0.01, 0.0, 0.01], 0.01, None, "supported"),
        ([0.3, 0.3, 0.3], None, (0.2, 0.4), "undecided"),
    ],
)
def test_the_rule_over_seeds_alone(values: list[float], p: float | None, inner: Interval | None, verdict: str):
    assert judge_seeds(values, p, inner, 0.05).verdict == verdict


def test_a_planted_lead_is_found_and_turns_with_its_sign():
    rng = np.random.default_rng(0)
    ahead = planted(0.03, 5, "tweets", rng)
    assert judge(ahead, MARGIN, MARGIN).verdict == "supported"
    assert judge(ahead.turned(), MARGIN, MARGIN).verdict == "not supported"


def test_tweets_of_one_kind_leave_nothing_to_chance_over_tweets():
    """Where every tweet is alike in every seed the interval over tweets has no width, and only seeds count."""
    counts = np.zeros((4, 50, 3), dtype=int) + np.array([5, 10, 10])
    better = counts + np.array([1, 0, 0])
    found = of_counts([(1.0, [better]), (-1.0, [counts])], 200)
    assert found.bootstrap is not None
    assert found.bootstrap.inner == pytest.approx((0.1, 0.1))
    assert found.crossed is not None
    assert found.crossed.p == 0.0
    assert found.tweets == 50


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["both", "tweets", "seeds"])
@pytest.mark.parametrize("seeds", [5, 10])
def test_verdicts_come_out_at_the_rates_that_the_tests_promise(seeds: int, mix: str):
    """1,000 cases each: no difference, half the margin, exactly the margin, three points."""
    cases = 1000
    found = {name: verdicts(true, seeds, mix, cases) for name, true in TRUE.items()}
    assert found["no difference"]["supported"] <= BOUND * cases
    assert found["no difference"]["not supported"] <= BOUND * cases
    assert found["the margin"]["no difference that matters"] <= BOUND * cases
    assert found["three points"]["no difference that matters"] == 0
    assert found["half the margin"]["not supported"] <= BOUND * cases
    # and tests that say nothing would pass all that
    assert found["three points"]["supported"] >= 0.9 * cases
    assert found["no difference"]["no difference that matters"] >= 0.1 * cases
    order = [found[name]["no difference that matters"] for name in TRUE]
    assert order == sorted(order, reverse=True)


@pytest.mark.slow
def test_two_tests_alone_would_not_keep_their_promise():
    """Why verdicts need the crossed test: with like errors over tweets and over seeds the two others are too bold."""
    found = verdicts(0.0, 10, "both", 1000)
    assert found["supported, by two tests"] + found["not supported, by two tests"] > BOUND * 1000
    assert found["supported"] + found["not supported"] <= BOUND * 1000


def test_the_crossed_test_is_adjusted_and_needed():
    lone = compared(0.03, p=LOW)
    assert judge(replace(lone, p_crossed=0.9), 0.01, 0.01).verdict != "supported"
