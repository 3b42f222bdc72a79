"""Crossed effects against a restricted maximum likelihood fit, against one-way tests, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from repro.evidence.crossed import crossed_effects, per_tweet_f1


def layout(
    seeds: int, tweets: int, rng: np.random.Generator, sd: tuple[float, float, float], mean: float = 0.0
) -> np.ndarray:
    of_seed, of_tweet, rest = sd
    return (
        mean
        + of_seed * rng.normal(size=(seeds, 1))
        + of_tweet * rng.normal(size=(1, tweets))
        + rest * rng.normal(size=(seeds, tweets))
    )


def test_it_is_what_statsmodels_fits():
    """statsmodels 0.15.0: MixedLM("y ~ 1", one group, variance components of seed and tweet), REML, Powell to 1e-12.

    Its variance components were 0.00613061 and 0.03315089, its residual variance 0.03906162.
    """
    rng = np.random.default_rng(4)
    seeds, tweets = 0.08 * rng.normal(size=(6, 1)), 0.15 * rng.normal(size=(1, 24))
    y = (0.02 + seeds + tweets + 0.2 * rng.normal(size=(6, 24))).round(3)
    found = crossed_effects(y)
    assert found.mean == pytest.approx(0.00755556, abs=1e-8)
    assert found.standard_error == pytest.approx(0.05171379, abs=2e-8)


def test_its_parts_are_those_of_an_analysis_of_variance():
    """Mean squares by scipy's one-way F tests: F is the mean square between groups over that within."""
    y = layout(5, 12, np.random.default_rng(1), (0.3, 0.4, 0.5))
    seeds, tweets = y.shape

    def between(rows: np.ndarray) -> float:
        within = np.mean([row.var(ddof=1) for row in rows])
        return float(scipy_stats.f_oneway(*rows).statistic * within)

    over_seeds, over_tweets = between(y), between(y.T)
    total = ((y - y.mean()) ** 2).sum()
    rest = (total - (seeds - 1) * over_seeds - (tweets - 1) * over_tweets) / ((seeds - 1) * (tweets - 1))
    square = over_seeds + over_tweets - rest
    df = square**2 / (over_seeds**2 / 4 + over_tweets**2 / 11 + rest**2 / 44)
    found = crossed_effects(y)
    assert found.standard_error == pytest.approx(np.sqrt(square / y.size))
    assert found.df == pytest.approx(df)
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(abs(y.mean()) / found.standard_error, df))
    assert found.interval == pytest.approx(scipy_stats.t.interval(0.95, df, y.mean(), found.standard_error))
    assert found.inner == pytest.approx(scipy_stats.t.interval(0.90, df, y.mean(), found.standard_error))


def test_where_only_seeds_differ_it_is_the_t_test_over_seeds():
    of_seed = np.array([0.1, 0.3, 0.2, 0.6])
    y = np.repeat(of_seed[:, None], 7, axis=1)
    found, expected = crossed_effects(y), scipy_stats.ttest_1samp(of_seed, 0.0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.df == 3
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_where_only_tweets_differ_it_is_the_t_test_over_tweets():
    of_tweet = np.array([0.1, 0.3, 0.2, 0.6, -0.1])
    found, expected = crossed_effects(np.repeat(of_tweet[None], 3, axis=0)), scipy_stats.ttest_1samp(of_tweet, 0.0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.df == 4


def test_the_error_is_never_smaller_than_over_seeds_or_tweets_alone():
    rng = np.random.default_rng(3)
    for sd in ((0.0, 0.0, 1.0), (0.0, 0.2, 1.0), (0.2, 0.0, 1.0)):
        for _ in range(20):
            y = layout(4, 9, rng, sd)
            alone = [scipy_stats.sem(y.mean(axis=axis)) for axis in (0, 1)]
            assert crossed_effects(y).standard_error >= max(alone) - 1e-12


@pytest.mark.parametrize("sd", [(0.3, 0.9, 1.0), (0.5, 0.5, 0.5), (0.0, 1.0, 0.3)])
def test_its_interval_covers_the_truth(sd: tuple[float, float, float]):
    rng = np.random.default_rng(7)
    cases = [crossed_effects(layout(6, 30, rng, sd, mean=0.4)) for _ in range(2000)]
    covered = np.mean([one.interval[0] <= 0.4 <= one.interval[1] for one in cases])
    # Satterthwaite's degrees of freedom are estimates too: with a handful of seeds the interval is a little too narrow
    assert 0.925 <= covered <= 0.99


def test_nothing_varies():
    assert crossed_effects(np.zeros((3, 4))).p == 1.0
    assert crossed_effects(np.full((3, 4), 0.2)).p == 0.0
    with pytest.raises(ValueError, match="two seeds and two tweets"):
        crossed_effects(np.zeros((1, 4)))


def test_turned_is_of_the_opposite_difference():
    y = layout(4, 9, np.random.default_rng(5), (0.3, 0.4, 0.5), mean=0.2)
    there, back = crossed_effects(y).turned(), crossed_effects(-y)
    assert (there.mean, there.p, *there.interval, *there.inner) == pytest.approx(
        (back.mean, back.p, *back.interval, *back.inner)
    )


def test_what_each_tweet_adds_to_f1():
    rng = np.random.default_rng(6)
    gold_N, predicted_N = rng.integers(1, 4, size=400), rng.integers(0, 4, size=400)
    counts = np.stack([rng.binomial(np.minimum(gold_N, predicted_N), 0.7), predicted_N, gold_N], axis=-1)[None]
    linear_1N = per_tweet_f1(counts)

    def f1(picked: np.ndarray) -> float:
        tp, predicted, gold = counts[0, picked].sum(axis=0)
        return 2 * tp / (predicted + gold)

    assert linear_1N.mean() == pytest.approx(f1(np.arange(400)))
    jackknife = np.array([f1(np.delete(np.arange(400), k)) for k in range(400)])
    pseudo = 400 * linear_1N.mean() - 399 * jackknife  # the jackknife's pseudo-values are the same to first order
    assert np.abs(pseudo - linear_1N[0]).max() < 0.01
    assert per_tweet_f1(np.zeros((2, 3, 3))).tolist() == [[0.0] * 3] * 2
