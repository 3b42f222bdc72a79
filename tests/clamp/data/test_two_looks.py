"""Tweets that need two looks: their oracle, what less than two looks can know, and what redrawing changes."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from reading import changed_cells, entity_of, figure_of_colour, gold, same, told_in_words
from scipy.stats import chi2_contingency

from clamp.config import ConfigError, DataConfig, SyntheticConfig
from clamp.data import load_splits
from clamp.data.schema import POLARITIES, Aspect, Polarity, Tweet
from clamp.data.sprites import COLOURS, SHAPES, badges, sprites
from clamp.data.synthetic import generate_synthetic
from clamp.metrics import span_scores


def two_looks(n: int, seed: int, **settings: Any) -> list[Tweet]:
    return generate_synthetic(n, seed, looks=2, **settings)


@cache
def quiet_tweets() -> list[Tweet]:
    """Many tweets without pixel noise, every aspect told by the image."""
    return two_looks(1500, 23, noise=0.0, image_told_share=1.0)


def named_mouth(tweet: Tweet, colour: str) -> Polarity:
    """The oracle: from pixels alone, the mouth of the figure that the badge of the figure of this colour names."""
    return figure_of_colour(tweet, figure_of_colour(tweet, colour).badge).mouth


def test_one_look_is_what_it_was_byte_for_byte() -> None:
    digest = hashlib.sha256()
    usual = generate_synthetic(50, 2507)
    others = generate_synthetic(20, 3, cells=5, distractors=8, noise=3.0, image_told_share=0.8, look="unseen")
    for tweet in (*usual, *others):
        assert isinstance(tweet.image, np.ndarray)
        assert all(aspect.second_region is None for aspect in tweet.aspects)
        digest.update(repr(tweet.words).encode())
        digest.update(tweet.image.tobytes())
    # taken before there was a second look
    assert digest.hexdigest() == "56e3ffc32adabc6fe453585fb2257379a0e91094ae8c620a16f315c79af896ef"


@pytest.mark.parametrize(
    ("difficulty", "n"),
    [
        ({}, 400),  # the default noise does not fool it once
        ({"noise": 0.0, "distractors": 5}, 100),
        ({"distractors": 1, "cells": 2, "image_told_share": 1.0}, 40),
        ({"redraw": "mouths"}, 100),
        ({"redraw": "badges"}, 100),
    ],
)
def test_the_oracle_of_words_and_two_looks_at_pixels_is_always_right(difficulty: dict[str, Any], n: int) -> None:
    tweets = two_looks(n, 3, **difficulty)
    predicted = []
    for tweet in tweets:
        found = told_in_words(tweet.words)
        predicted.append([(start, start + 2, told or named_mouth(tweet, tweet.words[start])) for start, told in found])
    assert span_scores(predicted, gold(tweets)).f1 == 1.0


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_bound_of_words_alone_is_what_it_is_with_one_look(share: float) -> None:
    tweets = two_looks(700, 5, image_told_share=share)
    best = [[(start, start + 2, told or "NEU") for start, told in told_in_words(t.words)] for t in tweets]
    scores = span_scores(best, gold(tweets))
    bound = 1.0 - 2.0 / 3.0 * share
    assert abs(scores.f1 - bound) <= 3.5 * np.sqrt(bound * (1.0 - bound) / scores.gold)


def own_cells() -> list[tuple[dict[str, Hashable], Polarity]]:
    """All that the cell of every aspect shows, and the aspect's polarity."""
    seen = []
    for tweet in quiet_tweets():
        for aspect in tweet.aspects:
            colour, shape = entity_of(tweet, aspect)
            figure = figure_of_colour(tweet, colour)
            assert (figure.cell, figure.shape) == (aspect.region, shape)
            seen.append(
                ({"mouth": figure.mouth, "badge": figure.badge, "colour": colour, "shape": shape}, aspect.polarity)
            )
    return seen


OWN_CELLS = cache(own_cells)


