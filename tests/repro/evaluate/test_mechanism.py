"""What is measured of a checkpoint: planted systems that follow or ignore mouths, AUC and bins by hand, maps, gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import batch_of, tiny_config, tiny_model, tweets, without_images
from hypothesis import given, settings
from hypothesis import strategies as st

from clamp.config import DataConfig, SyntheticConfig
from clamp.data import Aspect, Tweet, load_splits
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.schema import POLARITIES, Polarity
from clamp.data.sprites import sprites
from clamp.data.synthetic import IMAGE_SIZE
from clamp.evaluate import cells_of_regions, predict
from clamp.metrics import expected_calibration_error
from clamp.model import Clamp, Output, Tagger
from clamp.tagging import TAGS, Span
from clamp.training.frozen_features import encoded_for
from repro.evaluate.alignment import alignment, auc
from repro.evaluate.attention_maps import attention_maps, chosen, grid_of
from repro.evaluate.calibration import calibration_error, pooled, reliability
from repro.evaluate.counterfactuals import counterfactuals
from repro.evaluate.mechanism import mechanism
from repro.evaluate.redrawn_images import redrawn_tweets
from repro.records.evaluation import ALIGNMENT_BINS, Calibration

QUIET = SyntheticConfig(train=4, dev=2, test=30, noise=0.0)


def mouth_in(tweet: Tweet, cell: int) -> Polarity:
    """The mouth of the drawing that fits a noiseless cell exactly, at any offset."""
    assert isinstance(tweet.image, np.ndarray)
    side = IMAGE_SIZE // tweet.cells
    play = side // 8
    paint, remainder = sprites(side - play)
    top, left = (part * side for part in divmod(cell, tweet.cells))
    drawn = paint + remainder * np.median(tweet.image)
    flat = drawn.reshape(-1, *drawn.shape[3:])
    found = []
    for down in range(play + 1):
        for right in range(play + 1):
            y, x = top + down, left + right
            window = tweet.image[y : y + side - play, x : x + side - play].astype(np.float32)
            misfit = ((flat - window) ** 2).sum(axis=(1, 2, 3))
            found.append((misfit.min(), int(misfit.argmin()) % len(POLARITIES)))
    return POLARITIES[min(found)[1]]


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
    assert aspect.region is not None
    return mouth_in(tweet, aspect.region)


def measured(label: Callable[[Tweet, Aspect], str | None]) -> dict[str, dict[str, int]]:
    return counterfactuals(Planted(label), QUIET, 16)


def test_each_redrawing_changes_the_mouths_that_it_names_and_nothing_else():
    plain, changed = redrawn_tweets(QUIET, 30)
    test = load_splits(DataConfig(synthetic=QUIET), None).test
    assert [(t.words, t.aspects) for t in plain] == [(t.words, t.aspects) for t in test]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(plain, test, strict=True))
    redrawn = {(change.of, change.aspect): change for change in changed}
    expected = {(k, n) for k, tweet in enumerate(plain) for n in (*range(len(tweet.aspects)), None)}
    assert redrawn.keys() == expected
    for change in changed:
        before, after = plain[change.of], change.tweet
        regions = [a.region for a in before.aspects]
        touched = set(before.distractors) if change.aspect is None else {regions[change.aspect]}
        for cell in range(before.cells**2):
            side = IMAGE_SIZE // before.cells
            top, left = (part * side for part in divmod(cell, before.cells))
            window = np.s_[top : top + side, left : left + side]
            assert np.array_equal(before.image[window], after.image[window]) == (cell not in touched)
        for cell in touched:
            assert mouth_in(before, cell) != mouth_in(after, cell)
        if change.aspect is not None:
            assert mouth_in(after, regions[change.aspect]) == change.shows
        assert replace(after, image=None) == replace(before, image=None)


def test_mostly_the_new_mouth_contradicts_the_words_that_tell_an_aspect():
    plain, changed = redrawn_tweets(replace(QUIET, test=60), 60)
    told = [c for c in changed if c.aspect is not None and plain[c.of].aspects[c.aspect].told_by == "text"]
    contrary = [c.shows != plain[c.of].aspects[c.aspect].polarity for c in told]
    assert 0.5 < np.mean(contrary) < 1.0


def test_a_system_that_reads_as_the_oracle_does_follows_and_is_moved_by_nothing_else():
    found = measured(lambda tweet, a: a.polarity if a.told_by == "text" else own_mouth(tweet, a))
    assert found["own"]["followed"] == found["own"]["n"] > 20
    assert found["own"]["unchanged"] == 0
    for kind in ("own_told_by_text", "another_aspect", "distractors"):
        assert found[kind]["unchanged"] == found[kind]["n"] > 20


def test_a_system_that_ignores_mouths_follows_by_chance_alone():
    found = measured(lambda tweet, a: a.polarity)
    assert all(tally["unchanged"] == tally["n"] for tally in found.values())
    assert found["own"]["followed"] == 0  # it said what the mouth showed before


def test_a_system_that_believes_every_mouth_is_moved_where_the_words_tell():
    found = measured(own_mouth)
    assert found["own"]["followed"] == found["own"]["n"]
    assert found["own_told_by_text"]["unchanged"] == 0
    assert found["another_aspect"]["unchanged"] == found["another_aspect"]["n"]


def test_a_system_that_reads_the_wrong_mouth_is_moved_by_it_alone():
    found = measured(lambda tweet, a: mouth_in(tweet, tweet.distractors[0]))
    assert found["distractors"]["unchanged"] == 0
    assert found["own"]["unchanged"] == found["own"]["n"]
    found = measured(lambda tweet, a: mouth_in(tweet, tweet.aspects[0].region))
    first = sum(len(tweet.aspects) - 1 for tweet in redrawn_tweets(QUIET, 30)[0])
    # of several aspects all but the first change with the first's mouth, and with no other
    assert found["another_aspect"]["n"] - found["another_aspect"]["unchanged"] == first


def test_spans_that_were_not_found_do_not_count_and_lost_ones_have_changed():
    assert all(tally["n"] == 0 for tally in measured(lambda tweet, a: None).values())
    plain, _ = redrawn_tweets(QUIET, 30)
    seen = {tweet.image.tobytes() for tweet in plain}
    found = measured(lambda tweet, a: "POS" if tweet.image.tobytes() in seen else None)
    assert found["own"]["n"] > 20
    assert all(tally["unchanged"] == 0 for tally in found.values())
    assert found["own"]["followed"] == 0


# Alignment


def test_auc_by_hand():
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1.0
    assert auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 0.0
    # 2 beats 1 and ties with 2, 5 beats both: (1 + 1/2 + 1 + 1) / 4
    assert auc(np.array([2.0, 5.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_auc_is_the_share_of_pairs_in_order(positive: list[int], negative: list[int]):
    won = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert auc(np.array(positive, dtype=float), np.array(negative, dtype=float)) == pytest.approx(np.mean(won))


def test_alignment_is_of_each_tweet_with_its_own_and_with_another_image():
    model = tiny_model(tiny_config().model)
    some = tweets(13)
    found = alignment(model, encoded_for(model, [*some[:5], *without_images(some[5:7]), *some[7:]]), 4)
    assert found is not None
    kept = [*some[:5], *some[7:]]
    output = model(batch_of(model, kept))
    z_t, z_v, _ = (
        part.detach().double().numpy()
        for part in model.contrast.embed(
            output.text_BTD, batch_of(model, kept).word_mask_BT, output.regions_BRD, output.region_mask_BR
        )
    )
    assert found["n"] == sum(found["matched"]) == sum(found["mismatched"]) == 11
    assert found["mean_matched"] == pytest.approx((z_t * z_v).sum(axis=1).mean(), abs=1e-4)
    assert found["matched"] == np.histogram((z_t * z_v).sum(axis=1), bins=ALIGNMENT_BINS, range=(-1, 1))[0].tolist()


def test_perfect_alignment_has_an_auc_of_one_and_nobody_keeps_its_image(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model(tiny_config().model)
    embed = model.contrast.embed

    def same(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z_t, _, valid_B = embed(*inputs)
        return z_t, z_t, valid_B

    monkeypatch.setattr(model.contrast, "embed", same)
    found = alignment(model, encoded_for(model, tweets(9)), 4)
    assert found["auc"] == 1.0
    assert found["matched"][-1] == 9
    assert found["mean_mismatched"] < 1.0


def test_no_alignment_without_a_global_contrast_or_images():
    for changes in ({"model__contrast__global_contrast": False}, {"model__architecture": "dtca"}):
        model = tiny_model(tiny_config(**changes).model)
        assert alignment(model, encoded_for(model, tweets(3)), 4) is None
    model = tiny_model(tiny_config().model)
    assert alignment(model, encoded_for(model, without_images(tweets(3))), 4) is None


# Calibration


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_bins_amount_to_the_calibration_error(seed: int, n: int):
    rng = np.random.default_rng(seed)
    probabilities_N3, gold_N = rng.dirichlet([0.4] * 3, size=n), rng.integers(3, size=n)
    bins = Calibration.model_validate(reliability(probabilities_N3, gold_N))
    assert sum(bins.count) == n
    assert calibration_error(bins) == pytest.approx(expected_calibration_error(probabilities_N3, gold_N), abs=1e-4)


def test_bins_by_hand_and_pooled():
    bins = Calibration.model_validate(reliability([[0.6, 0.4, 0.0], [0.62, 0.38, 0.0], [1.0, 0.0, 0.0]], [0, 1, 0]))
    # 0.6 = 9/15 is the upper end of the ninth bin
    assert [(k, n) for k, n in enumerate(bins.count) if n] == [(8, 1), (9, 1), (14, 1)]
    assert (bins.confidence[9], bins.right[8], bins.right[9]) == (0.62, 1, 0)
    other = Calibration.model_validate(reliability([[0.64, 0.36, 0.0]] * 3, [0, 0, 1]))
    both = pooled([bins, other])
    assert (both.count[9], both.right[9]) == (4, 2)
    assert both.confidence[9] == pytest.approx((0.62 + 3 * 0.64) / 4)


# Attention


def test_the_chosen_tweets_follow_the_rule():
    def tweet(told: list[str]) -> Tweet:
        aspects = tuple(Aspect(2 * k, 2 * k + 2, "POS", region=k, told_by=by) for k, by in enumerate(told))
        return Tweet("t", ("red", "kite") * len(told), aspects)

    some = [tweet(t) for t in (["text"], ["image"], ["image"], ["text", "image"], ["text"] * 3, ["image"] * 3)]
    right: list[list[Span]] = [[(a.start, a.end, "POS") for a in t.aspects] for t in some]
    by_rule = {1: "the first with 1 aspect", 3: "the first with 2 aspects", 5: "the first with 3 aspects"}
    assert chosen(some, right) == by_rule
    wrong = [[(a.start, a.end, "NEG") for a in t.aspects] for t in some]
    wrong[0] = []  # a span that was not found has no wrong polarity
    assert chosen(some, wrong) == by_rule | {2: "the first other with a wrong polarity"}
    assert chosen([], []) == {}


def test_maps_and_gates_are_those_of_the_forward_pass():
    model = tiny_model(tiny_config().model)
    assert isinstance(model, Clamp)
    some = tweets(30)
    spans = predict(model, EncodedTweets(some, model.tokenizer, model.config)).spans
    reasons = chosen(some, spans) | {29: None}
    found = attention_maps(model, some, spans, reasons)
    assert json.loads(json.dumps(found)) == found
    assert [(one["index"], one["why"]) for one in found] == list(reasons.items())
    assert not any(stage.gate._forward_hooks for stage in model.fusion.stages)
    for one in found:
        tweet = some[one["index"]]
        output = model(batch_of(model, [tweet]), need_attention=True)
        x_BTD = output.text_BTD
        for shown, stage, module in zip(one["stages"], output.stages, model.fusion.stages, strict=True):
            gate_BTD = module.gate(torch.cat([x_BTD, module.out(stage.context_BTD)], dim=-1)).sigmoid()
            x_BTD = stage.x_BTD
            regions = len(cells_of_regions(stage.level, output.grid, tweet.cells))
            assert shown["grid"][0] * shown["grid"][1] == regions
            for aspect, map_R, gate in zip(tweet.aspects, shown["maps"], shown["gate"], strict=True):
                expected_R = stage.attention_BTR[0, aspect.start : aspect.end].mean(dim=0).detach().numpy()
                np.testing.assert_allclose(map_R, expected_R, atol=6e-5)
                assert gate == pytest.approx(gate_BTD[0, aspect.start : aspect.end].mean().item(), abs=1e-4)
        assert [a["region"] for a in one["aspects"]] == [a.region for a in tweet.aspects]


def test_without_a_gate_there_is_none_to_show():
    model = tiny_model(tiny_config(model__gate=False).model)
    found = attention_maps(model, tweets(20), [[] for _ in range(20)], {0: None, 1: None})
    assert all(stage["gate"] is None for one in found for stage in one["stages"])
    assert attention_maps(model, [], [], {}) == []


def test_pooled_regions_lie_on_half_the_grid():
    assert [grid_of(level, (7, 8)) for level in ("patch", "pooled", "image")] == [(7, 8), (4, 4), (1, 1)]


# Together


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model__dropout": 0.0}, {"calibration", "alignment", "counterfactuals", "examples"}),
        ({"model__contrast__width": 64}, {"calibration", "alignment", "counterfactuals", "attention", "examples"}),
        ({"model__contrast__width": 64, "train__seed": 1}, {"calibration", "alignment", "counterfactuals"}),
        (
            {"model__contrast__width": 64, "model__gate": False},
            {"calibration", "alignment", "counterfactuals", "examples"},
        ),
        ({"model__architecture": "text_only"}, {"calibration", "examples"}),
        ({"model__architecture": "cmmt"}, {"calibration", "counterfactuals", "examples"}),
        ({"model__architecture": "cmmt", "data__visual": "none"}, {"calibration"}),
    ],
)
def test_each_system_is_measured_where_it_applies(changes: dict[str, object], parts: set[str]):
    config = tiny_config(**changes)
    model = tiny_model(config.model)
    test = load_splits(config.data, None).test
    data = encoded_for(model, test)
    found = mechanism(model, config, data, predict(model, data))
    assert {name for name, part in found.items() if part} == parts
    assert json.loads(json.dumps(found)) == found
