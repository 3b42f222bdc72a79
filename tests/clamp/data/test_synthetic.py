"""The generator: its Bayes oracle, its text-only bound, and what its pictures must and must not give away."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import changed_cells, entity_of, gold, same, seen_in_pixels, told_in_words
from scipy.stats import chi2_contingency

from clamp.config import ConfigError
from clamp.data.schema import POLARITIES, Tweet
from clamp.data.sprites import COLOURS, SHAPES, sprites
from clamp.data.synthetic import (
    CLAUSES,
    IMAGE_SIZE,
    LINK_WORDS,
    MAX_ASPECTS,
    POLARITY_WORDS,
    UNSEEN_CLAUSES,
    UNTOLD_WORDS,
    VOCABULARY,
    WORD_RANGE,
    generate_synthetic,
)
from clamp.metrics import span_scores


@cache
def quiet_tweets() -> list[Tweet]:
    """Many tweets without pixel noise."""
    return generate_synthetic(600, 11, noise=0.0)


@cache
def many_tweets() -> list[Tweet]:
    """More tweets, three tenths of the aspects told by the image."""
    return generate_synthetic(2500, 17, image_told_share=0.3)


@pytest.mark.parametrize(
    ("difficulty", "n"),
    [
        ({}, 150),
        ({"noise": 0.0}, 300),
        ({"noise": 0.0, "cells": 8, "distractors": 10}, 80),
        ({"noise": 10.0, "cells": 2, "distractors": 1}, 40),
        ({"image_told_share": 1.0, "distractors": 13}, 80),
        ({"clauses": UNSEEN_CLAUSES}, 100),
        ({"look": "unseen"}, 100),
        ({"redraw": "mouths"}, 60),
    ],
)
def test_the_oracle_of_words_and_pixels_is_always_right(difficulty: dict[str, Any], n: int) -> None:
    tweets = generate_synthetic(n, 3, **difficulty)
    predicted = []
    for tweet in tweets:
        spans = []
        for start, told in told_in_words(tweet.words):
            _, mouth = seen_in_pixels(tweet, *tweet.words[start : start + 2], difficulty.get("look", "usual"))
            spans.append((start, start + 2, told or mouth))
        predicted.append(spans)
    assert span_scores(predicted, gold(tweets)).f1 == 1.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_text_only_bound_is_one_less_two_thirds_of_the_share(share: float) -> None:
    tweets = generate_synthetic(700, 5, image_told_share=share)
    best = [[(start, start + 2, told or "NEU") for start, told in told_in_words(t.words)] for t in tweets]
    scores = span_scores(best, gold(tweets))
    bound = 1.0 - 2.0 / 3.0 * share
    deviation = np.sqrt(bound * (1.0 - bound) / scores.gold)
    assert abs(scores.f1 - bound) <= 3.5 * deviation


@pytest.mark.parametrize("kind", ["words", "place", "number"])
def test_nothing_but_the_mouth_tells_an_image_told_polarity(kind: str) -> None:
    cues = []
    for tweet in many_tweets():
        for number, aspect in enumerate(tweet.aspects):
            if aspect.told_by == "image":
                before = tweet.words[aspect.start - 1] if aspect.start else ""
                cue = {"words": before, "place": aspect.region, "number": (number, len(tweet.aspects))}[kind]
                cues.append((cue, aspect.polarity))
    counts = Counter(cues)
    kinds = sorted({cue for cue, _ in cues if min(counts[cue, p] for p in POLARITIES) >= 5}, key=str)
    assert len(kinds) >= 5
    table = np.array([[counts[cue, p] for p in POLARITIES] for cue in kinds])
    assert chi2_contingency(table).pvalue > 0.01


def test_the_mouth_of_a_text_told_aspect_knows_nothing_of_its_label() -> None:
    counts = {teller: np.zeros((3, 3)) for teller in ("text", "image")}
    for tweet in quiet_tweets():
        for aspect in tweet.aspects:
            _, mouth = seen_in_pixels(tweet, *entity_of(tweet, aspect))
            assert aspect.told_by is not None
            counts[aspect.told_by][POLARITIES.index(aspect.polarity), POLARITIES.index(mouth)] += 1
    assert chi2_contingency(counts["text"]).pvalue > 0.01
    assert np.array_equal(counts["image"], np.diag(np.diag(counts["image"])))
    assert counts["image"].diagonal().min() > 100


def test_every_entity_and_mouth_can_be_seen_in_its_gold_cell() -> None:
    for tweet in quiet_tweets()[:200]:
        for aspect in tweet.aspects:
            cell, _ = seen_in_pixels(tweet, *entity_of(tweet, aspect))
            assert cell == aspect.region


@pytest.mark.parametrize("size", [7, 14, 28])
def test_all_sprites_differ(size: int) -> None:
    paint, remainder = sprites(size)
    drawn = (paint + remainder * 128.0).reshape(-1, size * size * 3)
    squares = (drawn**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * drawn @ drawn.T
    np.fill_diagonal(distances, np.inf)
    # Twice the default pixel noise in the direction that separates the closest pair.
    assert np.sqrt(distances.min()) > 2 * 2 * 20.0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    share=st.floats(0.0, 1.0),
    cells=st.integers(3, 8),
    distractors=st.integers(0, 6),
    noise=st.floats(0.0, 60.0),
)
def test_every_tweet_keeps_the_rules(seed: int, share: float, cells: int, distractors: int, noise: float) -> None:
    tweets = generate_synthetic(
        4, seed, image_told_share=share, cells=cells, distractors=distractors, noise=noise, id_prefix="x"
    )
    for number, tweet in enumerate(tweets):
        assert tweet.id == f"x{number:05d}"
        assert set(tweet.words) <= set(VOCABULARY)
        assert WORD_RANGE[0] <= len(tweet.words) <= WORD_RANGE[1]
        assert 1 <= len(tweet.aspects) <= MAX_ASPECTS
        spans = [(start, start + 2) for start, _ in told_in_words(tweet.words)]
        assert spans == [(aspect.start, aspect.end) for aspect in tweet.aspects]
        assert len({entity_of(tweet, aspect) for aspect in tweet.aspects}) == len(tweet.aspects)
        shown = [*(aspect.region for aspect in tweet.aspects), *tweet.distractors]
        assert len(set(shown)) == len(shown) == len(tweet.aspects) + distractors
        assert set(shown) <= set(range(cells * cells))
        assert tweet.cells == cells
        assert isinstance(tweet.image, np.ndarray)
        assert tweet.image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        assert tweet.image.dtype == np.uint8


def test_shares_are_as_asked() -> None:
    aspects = [aspect for tweet in many_tweets() for aspect in tweet.aspects]
    told_by_image = np.mean([aspect.told_by == "image" for aspect in aspects])
    assert abs(told_by_image - 0.3) < 3.5 * np.sqrt(0.3 * 0.7 / len(aspects))
    for polarity in POLARITIES:
        share = np.mean([aspect.polarity == polarity for aspect in aspects])
        assert abs(share - 1 / 3) < 3.5 * np.sqrt(2 / 9 / len(aspects))


def test_both_words_of_an_entity_are_needed() -> None:
    """Bare colour and shape words occur outside aspects, and in many a tweet an aspect shares a word with another."""
    bare = shared = 0
    for tweet in quiet_tweets():
        inside = {position for aspect in tweet.aspects for position in range(aspect.start, aspect.end)}
        names = [word for position, word in enumerate(tweet.words) if position not in inside]
        bare += any(word in COLOURS or word in SHAPES for word in names)
        colours, shapes = zip(*(entity_of(tweet, aspect) for aspect in tweet.aspects), strict=True)
        shared += len(set(colours)) < len(colours) or len(set(shapes)) < len(shapes)
    assert bare > 0.3 * len(quiet_tweets())
    assert shared > 0.1 * len(quiet_tweets())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (generate_synthetic(30, seed) for seed in (1, 1, 2))
    assert all(map(same, first, again))
    assert not any(map(same, first, other))
    assert all(map(same, generate_synthetic(10, 1), first))


def test_noise_changes_the_pixels_only() -> None:
    quiet, noisy = (generate_synthetic(20, 1, noise=noise) for noise in (0.0, 30.0))
    for first, second in zip(quiet, noisy, strict=True):
        assert replace(first, image=None) == replace(second, image=None)
        assert isinstance(first.image, np.ndarray)
        assert isinstance(second.image, np.ndarray)
        difference = second.image.astype(float) - first.image
        free = (first.image > 80) & (first.image < 170)  # where clipping at 0 and 255 takes little away
        assert abs(difference[free].std() - 30.0) < 1.5


def test_unseen_clauses_are_unseen_and_need_no_new_word() -> None:
    assert not set(CLAUSES) & set(UNSEEN_CLAUSES)
    words = {word for tweet in generate_synthetic(200, 5, clauses=UNSEEN_CLAUSES) for word in tweet.words}
    assert words <= set(VOCABULARY)


def test_the_unseen_look_shows_the_same_scene_in_other_pixels() -> None:
    usual, unseen = (generate_synthetic(20, 5, look=look) for look in ("usual", "unseen"))
    assert all(np.any(a.image != b.image) for a, b in zip(usual, unseen, strict=True))
    assert [replace(t, image=None) for t in usual] == [replace(t, image=None) for t in unseen]


def test_redrawn_mouths_are_all_others_and_nothing_else_changes() -> None:
    tweets, redrawn = (generate_synthetic(60, 5, noise=0.0, redraw=redraw) for redraw in ("nothing", "mouths"))
    for tweet, other in zip(tweets, redrawn, strict=True):
        assert replace(other, image=None, aspects=()) == replace(tweet, image=None, aspects=())
        for aspect, changed in zip(tweet.aspects, other.aspects, strict=True):
            assert (changed.polarity == aspect.polarity) == (aspect.told_by == "text")
            assert replace(changed, polarity=aspect.polarity) == aspect
        assert changed_cells(tweet, other) == {a.region for a in tweet.aspects} | set(tweet.distractors)


def test_too_many_entities_for_the_image_are_refused() -> None:
    generate_synthetic(1, 0, cells=3, distractors=6)
    with pytest.raises(ConfigError, match="3 aspects and 7 distractors do not fit into 3 x 3 cells"):
        generate_synthetic(1, 0, cells=3, distractors=7)


def test_a_caption_names_every_figure_in_reading_order_and_nothing_else() -> None:
    for tweet in quiet_tweets():
        assert len(tweet.proxy or ()) == 1
        figures = [tuple(figure.split()) for figure in tweet.proxy_text.split(" , ")]
        assert len(figures) == len(set(figures)) == len(tweet.aspects) + len(tweet.distractors)
        assert all(colour in COLOURS and shape in SHAPES for colour, shape in figures)
        cells = sorted([*tweet.distractors, *(aspect.region for aspect in tweet.aspects)])
        for aspect in tweet.aspects:
            assert figures[cells.index(aspect.region)] == entity_of(tweet, aspect)


def test_the_vocabulary_has_every_word_once_and_in_use() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    used = {word for tweet in quiet_tweets() for word in tweet.words}
    assert used == set(VOCABULARY)
    classes = [*POLARITY_WORDS.values(), UNTOLD_WORDS, LINK_WORDS, tuple(COLOURS), tuple(SHAPES)]
    assert len({word for words in classes for word in words}) == sum(map(len, classes))
