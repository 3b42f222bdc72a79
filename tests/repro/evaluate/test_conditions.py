"""The conditions change what they name and nothing else, the same for every system."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clamp.config import Config, DataConfig, SyntheticConfig
from clamp.data import Tweet, generate_synthetic
from repro.evaluate.conditions import conditions, exchanged

SYNTHETIC = Config(data=DataConfig(synthetic=SyntheticConfig(train=4, dev=2, test=12)))
TWEETS = [replace(tweet, proxy=None) for tweet in generate_synthetic(12, 5)]


def described(tweets: list[Tweet]) -> list[Tweet]:
    return [
        replace(t, image=None, proxy=(f"a {t.words[0]} of {k}", "and more words to lose")) for k, t in enumerate(tweets)
    ]


def offline(root: Path, visual: str = "proxy") -> Config:
    return Config(data=DataConfig(name="twitter2015", visual=visual))  # type: ignore[arg-type]


def differing(changed: list[Tweet], before: list[Tweet] = TWEETS) -> set[str]:
    """The fields in which some tweet differs."""
    fields = ("id", "words", "aspects", "proxy", "distractors", "cells")
    found = {f for f in fields for a, b in zip(changed, before, strict=True) if getattr(a, f) != getattr(b, f)}
    return found | {"image" for a, b in zip(changed, before, strict=True) if not np.array_equal(a.image, b.image)}


@pytest.mark.parametrize("name", [name for name, c in conditions(SYNTHETIC, None).items() if c.group == "robustness"])
def test_robustness_leaves_annotations_alone_and_is_repeatable(name: str) -> None:
    change = conditions(SYNTHETIC, None)[name].change
    changed = change(TWEETS, SYNTHETIC)
    assert differing(changed) == {"words" if name.startswith("letters") else "image"}
    assert not differing(change(TWEETS, SYNTHETIC), changed)
    # what happens to a tweet depends on its position alone, not on how many there are
    if name != "other_image":
        assert not differing(change(TWEETS[:5], SYNTHETIC), changed[:5])


@pytest.mark.parametrize("kind", ["blur", "noise"])
def test_strengths_rise(kind: str) -> None:
    found = [c.change(TWEETS, SYNTHETIC) for name, c in conditions(SYNTHETIC, None).items() if name.startswith(kind)]
    moved = [
        np.mean([np.abs(a.image.astype(float) - b.image).mean() for a, b in zip(some, TWEETS, strict=True)])
        for some in found
    ]
    assert len(moved) == 3
    assert moved == sorted(moved)
    assert moved[0] > 0


def test_exchange_gives_everybody_anothers_and_takes_from_nobody() -> None:
    some = [replace(tweet, image=None) if k in (2, 7) else tweet for k, tweet in enumerate(TWEETS)]
    changed = exchanged(some)
    assert [tweet.image is None for tweet in changed] == [tweet.image is None for tweet in some]
    own = {id(tweet.image) for tweet in some if tweet.image is not None}
    assert {id(tweet.image) for tweet in changed if tweet.image is not None} == own
    assert not any(a.image is b.image for a, b in zip(changed, some, strict=True) if a.image is not None)


def test_shifts_are_fresh_tweets_and_as_many() -> None:
    shifts = {name: c for name, c in conditions(SYNTHETIC, None).items() if c.group == "shift"}
    assert set(shifts) == {"unseen_clauses", "unseen_looks", "distractors_4", "distractors_8"}
    for condition in shifts.values():
        assert len(condition.change(TWEETS, SYNTHETIC)) == len(TWEETS)
    assert len(shifts["distractors_8"].change(TWEETS, SYNTHETIC)[0].distractors) == 8


def test_a_system_without_a_view_of_images_is_tested_on_words_only() -> None:
    names = set(conditions(replace(SYNTHETIC, data=replace(SYNTHETIC.data, visual="none")), None))
    assert not names & {"no_image", "other_image", "blur_1", "noise_16"}
    assert {"letters_0.1", "unseen_clauses"} <= names


def test_descriptions_lose_words_but_never_all() -> None:
    config = offline(Path())
    before = described(TWEETS)
    found = conditions(config, Path("/nowhere"))
    assert "other_data_set" not in found  # it is not there
    lengths = []
    for share in (0.25, 0.5, 0.75):
        changed = found[f"words_{share}"].change(before, config)
        assert differing(changed, before) == {"proxy"}
        assert all(
            tweet.proxy_text.strip() and set(tweet.proxy_text.split()) <= set(old.proxy_text.split())
            for tweet, old in zip(changed, before, strict=True)
        )
        lengths.append(sum(len(tweet.proxy_text.split()) for tweet in changed))
    assert lengths == sorted(lengths, reverse=True)
    assert found["no_image"].change(before, config)[0].proxy is None


def test_the_other_data_set_is_its_test_split(tmp_path: Path, write_twitter: object) -> None:
    write_twitter(tmp_path)  # type: ignore[operator]
    (tmp_path / "twitter2015").rename(tmp_path / "twitter2017")
    config = offline(tmp_path, "none")
    shifted = conditions(config, tmp_path)["other_data_set"].change([], config)
    assert [" ".join(tweet.words) for tweet in shifted] == ["so proud of Ada Lovelace today"] * 3


def test_letters_are_lost_at_about_the_share_asked_for_and_no_word_vanishes() -> None:
    before = sum(len(word) for tweet in TWEETS for word in tweet.words)
    for share in (0.05, 0.1, 0.2):
        changed = conditions(SYNTHETIC, None)[f"letters_{share}"].change(TWEETS, SYNTHETIC)
        assert all(word for tweet in changed for word in tweet.words)
        after = sum(len(word) for tweet in changed for word in tweet.words)
        assert 0.5 * share < 1 - after / before < 1.6 * share