@pytest.mark.parametrize(
    "known", [("mouth",), ("badge",), ("mouth", "badge"), ("mouth", "badge", "colour"),
              ("mouth", "badge", "colour", "shape")],
)  # fmt: skip
def test_who_sees_only_the_own_cell_guesses(known: Sequence[str]) -> None:
    """A table from what the cell shows to the most frequent polarity, fitted on one half, is at chance on the other."""
    half = len(OWN_CELLS()) // 2
    counts: defaultdict[Hashable, Counter[Polarity]] = defaultdict(Counter)
    for cell, polarity in OWN_CELLS()[:half]:
        counts[tuple(cell[part] for part in known)][polarity] += 1
    right = []
    for cell, polarity in OWN_CELLS()[half:]:
        table = counts[tuple(cell[part] for part in known)]
        right.append(polarity == (table.most_common(1)[0][0] if table else "NEU"))
    assert len(right) > 1400
    assert abs(np.mean(right) - 1 / 3) <= 3.5 * np.sqrt(2 / 9 / len(right))


def test_the_own_mouth_and_the_named_one_know_nothing_of_each_other() -> None:
    counts = np.zeros((3, 3))
    for cell, polarity in OWN_CELLS():
        counts[POLARITIES.index(cell["mouth"]), POLARITIES.index(polarity)] += 1
    assert chi2_contingency(counts).pvalue > 0.01


def test_who_sees_all_other_mouths_but_no_badge_is_right_in_more_than_one_of_two() -> None:
    """The best that is left is the most frequent mouth of the others: 2/3, 17/27 and 16/27 for two, three and four."""
    right = Counter[int]()
    total = Counter[int]()
    for tweet in quiet_tweets()[:500]:
        figures = [figure_of_colour(tweet, entity.split()[0]) for entity in tweet.proxy_text.split(" , ")]
        for aspect in tweet.aspects:
            others = Counter(figure.mouth for figure in figures if figure.cell != aspect.region)
            total[len(tweet.aspects)] += 1
            right[len(tweet.aspects)] += others.most_common(1)[0][0] == aspect.polarity
    for count, bound in ((1, 2 / 3), (2, 17 / 27), (3, 16 / 27)):
        assert abs(right[count] / total[count] - bound) <= 3.5 * np.sqrt(bound * (1 - bound) / total[count])


def test_badges_name_figures_along_one_cycle() -> None:
    for tweet in quiet_tweets()[:300]:
        entities = [tuple(entity.split()) for entity in tweet.proxy_text.split(" , ")]
        colours = [colour for colour, _ in entities]
        assert len(set(colours)) == len(colours) == len(tweet.aspects) + 2
        badge_of = {colour: figure_of_colour(tweet, colour).badge for colour in colours}
        assert set(badge_of.values()) == set(colours)
        way = [colours[0]]
        while badge_of[way[-1]] != colours[0]:
            way.append(badge_of[way[-1]])
        assert len(way) == len(colours) > 2


def test_second_regions_and_distractors_are_where_figures_stand() -> None:
    for tweet in two_looks(200, 9, noise=0.0):
        entities = [tuple(entity.split()) for entity in tweet.proxy_text.split(" , ")]
        cells = {colour: figure_of_colour(tweet, colour).cell for colour, _ in entities}
        wanted = set()
        for aspect in tweet.aspects:
            own = figure_of_colour(tweet, entity_of(tweet, aspect)[0])
            assert (aspect.region, aspect.second_region) == (own.cell, cells[own.badge])
            wanted |= {aspect.region, aspect.second_region} if aspect.told_by == "image" else {aspect.region}
        assert set(tweet.distractors) == set(cells.values()) - wanted
        assert len(set(tweet.distractors)) == len(tweet.distractors)


@pytest.mark.parametrize("size", [7, 11, 14, 28])
def test_a_badge_covers_no_mouth_and_has_the_colour_of_a_figure(size: int) -> None:
    for look in ("usual", "unseen"):
        paint, remainder = sprites(size, look)
        fills, corners = badges(size, look)
        for shape, corner in enumerate(corners):
            for colour in range(len(COLOURS)):
                drawn = paint[colour, shape] + remainder[colour, shape] * 128.0
                for first, second in pairwise(drawn):
                    assert np.array_equal(first[corner], second[corner])
                assert (np.abs(drawn - fills[colour]).sum(axis=-1) == 0).any()
            side = [part.stop - part.start for part in corner]
            assert side[0] == side[1] == {7: 2, 11: 3, 14: 4, 28: 8}[size]
    assert len(corners) == len(SHAPES)


