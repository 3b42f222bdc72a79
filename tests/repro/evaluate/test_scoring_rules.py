"""The rules of published scorers on predictions that they read differently."""

from __future__ import annotations

import numpy as np
import pytest

from clamp.data import Aspect, Tweet
from repro.evaluate.scoring_rules import joint_f1_by_rule, polarity_f1_by_rule
from repro.records.evaluation import SCORING_RULES


def test_every_rule_reads_its_own_difference() -> None:
    tweets = [
        Tweet("a", ("Apple", "beats", "apple"), (Aspect(0, 1, "POS"),)),
        Tweet("b", ("the", "new", "phone", "is", "bad"), (Aspect(1, 3, "NEG"), Aspect(4, 5, "NEG"))),
    ]
    tags = [["O", "O", "B-POS"], ["O", "I-NEG", "I-NEG"]]  # the second tweet was cut after three words
    viterbi = [[(2, 3, "POS")], [(1, 3, "NEG")]]
    found = joint_f1_by_rule(tags, viterbi, tweets)
    assert found.keys() == SCORING_RULES.keys()
    assert found["strict"] == 0.0
    assert found["orphans_open"] == found["viterbi"] == pytest.approx(2 * 1 / (2 + 3))
    assert found["lower_cased_text"] == pytest.approx(2 * 1 / (1 + 3))
    assert found["kept_words_only"] == 0.0
    found = joint_f1_by_rule([["B-POS", "O", "O"], ["O", "B-NEG", "I-NEG"]], viterbi, tweets)
    assert found["strict"] == pytest.approx(2 * 2 / (2 + 3))
    assert found["kept_words_only"] == 1.0


def test_a_text_predicted_twice_counts_twice() -> None:
    tweets = [Tweet("a", ("Apple", "beats", "apple"), (Aspect(0, 1, "POS"), Aspect(1, 2, "NEU")))]
    found = joint_f1_by_rule([["B-POS", "O", "B-POS"]], [[]], tweets)
    assert found["strict"] == 0.5
    assert found["lower_cased_text"] == 1.0


def test_polarity_rules_agree_with_scikit_learns_definitions() -> None:
    gold = [0, 1, 1, 1]
    probabilities = np.eye(3)[[0, 0, 0, 1]]
    found = polarity_f1_by_rule(probabilities, gold)
    assert found["macro"] == pytest.approx(0.5)
    assert found["harmonic"] == pytest.approx(2 / 3)
    assert found["micro"] == pytest.approx(0.5)
