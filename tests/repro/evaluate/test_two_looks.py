"""Counterfactuals of tweets that need two looks: what each redraws, and planted readers that follow or do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from builders import tiny_config
from reading import changed_cells, entity_of, figure_of_colour

from clamp.config import DataConfig, SyntheticConfig
from clamp.data import Aspect, Tweet, load_splits
from clamp.data.collate import Batch, EncodedTweets
from clamp.evaluate import predict
from clamp.model import Output, Tagger
from clamp.tagging import TAGS, Span
from repro.evaluate.counterfactuals import two_look_counterfactuals
from repro.evaluate.mechanism import mechanism
from repro.evaluate.redrawn_images import redrawn_two_looks
from repro.records.evaluation import Mechanism

TWO_LOOKS = SyntheticConfig(train=4, dev=2, test=60, noise=0.0, looks=2)


class Planted(Tagger):
    """Finds every span and labels it as it is told to."""

    uses_image = True

    def __init__(self, label: Callable[[Tweet, Aspect], str | None]) -> None:
        super().__init__(tiny_config().model)
        self.label = label

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        shape = batch.word_mask_BT.shape
        return Output(torch.zeros(*shape, len(TAGS)), torch.zeros(*shape, 16))

    def decode(self, output: Output, batch: Batch) -> list[list[Span]]:
        labelled = [[(a.start, a.end, self.label(tweet, a)) for a in tweet.aspects] for tweet in batch.tweets]
        return [[(start, end, label) for start, end, label in spans if label] for spans in labelled]


def own_mouth(tweet: Tweet, aspect: Aspect) -> str:
    return figure_of_colour(tweet, entity_of(tweet, aspect)[0]).mouth


def named_mouth(tweet: Tweet, aspect: Aspect) -> str:
    return figure_of_colour(tweet, figure_of_colour(tweet, entity_of(tweet, aspect)[0]).badge).mouth


def measured(label: Callable[[Tweet, Aspect], str | None]) -> dict[str, dict[str, int]]:
    return two_look_counterfactuals(Planted(label), TWO_LOOKS, 16)


def test_each_redrawing_changes_one_cell_and_what_the_image_tells_is_what_it_shows():
    tweets, redrawn = redrawn_two_looks(TWO_LOOKS, 60)
    test = load_splits(DataConfig(synthetic=TWO_LOOKS), None).test
    assert [(t.words, t.aspects) for t in tweets] == [(t.words, t.aspects) for t in test]
    told = [(k, n) for k, tweet in enumerate(tweets) for n, a in enumerate(tweet.aspects) if a.told_by == "image"]
    for kind in ("named_mouth", "own_mouth"):
        assert [(change.of, change.aspect) for change in redrawn[kind]] == told
    assert len(told) > len(redrawn["badge"]) > 20
    for kind, changes in redrawn.items():
        for change in changes:
            tweet = tweets[change.of]
            aspect = tweet.aspects[change.aspect]
            assert replace(change.tweet, image=None) == replace(tweet, image=None)
            assert changed_cells(tweet, change.tweet) == {
                aspect.second_region if kind == "named_mouth" else aspect.region
            }
            assert named_mouth(change.tweet, aspect) == change.shows
            assert (change.shows == aspect.polarity) == (kind == "own_mouth")
            before, after = (figure_of_colour(t, entity_of(tweet, aspect)[0]) for t in (tweet, change.tweet))
            assert (before.mouth != after.mouth) == (kind == "own_mouth")
            assert (before.badge != after.badge) == (kind == "badge")


def test_who_looks_twice_follows_the_named_mouth_and_the_badge_alone():
    found = measured(named_mouth)
    for kind in ("named_mouth", "badge"):
        assert found[kind]["followed"] == found[kind]["n"] > 20
        assert found[kind]["unchanged"] == 0
    assert found["own_mouth"]["unchanged"] == found["own_mouth"]["followed"] == found["own_mouth"]["n"] > 20


def test_who_looks_once_is_moved_by_the_own_mouth_alone():
    found = measured(own_mouth)
    assert found["own_mouth"]["unchanged"] == 0
    for kind in ("named_mouth", "badge"):
        assert found[kind]["unchanged"] == found[kind]["n"]
        assert found[kind]["followed"] < found[kind]["n"] / 2


def test_who_is_told_and_does_not_look_is_moved_by_nothing():
    found = measured(lambda tweet, aspect: aspect.polarity)
    assert all(tally["unchanged"] == tally["n"] for tally in found.values())
    assert [found[kind]["followed"] for kind in ("named_mouth", "badge")] == [0, 0]
    assert all(tally["n"] == 0 for tally in measured(lambda tweet, aspect: None).values())


@pytest.mark.parametrize(
    ("changes", "measured_parts"),
    [
        ({}, {"two_looks"}),
        ({"data__visual": "none"}, set()),
        ({"model__architecture": "text_only"}, set()),
        ({"data__synthetic__looks": 1, "data__synthetic__distractors": 3}, {"counterfactuals"}),
    ],
)
def test_each_kind_of_data_has_its_own_counterfactuals(changes: dict[str, object], measured_parts: set[str]):
    config = tiny_config(**{"data__synthetic__looks": 2, **changes})
    test = load_splits(config.data, None).test
    model = Planted(lambda tweet, aspect: "POS")
    model.uses_image = config.model.architecture != "text_only"
    data = EncodedTweets(test, model.tokenizer, model.config)
    found = mechanism(model, config, data, predict(model, data))
    assert {name for name in ("counterfactuals", "two_looks") if found[name]} == measured_parts
    assert found["examples"] is None  # the explorer shows generated tweets as they are by default
    Mechanism.model_validate(found)