def aspects_of(first: Tweet, second: Tweet) -> list[tuple[Aspect, Aspect]]:
    return list(zip(first.aspects, second.aspects, strict=True))


def test_redrawn_mouths_change_what_they_tell_and_no_badge() -> None:
    tweets, redrawn = (two_looks(60, 5, noise=0.0, redraw=redraw) for redraw in ("nothing", "mouths"))
    for tweet, other in zip(tweets, redrawn, strict=True):
        assert replace(other, image=None, aspects=()) == replace(tweet, image=None, aspects=())
        for aspect, changed in aspects_of(tweet, other):
            assert (changed.polarity == aspect.polarity) == (aspect.told_by == "text")
            assert replace(changed, polarity=aspect.polarity) == aspect
        for entity in tweet.proxy_text.split(" , "):
            before, after = (figure_of_colour(t, entity.split()[0]) for t in (tweet, other))
            assert after.mouth != before.mouth
            assert replace(after, mouth=before.mouth) == before


def test_redrawn_badges_name_others_and_their_mouths_tell() -> None:
    tweets, redrawn = (two_looks(120, 5, noise=0.0, redraw=redraw) for redraw in ("nothing", "badges"))
    moved = 0
    for tweet, other in zip(tweets, redrawn, strict=True):
        plain = replace(other, image=None, aspects=(), distractors=())
        assert plain == replace(tweet, image=None, aspects=(), distractors=())
        for aspect, changed in aspects_of(tweet, other):
            moved += changed.polarity != aspect.polarity
            assert aspect.told_by == "image" or changed.polarity == aspect.polarity
            assert changed.second_region not in (aspect.second_region, aspect.region)
            assert replace(changed, polarity=aspect.polarity, second_region=aspect.second_region) == aspect
        for entity in tweet.proxy_text.split(" , "):
            before, after = (figure_of_colour(t, entity.split()[0]) for t in (tweet, other))
            assert replace(after, badge=before.badge) == before != after
        differ = (tweet.image != other.image).any(axis=2)
        assert differ.sum() == 4 * 4 * len(tweet.proxy_text.split(" , "))  # the badges' pixels and no other
    assert moved > 40


def test_of_two_figures_each_can_only_name_the_other() -> None:
    tweets, redrawn = (
        [t for t in two_looks(40, 5, distractors=1, redraw=redraw) if len(t.aspects) == 1]
        for redraw in ("nothing", "badges")
    )
    assert tweets
    assert all(map(same, tweets, redrawn))


def test_the_same_seed_gives_the_same_bytes_and_a_longer_set_starts_with_the_shorter() -> None:
    first, again, other = (two_looks(30, seed) for seed in (1, 1, 2))
    assert all(map(same, first, again))
    assert not any(map(same, first, other))
    assert all(map(same, two_looks(10, 1), first))
    quiet = two_looks(10, 1, noise=0.0)
    assert [replace(t, image=None) for t in quiet] == [replace(t, image=None) for t in first[:10]]
    assert not any(changed_cells(*pair) for pair in zip(quiet, two_looks(10, 1, noise=0.0), strict=True))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"looks": 2, "distractors": 0}, "distractors: 0, where two looks need 1 to 5: figures of 8 colours"),
        ({"looks": 2, "distractors": 6}, "distractors: 6, where two looks need 1 to 5: figures of 8 colours"),
        ({"looks": 2, "distractors": 2, "cells": 2}, "3 aspects and 2 distractors do not fit into 2 x 2 cells"),
        ({"looks": 3}, "looks: 3 is neither 1 nor 2"),
        ({"redraw": "badges"}, "redraw: with one look there are no badges"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^synthetic data: .*{reason}$"):
        generate_synthetic(1, 0, **settings)


def test_a_config_asks_for_two_looks() -> None:
    config = SyntheticConfig(train=4, dev=2, test=3, looks=2)
    tweets = load_splits(DataConfig(synthetic=config), None).train
    assert all(aspect.second_region is not None for tweet in tweets for aspect in tweet.aspects)
