"""What `clamp evaluate` says of each polarity and of the kinds of errors, against cases worked out by hand."""

from __future__ import annotations

import numpy as np

from clamp.commands.error_report import SpanErrors, as_text, error_report, polarity_report, span_errors
from clamp.data import Aspect, Tweet
from clamp.evaluate import UNIFORM, Predictions


def test_each_kind_of_error_is_told_apart() -> None:
    gold = [[(0, 2, "POS"), (3, 4, "NEG"), (5, 7, "NEU"), (8, 9, "POS")]]
    predicted = [[(0, 2, "POS"), (3, 4, "POS"), (6, 8, "NEU"), (10, 11, "NEG"), (12, 13, "POS")]]
    assert span_errors(predicted, gold) == SpanErrors(correct=1, wrong_polarity=1, wrong_bounds=1, missed=1, invented=2)


def test_one_predicted_span_accounts_for_one_annotated_span() -> None:
    assert span_errors([[(0, 4, "POS")]], [[(0, 1, "POS"), (3, 4, "POS")]]) == SpanErrors(wrong_bounds=1, missed=1)
    assert span_errors([[(0, 1, "POS"), (3, 4, "POS")]], [[(0, 4, "POS")]]) == SpanErrors(wrong_bounds=1, invented=1)
    assert span_errors([[(0, 1, "NEG"), (0, 1, "NEG")]], [[(0, 1, "NEG")]]) == SpanErrors(correct=1)


def test_polarities_have_scores_of_their_own() -> None:
    polarities = ("POS", "POS", "POS", "NEU", "NEG", "NEG")
    tweets = [Tweet("a", tuple("abcdefg"), tuple(Aspect(k, k + 1, p) for k, p in enumerate(polarities)))]
    called = [(0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.8, 0.1), (0.8, 0.1, 0.1)]
    found = Predictions([[]], [*map(np.array, called), UNIFORM], [])
    report = polarity_report(found, tweets)
    assert report["confusion"] == {
        "POS": {"POS": 2, "NEU": 1, "NEG": 0},
        "NEU": {"POS": 0, "NEU": 1, "NEG": 0},
        "NEG": {"POS": 1, "NEU": 0, "NEG": 0},
    }
    assert report["beyond_length"] == 1
    assert report["by_polarity"]["POS"] == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    assert report["by_polarity"]["NEU"] == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}
    assert report["by_polarity"]["NEG"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    text = as_text(error_report(found, tweets))
    assert "1 annotated aspects lie beyond the words that the model reads" in text
    assert "spans: 0 correct, 0 wrong polarity, 0 wrong bounds, 6 missed, 0 invented" in text
    assert "positive" in text
