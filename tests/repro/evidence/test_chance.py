"""Chance levels agree with guesses that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from repro.evidence import chance

SYNTHETIC = {"cells": 4, "distractors": 2}


def test_words_alone_guess_one_in_three_where_only_the_image_tells() -> None:
    random = np.random.default_rng(0)
    told_by_image = random.random(200_000) < 0.3
    right = ~told_by_image | (random.integers(3, size=told_by_image.size) == 0)
    assert chance.words_alone(0.3) == pytest.approx(right.mean(), abs=0.005)
    assert [chance.words_alone(0.0), chance.words_alone(1.0)] == pytest.approx([1.0, 1 / 3])


def test_who_reads_every_mouth_but_no_badge_takes_the_most_frequent_of_the_others() -> None:
    random = np.random.default_rng(0)
    right: list[bool] = []
    for count in random.integers(1, 4, size=20_000):
        others = random.integers(3, size=(count, count - 1 + 2))  # of each aspect; the first of them is named
        guessed = [np.bincount(mouths).argmax() for mouths in others]
        right += (others[:, 0] == guessed).tolist()
    assert chance.without_badges(1.0, 2) == pytest.approx(np.mean(right), abs=0.01)
    assert chance.without_badges(1.0, 2) == pytest.approx((2 / 3 + 2 * 17 / 27 + 3 * 16 / 27) / 6)
    assert chance.without_badges(0.5, 2) == pytest.approx((1 + chance.without_badges(1.0, 2)) / 2)
    assert chance.without_badges(1.0, 5) < chance.without_badges(1.0, 1)


def test_of_sixteen_cells_one_is_right_and_two_are_distractors() -> None:
    picked = np.random.default_rng(0).integers(16, size=200_000)
    assert chance.pointing(SYNTHETIC) == pytest.approx((picked == 5).mean(), abs=0.005)
    assert chance.distractor_mass(SYNTHETIC) == pytest.approx(np.isin(picked, [1, 7]).mean(), abs=0.005)
