"""Scoring: published reference counts, invariants, and one case for every rule by which published systems differ.

Each peer's rule is a small function inside its own test, so that the case shows what the difference is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamp.data.schema import POLARITIES
from clamp.metrics import (
    Scores,
    expected_calibration_error,
    per_tweet_counts,
    polarity_scores,
    scores_from_counts,
    span_scores,
    without_polarity,
)
from clamp.tagging import decode_tags

Span = tuple[int, int, str]
POS, NEU, NEG = range(3)

spans = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), st.sampled_from(POLARITIES)), max_size=6)
tweets = st.lists(st.tuples(spans, spans), max_size=5)
probabilities = st.lists(
    st.tuples(*[st.floats(0.01, 1.0)] * 3, st.integers(0, 2)),
    min_size=1,
    max_size=30,
)


def one_hot(labels: Sequence[int]) -> np.ndarray:
    return np.eye(3)[list(labels)]


def split_probabilities(rows: list[tuple[float, float, float, int]]) -> tuple[np.ndarray, np.ndarray]:
    raw = np.array([row[:3] for row in rows])
    return raw / raw.sum(axis=1, keepdims=True), np.array([row[3] for row in rows])


# Reference counts and definitions


@pytest.mark.parametrize(
    ("counts", "published"),
    [((711, 1101, 1037), (64.58, 68.56, 66.51)), ((857, 1268, 1234), (67.59, 69.45, 68.51))],
    ids=["twitter2015", "twitter2017"],
)
def test_scores_reproduce_the_logged_figures_of_cmmt(counts: tuple[int, int, int], published: tuple[float, ...]):
    tp, predicted, gold = counts
    gold_spans = [[(2 * i, 2 * i + 1, "POS") for i in range(gold)]]
    predicted_spans = [gold_spans[0][:tp] + [(2 * i + 1, 2 * i + 2, "POS") for i in range(predicted - tp)]]
    scores = span_scores(predicted_spans, gold_spans)
    assert (scores.tp, scores.predicted, scores.gold) == counts
    assert tuple(round(100 * x, 2) for x in (scores.precision, scores.recall, scores.f1)) == published


@pytest.mark.parametrize(
    ("predicted", "gold"), [([], []), ([[]], [[]]), ([[(0, 1, "POS")]], [[]]), ([[]], [[(0, 1, "POS")]])]
)
def test_scores_are_zero_where_undefined(predicted: list, gold: list):
    scores = span_scores(predicted, gold)
    assert (scores.precision, scores.recall, scores.f1) == (0.0, 0.0, 0.0)


def test_scores_refuse_a_different_number_of_tweets():
    with pytest.raises(ValueError, match="argument 2"):
        span_scores([[]], [[], []])


def test_the_same_span_in_another_tweet_is_no_match():
    assert span_scores([[(0, 1, "POS")], []], [[], [(0, 1, "POS")]]).tp == 0


@settings(max_examples=60, deadline=None)
@given(tweets)
def test_scores_are_invariant_to_order_and_duplicates_and_symmetric(pairs: list[tuple[list[Span], list[Span]]]):
    predicted, gold = [p for p, _ in pairs], [g for _, g in pairs]
    scores = span_scores(predicted, gold)
    assert span_scores([p[::-1] + p for p in predicted], [g[::-1] for g in gold]) == scores
    mirrored = span_scores(gold, predicted)
    assert (mirrored.precision, mirrored.recall, mirrored.f1) == (scores.recall, scores.precision, scores.f1)
    assert scores_from_counts(per_tweet_counts(predicted, gold)) == scores
    if scores.tp:
        harmonic = 2 * scores.precision * scores.recall / (scores.precision + scores.recall)
        assert scores.f1 == pytest.approx(harmonic)


@settings(max_examples=60, deadline=None)
@given(tweets)
def test_mate_is_never_below_joint_where_a_gold_span_has_one_polarity(pairs: list[tuple[list[Span], list[Span]]]):
    predicted = [p for p, _ in pairs]
    gold = [list({span[:2]: span for span in g}.values()) for _, g in pairs]
    mate = span_scores(without_polarity(predicted), without_polarity(gold))
    assert mate.f1 >= span_scores(predicted, gold).f1


def test_polarity_scores_average_over_the_classes_seen():
    # hand-computed: POS 2/3 (1 of 1 predicted, 1 of 2 gold), NEU 4/5 (2 of 3 predicted, 2 of 2 gold); NEG never occurs
    scores = polarity_scores(one_hot([POS, NEU, NEU, NEU]), [POS, POS, NEU, NEU])
    assert scores.n == 4
    assert scores.accuracy == 0.75
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    # a class that is predicted but never gold counts with F1 0
    assert polarity_scores(one_hot([POS, NEG]), [POS, POS]).macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert polarity_scores(np.empty((0, 3)), []).n == 0


def test_calibration_error_of_a_hand_computed_case():
    # bins of 0.8 (three rows, two right) and 0.6 (one row, wrong): |2 - 2.4| / 4 + |0 - 0.6| / 4
    probabilities_NC = [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]]
    assert expected_calibration_error(probabilities_NC, [POS, POS, NEG, POS]) == pytest.approx(0.25)


def test_calibration_error_does_not_cancel_across_bins():
    over, under = [[0.95, 0.05]] * 2, [[0.55, 0.45]] * 2
    gold = [0, 1, 0, 0]  # sure and half right; unsure and all right
    assert expected_calibration_error([*over, *under], gold) == pytest.approx((2 * 0.45 + 2 * 0.45) / 4)
    assert expected_calibration_error([*over, *under], gold, bins=1) == pytest.approx(0.0)


@settings(max_examples=60, deadline=None)
@given(probabilities)
def test_calibration_error_lies_between_the_overall_gap_and_one(rows: list[tuple[float, float, float, int]]):
    probabilities_N3, gold_N = split_probabilities(rows)
    error = expected_calibration_error(probabilities_N3, gold_N)
    overall = abs((probabilities_N3.argmax(axis=1) == gold_N).mean() - probabilities_N3.max(axis=1).mean())
    assert overall - 1e-12 <= error <= 1.0
    assert expected_calibration_error(probabilities_N3, gold_N, bins=1) == pytest.approx(overall)


@pytest.mark.parametrize("at_edge_C", [(0.5, 0.3, 0.2), (1.0, 0.0, 0.0)])
def test_calibration_bins_are_closed_on_the_right(at_edge_C: tuple[float, ...]):
    below_C = (at_edge_C[0] - 1e-3, at_edge_C[1] + 1e-3, at_edge_C[2])
    # one row right and one wrong, at and just under the edge, share a bin: their gaps add up before the absolute value
    error = expected_calibration_error([at_edge_C, below_C], [0, 1], bins=2)
    assert error == pytest.approx(abs(1 - at_edge_C[0] - below_C[0]) / 2)


# What peers do differently


def test_an_orphan_inside_tag_opens_no_span_where_cmmt_opens_one():
    def cmmt(tags: Sequence[str]) -> list[Span]:
        opened = [
            f"B{tag[1:]}" if tag[0] == "I" and (i == 0 or tags[i - 1][1:] != tag[1:]) else tag
            for i, tag in enumerate(tags)
        ]
        return decode_tags(opened)

    tags, gold = ["O", "I-POS", "I-POS", "O", "B-NEG"], [[(1, 3, "POS"), (4, 5, "NEG")]]
    assert decode_tags(tags) == [(4, 5, "NEG")]
    assert span_scores([decode_tags(tags)], gold).recall == 0.5
    assert span_scores([cmmt(tags)], gold).recall == 1.0
    # and against a gold tweet without that span, the peer's rule costs precision
    assert span_scores([decode_tags(tags)], [[(4, 5, "NEG")]]).precision == 1.0
    assert span_scores([cmmt(tags)], [[(4, 5, "NEG")]]).precision == 0.5


def test_orphan_inside_tags_are_ignored_as_dtca_ignores_them():
    def dtca(tags: Sequence[str]) -> list[Span]:
        found: list[Span] = []
        for start, tag in enumerate(tags):
            if tag.startswith("B-"):
                end = start + 1
                while end < len(tags) and tags[end] == f"I-{tag[2:]}":
                    end += 1
                found.append((start, end, tag[2:]))
        return found

    for tags in (["I-POS", "O"], ["O", "I-NEG", "B-POS", "I-POS"], ["B-POS", "O", "I-POS"], ["I-NEU", "I-NEG"]):
        assert decode_tags(tags) == dtca(tags)


def test_a_change_of_polarity_closes_the_span_and_opens_none():
    def first_polarity_rules(tags: Sequence[str]) -> list[Span]:
        return decode_tags([f"I{tags[0][1:]}" if tag[0] == "I" else tag for tag in tags])

    tags = ["B-POS", "I-NEG", "I-NEG"]
    assert decode_tags(tags) == [(0, 1, "POS")]
    assert first_polarity_rules(tags) == [(0, 3, "POS")]
    assert decode_tags(["B-POS", "B-POS", "I-POS"]) == [(0, 1, "POS"), (1, 3, "POS")]
    assert decode_tags(["B-NEU", "I-NEU"]) == [(0, 2, "NEU")]  # a span may end with the tweet


def test_both_polarities_of_a_span_count_where_vlp_keeps_the_last():
    def vlp(predicted: list[Span]) -> list[Span]:
        return [(start, end, polarity) for (start, end), polarity in {s[:2]: s[2] for s in predicted}.items()]

    predicted, gold = [(0, 2, "POS"), (0, 2, "NEG")], [[(0, 2, "NEG")]]
    assert span_scores([predicted], gold).precision == 0.5
    assert span_scores([vlp(predicted)], gold).precision == 1.0


def test_a_malformed_span_is_a_false_positive_where_vlp_drops_it():
    def vlp(predicted: list[Span]) -> list[Span]:
        return [span for span in predicted if span[0] < span[1]]

    predicted, gold = [(0, 2, "POS"), (5, 3, "NEG")], [[(0, 2, "POS")]]
    assert span_scores([predicted], gold).precision == 0.5
    assert span_scores([vlp(predicted)], gold).precision == 1.0


WORDS = ["Apple", "beats", "apple", "juice"]


def texts(found: list[Span]) -> list[tuple[str, str]]:
    return [(" ".join(WORDS[start:end]).lower(), polarity) for start, end, polarity in found]


def test_positions_are_matched_where_jml_matches_lower_cased_text():
    predicted, gold = [(2, 3, "POS")], [(0, 1, "POS")]
    assert span_scores([predicted], [gold]).f1 == 0.0
    assert span_scores([texts(predicted)], [texts(gold)]).f1 == 1.0


def test_a_duplicate_counts_once_where_jml_can_count_it_twice():
    def jml(predicted: list[Span], gold: list[Span]) -> Scores:
        hits = sum(text in texts(gold) for text in texts(predicted))
        return scores_from_counts([(hits, len(predicted), len(gold))])

    predicted, gold = [(0, 1, "POS"), (0, 1, "POS")], [(0, 1, "POS"), (3, 4, "NEG")]
    ours = span_scores([predicted], [gold])
    assert (ours.tp, ours.predicted, ours.recall) == (1, 1, 0.5)
    assert jml(predicted, gold).recall == 1.0


def macro_precision_and_recall(predicted: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    labels = np.union1d(predicted, gold)
    right = [((predicted == c) & (gold == c)).sum() for c in labels]
    precision = [r / max((predicted == c).sum(), 1) for r, c in zip(right, labels, strict=True)]
    recall = [r / max((gold == c).sum(), 1) for r, c in zip(right, labels, strict=True)]
    return float(np.mean(precision)), float(np.mean(recall))


@settings(max_examples=60, deadline=None)
@given(probabilities)
def test_macro_f1_never_exceeds_the_harmonic_mean_of_esafn_and_vlp(rows: list[tuple[float, float, float, int]]):
    probabilities_N3, gold_N = split_probabilities(rows)
    p, r = macro_precision_and_recall(probabilities_N3.argmax(axis=1), gold_N)
    harmonic = 2 * p * r / (p + r) if p + r else 0.0
    assert polarity_scores(probabilities_N3, gold_N).macro_f1 <= harmonic + 1e-12


def test_macro_f1_is_below_the_harmonic_mean_of_esafn_and_vlp_on_unbalanced_errors():
    predicted, gold = [POS, POS, POS, NEU], [POS, NEU, NEU, NEU]
    p, r = macro_precision_and_recall(np.array(predicted), np.array(gold))
    assert polarity_scores(one_hot(predicted), gold).macro_f1 == pytest.approx(0.5)
    assert 2 * p * r / (p + r) == pytest.approx(2 / 3)


def test_macro_f1_is_below_the_micro_f1_of_dqpsa_when_the_rare_class_is_missed():
    gold = [NEU] * 8 + [NEG] * 2
    predicted = [NEU] * 10
    micro = span_scores([list(enumerate(predicted))], [list(enumerate(gold))]).f1
    scores = polarity_scores(one_hot(predicted), gold)
    assert micro == scores.accuracy == pytest.approx(0.8)
    assert scores.macro_f1 == pytest.approx((16 / 18 + 0) / 2)


def test_words_cut_by_truncation_still_count_as_gold():
    gold = [(0, 1, "POS"), (9, 10, "NEG")]
    kept = [
        span for span in gold if span[1] <= 5
    ]  # what a peer that reads gold off the truncated labels scores against
    assert span_scores([[(0, 1, "POS")]], [gold]).recall == 0.5
    assert span_scores([[(0, 1, "POS")]], [kept]).recall == 1.0


def test_mate_reads_the_joint_prediction_and_collapses_polarities():
    predicted, gold = [[(0, 2, "POS"), (0, 2, "NEG"), (3, 4, "NEU")]], [[(0, 2, "NEU"), (3, 4, "NEU")]]
    assert span_scores(predicted, gold).tp == 1
    mate = span_scores(without_polarity(predicted), without_polarity(gold))
    assert (mate.tp, mate.predicted, mate.gold, mate.f1) == (2, 2, 2, 1.0)
