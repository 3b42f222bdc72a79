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


def test_of_sixteen_cells_one_is_right_and_two_are_distractors() -> None:
    picked = np.random.default_rng(0).integers(16, size=200_000)
    assert chance.pointing(SYNTHETIC) == pytest.approx((picked == 5).mean(), abs=0.005)
    assert chance.distractor_mass(SYNTHETIC) == pytest.approx(np.isin(picked, [1, 7]).mean(), abs=0.005)
