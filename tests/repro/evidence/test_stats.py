"""Statistics against scipy.stats, against simulation, and rule by rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from repro.evidence.stats import (
    Difference,
    against_paper,
    approximate_randomisation,
    bootstrap_contrast,
    detectable_over_seeds,
    holm,
    minimum_detectable_difference,
    pooled_contrast,
    prediction_half_width,
    resampled_f1,
    standing,
    summarise,
    t_against_zero,
    t_interval,
    tweets_needed,
)

TWEETS, RESAMPLES = 120, 2000


def simulated_counts(hit_rate: float, seeds: int, rng: np.random.Generator) -> np.ndarray:
    gold_N = 1 + np.arange(TWEETS) % 3
    predicted_SN = np.clip(gold_N + rng.integers(-1, 2, size=(seeds, TWEETS)), 0, None)
    tp_SN = rng.binomial(np.minimum(gold_N, predicted_SN), hit_rate)
    return np.stack([tp_SN, predicted_SN, np.broadcast_to(gold_N, tp_SN.shape)], axis=-1)


def f1(counts_N3: np.ndarray) -> float:
    tp, predicted, gold = counts_N3.sum(axis=0)
    return 2 * tp / (predicted + gold)


def of_two(ours_SN3: np.ndarray, other_SN3: np.ndarray, resamples: int) -> Difference:
    """The contrast by which two systems are compared."""
    return bootstrap_contrast([(1.0, ours_SN3), (-1.0, other_SN3)], resamples)


@pytest.fixture(scope="module")
def better() -> np.ndarray:
    return simulated_counts(0.8, 3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def worse() -> np.ndarray:
    return simulated_counts(0.65, 3, np.random.default_rng(1))


def test_summary_matches_scipy():
    values = [0.61, 0.64, 0.58, 0.66]
    summary = summarise(values)
    expected = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (summary.mean, summary.sd) == pytest.approx((np.mean(values), scipy_stats.tstd(values)))
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high))
    assert summary.n == 4


def test_summary_of_one_seed_has_no_interval():
    summary = summarise([0.5])
    assert (summary.mean, summary.n) == (0.5, 1)
    assert (summary.sd, summary.low, summary.high) == (None, None, None)
    with pytest.raises(ValueError, match="no values"):
        summarise([])


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_t_interval_is_scipys(confidence: float):
    values = [0.61, 0.64, 0.58, 0.66, 0.7]
    expected = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    assert t_interval(values, confidence) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="two values"):
        t_interval([0.5])


def test_the_90_percent_t_interval_is_two_one_sided_tests():
    """Schuirmann 1987: it lies within the margin just where both one-sided tests are below 5 %."""
    rng = np.random.default_rng(8)
    for mean in np.linspace(-0.012, 0.012, 25):
        values = (mean + 0.004 * rng.normal(size=6)).tolist()
        low, high = t_interval(values, 0.9)
        above = scipy_stats.ttest_1samp(values, -0.01, alternative="greater").pvalue
        below = scipy_stats.ttest_1samp(values, 0.01, alternative="less").pvalue
        assert (low > -0.01 and high < 0.01) == (max(above, below) < 0.05)


def test_bootstrap_matches_scipy(better: np.ndarray, worse: np.ndarray):
    ours = of_two(better, worse, RESAMPLES)

    def statistic(picked: np.ndarray) -> float:
        return np.mean([f1(a[picked]) for a in better]) - np.mean([f1(b[picked]) for b in worse])

    theirs = scipy_stats.bootstrap(
        (np.arange(TWEETS),),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(3),
    )
    assert ours.difference == pytest.approx(statistic(np.arange(TWEETS)))
    # four Monte Carlo standard errors of a quantile of a normal: se * sqrt(q (1 - q) / R) / density
    tolerance = 4 * ours.standard_error * np.sqrt(0.025 * 0.975 / RESAMPLES) / scipy_stats.norm.pdf(1.96)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=4 / np.sqrt(2 * RESAMPLES) * np.sqrt(2))


def test_bootstrap_p_agrees_with_its_interval(better: np.ndarray, worse: np.ndarray):
    clear, mixed = of_two(better, worse, RESAMPLES), of_two(better, better[::-1], RESAMPLES)
    assert clear.low > 0
    assert clear.p < 0.05
    assert mixed.difference == 0.0
    assert mixed.p == 1.0
    turned = of_two(worse, better, RESAMPLES)
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-clear.difference, -clear.high, -clear.low))


def test_bootstrap_pairs_the_tweets(better: np.ndarray):
    slightly = better.copy()
    first = int(np.flatnonzero(slightly[0, :, 0])[0])
    slightly[:, first, 0] = 0  # one tweet lost: the paired spread stays far below that of two independent ones
    paired = of_two(better, slightly, RESAMPLES)
    alone = of_two(better, np.zeros_like(better), RESAMPLES)
    assert 0 < paired.difference < 0.02
    assert paired.standard_error < np.sqrt(2) * alone.standard_error / 3


def test_bootstrap_takes_unequal_numbers_of_seeds_and_repeats_itself(better: np.ndarray, worse: np.ndarray):
    once = of_two(better, worse[:1], RESAMPLES)
    assert once == of_two(better, worse[:1], RESAMPLES)
    assert once.difference == pytest.approx(np.mean([f1(a) for a in better]) - f1(worse[0]))


def test_bootstrap_draws_every_tweet():
    for tweet in range(4):
        ours = np.ones((1, 4, 3), dtype=int)
        other = ours.copy()
        other[0, tweet, 0] = 0
        assert of_two(ours, other, RESAMPLES).high > 0.25


def test_bootstrap_chunks_leave_no_gap(better: np.ndarray, worse: np.ndarray):
    assert of_two(better, worse, 501).p == pytest.approx(1 / 502, abs=3 / 502)


def test_bootstrap_of_tweets_without_any_span_is_zero():
    nothing = np.zeros((2, 5, 3), dtype=int)
    assert of_two(nothing, nothing, 50).difference == 0.0


def test_contrast_is_the_weighted_sum_in_every_resample(better: np.ndarray, worse: np.ndarray):
    middle = simulated_counts(0.72, 3, np.random.default_rng(2))
    parts = [(0.5, better), (0.5, middle), (-1.0, worse)]
    found = bootstrap_contrast(parts, RESAMPLES)
    drawn_R = sum(weight * resampled_f1(counts, RESAMPLES).mean(axis=1) for weight, counts in parts)
    expected = sum(weight * np.mean([f1(one) for one in counts]) for weight, counts in parts)
    assert found.difference == pytest.approx(expected)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn_R, [0.025, 0.975])))
    assert found.inner == pytest.approx(tuple(np.quantile(drawn_R, [0.05, 0.95])))
    assert found.p == pytest.approx((2 * min((drawn_R <= 0).sum(), (drawn_R >= 0).sum()) + 1) / (RESAMPLES + 1))
    assert found.standard_error == pytest.approx(drawn_R.std(ddof=1))
    turned = bootstrap_contrast([(-weight, counts) for weight, counts in parts], RESAMPLES)
    there = found.turned()
    assert (there.difference, there.low, there.high, *there.inner) == pytest.approx(
        (turned.difference, turned.low, turned.high, *turned.inner)
    )
    assert (there.p, there.standard_error) == (found.p, found.standard_error)


def test_pooled_bootstrap_is_scipys_of_two_samples(better: np.ndarray, worse: np.ndarray):
    """Each data set's tweets are drawn on their own; F1 is of all spans together, as if they were one data set."""
    sets = [(better, worse), (better[:, :50], worse[:, :50])]
    found = pooled_contrast([(1.0, [s[0] for s in sets]), (-1.0, [s[1] for s in sets])], RESAMPLES)

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        sides = [np.concatenate([sets[0][k][:, first], sets[1][k][:, second]], axis=1) for k in (0, 1)]
        return float(np.mean([f1(one) for one in sides[0]]) - np.mean([f1(one) for one in sides[1]]))

    theirs = scipy_stats.bootstrap(
        (np.arange(TWEETS), np.arange(50)),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(4),
    )
    assert found.difference == pytest.approx(statistic(np.arange(TWEETS), np.arange(50)))
    assert found.standard_error == pytest.approx(theirs.standard_error, rel=4 / np.sqrt(RESAMPLES))


