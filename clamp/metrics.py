"""How predictions are scored: exact-match micro F1 for joint MABSA and MATE; accuracy, macro-F1, calibration for MASC.

Spans are (start, end, polarity) in word positions, end exclusive. Published systems score differently in small ways;
tests/clamp/test_metrics.py holds one case for each known difference.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Spans = Sequence[Iterable[tuple[Hashable, ...]]]  # one iterable of spans a tweet
Counts = Sequence[Sequence[int]]  # one (true positives, predicted, gold) a tweet


@dataclass(frozen=True, slots=True)
class Scores:
    """Micro-averaged span scores. The first three are counts, the last three lie in 0..1 and are 0 where undefined."""

    tp: int
    predicted: int
    gold: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class PolarityScores:
    """Polarity scores over `n` spans, in 0..1; 0 where there is no span."""

    accuracy: float
    macro_f1: float
    n: int


def span_scores(predicted: Spans, gold: Spans) -> Scores:
    """Micro precision, recall and F1 over the spans of all tweets; a span is right when it equals a gold one exactly.

    Both arguments hold one iterable of spans for each tweet, in the same order; a span named twice in a tweet counts
    once. ValueError where the two differ in length.
    """
    return scores_from_counts(per_tweet_counts(predicted, gold))


def per_tweet_counts(predicted: Spans, gold: Spans) -> list[tuple[int, int, int]]:
    """(true positives, predicted, gold) of each tweet, duplicates removed; ValueError where the lengths differ."""
    counts = []
    for predicted_spans, gold_spans in zip(predicted, gold, strict=True):
        predicted_set, gold_set = set(predicted_spans), set(gold_spans)
        counts.append((len(predicted_set & gold_set), len(predicted_set), len(gold_set)))
    return counts


def scores_from_counts(counts: Counts) -> Scores:
    """The micro scores of tweets whose counts are `per_tweet_counts`'."""
    tp, predicted, gold = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    return Scores(
        tp,
        predicted,
        gold,
        precision=tp / predicted if predicted else 0.0,
        recall=tp / gold if gold else 0.0,
        f1=2 * tp / (predicted + gold) if predicted + gold else 0.0,
    )


def without_polarity(spans: Spans) -> list[set[tuple[Hashable, ...]]]:
    """The aspect terms of joint spans, for MATE: two spans of a tweet that differ in polarity alone become one."""
    return [{span[:2] for span in tweet_spans} for tweet_spans in spans]


def polarity_scores(probabilities_N3: ArrayLike, gold_N: ArrayLike) -> PolarityScores:
    """Accuracy and macro-F1 of the most probable polarity.

    `probabilities_N3` float, columns ordered as `clamp.data.schema.POLARITIES`; `gold_N` integer column indices.
    Macro-F1 follows scikit-learn's `f1_score(average="macro")` defaults: the unweighted mean of the per-class F1
    over the classes that occur in the gold labels or in the predictions.
    """
    gold_N = np.asarray(gold_N, dtype=np.int64)
    if not len(gold_N):
        return PolarityScores(0.0, 0.0, 0)
    predicted_N = np.asarray(probabilities_N3).argmax(axis=1)
    f1_by_class = []
    for label in np.union1d(gold_N, predicted_N):
        is_gold_N, is_predicted_N = gold_N == label, predicted_N == label
        f1_by_class.append(2 * (is_gold_N & is_predicted_N).sum() / (is_gold_N.sum() + is_predicted_N.sum()))
    return PolarityScores(float((predicted_N == gold_N).mean()), float(np.mean(f1_by_class)), len(gold_N))


BINS = 15  # of confidence


@dataclass(frozen=True, slots=True)
class ConfidenceBins:
    """Of each bin of confidence, of equal width over 0..1: how many predictions, the sum of their confidence, and how
    many are right."""

    count: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    @property
    def calibration_error(self) -> float:
        """The mean gap between confidence and accuracy, weighted by the bins' sizes, in 0..1; 0 of no prediction."""
        return float(np.abs(self.right - self.confidence).sum() / max(self.count.sum(), 1))


def confidence_bins(probabilities_NC: ArrayLike, gold_N: ArrayLike, bins: int = BINS) -> ConfidenceBins:
    """Predictions by their confidence, the largest probability of a row.

    Bins are open on the left, so that 1 falls into the last one (Guo et al., On Calibration of Modern Neural Networks,
    ICML 2017, equation 3, of which `calibration_error` is the sum).
    """
    gold_N = np.asarray(gold_N, dtype=np.int64)
    probabilities_NC = np.asarray(probabilities_NC, dtype=np.float64).reshape(len(gold_N), -1)
    if not len(gold_N):
        return ConfidenceBins(*(np.zeros(bins) for _ in range(3)))
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == gold_N
    bin_N = np.digitize(confidence_N, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)
    return ConfidenceBins(*(np.bincount(bin_N, weights=w, minlength=bins) for w in (None, confidence_N, right_N)))


def expected_calibration_error(probabilities_NC: ArrayLike, gold_N: ArrayLike, bins: int = BINS) -> float:
    """The calibration error of predictions (N, C) whose right columns are `gold_N`, in 0..1; 0 where there is none."""
    return confidence_bins(probabilities_NC, gold_N, bins).calibration_error