def test_the_same_tweets_pooled_with_themselves_count_as_twice_as_many(better: np.ndarray, worse: np.ndarray):
    """Both data sets are drawn from the same random numbers, and still independently of each other."""
    once = bootstrap_contrast([(1.0, better), (-1.0, worse)], RESAMPLES)
    twice = pooled_contrast([(1.0, [better, better]), (-1.0, [worse, worse])], RESAMPLES)
    assert twice.difference == pytest.approx(once.difference)
    assert twice.standard_error == pytest.approx(once.standard_error / np.sqrt(2), rel=4 / np.sqrt(RESAMPLES))


def test_resampled_f1_spreads_as_scipys_bootstrap_does(better: np.ndarray):
    ours_RS = resampled_f1(better, RESAMPLES)
    assert ours_RS.shape == (RESAMPLES, 3)
    for seed in range(3):
        theirs = scipy_stats.bootstrap(
            (np.arange(TWEETS),),
            lambda picked, seed=seed: f1(better[seed][picked]),
            n_resamples=RESAMPLES,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        # four standard errors of the ratio of two standard deviations, each of as many resamples
        assert ours_RS[:, seed].std(ddof=1) == pytest.approx(theirs.standard_error, rel=4 / np.sqrt(RESAMPLES))


def test_a_planted_no_difference_is_rarely_called_significant():
    """Outputs of two unequal systems swapped tweet by tweet at random: no difference, but for the luck of the swaps."""
    rng = np.random.default_rng(17)
    cases, called = 1000, np.zeros(2)
    for _ in range(cases):
        one, other = simulated_counts(0.8, 2, rng), simulated_counts(0.65, 2, rng)
        swapped_N = rng.integers(2, size=TWEETS).astype(bool)[:, None]
        ours, theirs = np.where(swapped_N, one, other), np.where(swapped_N, other, one)
        p = of_two(ours, theirs, RESAMPLES).p, approximate_randomisation(ours, theirs, RESAMPLES)
        called += np.array(p) < 0.05
    assert (called <= 0.07 * cases).all(), called
    assert (called >= 0.03 * cases).all(), called  # a test that never says anything would pass the line above


def test_randomisation_matches_scipy():
    rng = np.random.default_rng(5)
    ours, other = simulated_counts(0.72, 1, rng), simulated_counts(0.65, 1, rng)

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return f1(ours[0, a] if (a < TWEETS).all() else pool[a]) - f1(pool[b])

    pool = np.concatenate([ours[0], other[0]])
    theirs = scipy_stats.permutation_test(
        (np.arange(TWEETS), np.arange(TWEETS, 2 * TWEETS)),
        statistic,
        permutation_type="samples",
        vectorized=False,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(7),
    )
    p = approximate_randomisation(ours, other, RESAMPLES)
    assert 0.005 < p < 0.9  # a case in which the two could differ
    assert p == pytest.approx(theirs.pvalue, abs=4 * np.sqrt(2 * p * (1 - p) / RESAMPLES))


def test_randomisation_is_one_for_the_same_system_and_small_for_a_clear_gap(better: np.ndarray, worse: np.ndarray):
    assert approximate_randomisation(better, better, RESAMPLES) == 1.0
    assert approximate_randomisation(better, worse, RESAMPLES) < 0.01


def test_randomisation_counts_the_observed_swap():
    ours, other = np.array([[[1, 1, 1]]]), np.array([[[0, 1, 1]]])
    assert approximate_randomisation(ours, other, 200) == 1.0  # one tweet: every swap is as extreme as what was seen


def test_t_against_zero_matches_scipy_and_handles_values_without_spread():
    values = [0.04, 0.03, -0.01, 0.06]
    assert t_against_zero(values) == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)
    assert (t_against_zero([0.0, 0.0]), t_against_zero([0.1, 0.1])) == (1.0, 0.0)
    with pytest.raises(ValueError, match="two seeds"):
        t_against_zero([0.1])


def test_t_of_differences_is_the_paired_t_test():
    def between(ours: list[float], other: list[float]) -> float:
        return t_against_zero(np.subtract(ours, other).tolist())

    ours, other = [0.70, 0.73, 0.69, 0.75], [0.66, 0.70, 0.70, 0.69]
    assert between(ours, other) == pytest.approx(scipy_stats.ttest_rel(ours, other).pvalue)
    assert between([0.5, 0.6], [0.5, 0.6]) == 1.0
    assert between([0.6, 0.7], [0.5, 0.6]) == 0.0


def test_what_is_detectable_over_seeds_is_found_four_times_in_five():
    rng = np.random.default_rng(23)
    seeds, sd = 8, 0.01
    spread = detectable_over_seeds((rng.normal(size=200_000) * sd).tolist()) * np.sqrt(200_000) / sd
    assert spread == pytest.approx(scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8), rel=0.01)
    values = np.array([-1.0, 1.0] * (seeds // 2))
    true = detectable_over_seeds((sd * values / values.std(ddof=1)).tolist())
    found = scipy_stats.ttest_1samp(rng.normal(true, sd, size=(4000, seeds)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)  # the sum of two quantiles is close, not exact
    with pytest.raises(ValueError, match="two seeds"):
        detectable_over_seeds([0.1])


def test_what_is_detectable_over_seeds_has_the_stated_power():
    """Of the noncentral t distribution; the sum of two quantiles is close to what it asks for, not exact."""
    differences = [0.01, 0.03, 0.02, 0.05, 0.04, 0.02]
    error = scipy_stats.sem(differences)
    found = detectable_over_seeds(differences)
    assert found / error == pytest.approx(scipy_stats.t.ppf(0.975, 5) + scipy_stats.t.ppf(0.8, 5))
    power = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, 5), 5, found / error)
    assert power == pytest.approx(0.8, abs=0.02)


def test_that_many_tweets_bring_the_detectable_difference_down():
    detectable = minimum_detectable_difference(0.014)
    needed = tweets_needed(detectable, 0.01, 674)
    assert minimum_detectable_difference(0.014 * np.sqrt(674 / needed)) <= 0.01
    assert minimum_detectable_difference(0.014 * np.sqrt(674 / (needed - 1))) > 0.01


def test_holm_is_that_of_statsmodels():
    """statsmodels 0.15.0, multipletests(method="holm")."""
    p = [0.011, 0.2, 0.0004, 0.03, 0.03, 0.9, 0.049]
    assert holm(p) == pytest.approx([0.066, 0.4, 0.0028, 0.15, 0.15, 0.9, 0.15])


def test_holm_of_a_hand_computed_case():
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([]) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]):
    adjusted = np.array(holm(p_values))
    raw = np.array(p_values)
    assert (adjusted >= raw - 1e-12).all()
    assert (adjusted <= np.minimum(raw * len(raw), 1.0) + 1e-12).all()
    assert adjusted[raw.argmin()] == pytest.approx(min(raw.min() * len(raw), 1.0))
    # Holm rejects whatever Bonferroni does, in the order of the raw values
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= -1e-12).all()


def test_minimum_detectable_difference_has_the_stated_power():
    difference = minimum_detectable_difference(0.014)
    power = scipy_stats.norm.sf(scipy_stats.norm.ppf(0.975), loc=difference / 0.014)
    assert power == pytest.approx(0.8)
    assert difference == pytest.approx(0.0392, abs=1e-4)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_prediction_interval_is_where_one_more_run_would_differ(n: int):
    """One more run at its end differs from the others by scipy's two-sample t test at exactly 5 %."""
    values = (0.6 + 0.01 * np.random.default_rng(n).normal(size=n)).tolist()
    half = prediction_half_width(values)
    assert scipy_stats.ttest_ind(values, [np.mean(values) + half]).pvalue == pytest.approx(0.05)
    assert against_paper(values, 0.6).half_width == half


def test_prediction_interval_covers_one_more_run():
    rng = np.random.default_rng(11)
    runs = rng.normal(size=(4000, 6))
    half = np.array([prediction_half_width(row[:5].tolist()) for row in runs])
    covered = (np.abs(runs[:, 5] - runs[:, :5].mean(axis=1)) <= half).mean()
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 4000))
    with pytest.raises(ValueError, match="two values"):
        prediction_half_width([0.5])


@pytest.mark.parametrize(
    ("difference", "p_tweets", "p_seeds", "expected"),
    [
        (0.02, 0.01, 0.01, "ahead"),
        (-0.02, 0.01, 0.01, "behind"),
        (0.02, 0.01, 0.20, "no difference shown"),
        (0.02, 0.20, 0.01, "no difference shown"),
        (0.02, 0.05, 0.05, "no difference shown"),
        (0.02, None, None, "undecided"),
    ],
)
def test_ahead_needs_both_tests(difference: float, p_tweets: float | None, p_seeds: float | None, expected: str):
    assert standing(difference, p_tweets, p_seeds) == expected


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "not run"),
        ([0.677], "inconclusive"),
        ([0.677] * 4, "inconclusive"),  # fewer than five seeds
        ([0.676, 0.677, 0.678, 0.677, 0.677], "reproduced"),
        ([0.687 - 0.001, 0.687, 0.687, 0.687, 0.687], "reproduced"),  # just inside the tolerance of one point
        ([0.700, 0.701, 0.702, 0.701, 0.701], "higher"),
        ([0.650, 0.651, 0.652, 0.651, 0.651], "lower"),
        ([0.66, 0.67, 0.68, 0.69, 0.70], "inconclusive"),  # spread over twice the tolerance
        ([0.687, 0.690, 0.693, 0.696, 0.684], "inconclusive"),  # beyond the tolerance, within the half-width
    ],
)
def test_against_paper(values: list[float], verdict: str):
    judged = against_paper(values, 0.677)
    assert judged.verdict == verdict
    assert (judged.difference is None) == (not values)
    assert (judged.half_width is None) == (len(values) < 2)
