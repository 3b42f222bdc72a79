"""Scores of made-up predictions, by hand: MASC, truncation, pointing, and which cells a region covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import batch_of, one_word_tweets, tiny_config, tiny_model, tweets, without_images
from torch import Tensor

from clamp.data import Aspect, Tweet
from clamp.data.collate import Batch, EncodedTweets
from clamp.evaluate import cells_of_regions, counts, gold_spans, in_batches, joint_f1, predict, score
from clamp.fusion import StageOutput
from clamp.model import Output, Tagger
from clamp.tagging import TAG_INDEX, TAGS


class Oracle(Tagger):
    """Gives the tag probabilities and the attention that the test names, by tweet id."""

    def __init__(
        self, probabilities: dict[str, Tensor], attention: dict[str, Tensor] | None = None, max_tokens: int = 64
    ) -> None:
        super().__init__(tiny_config(model__text__max_tokens=max_tokens).model)
        self.probabilities = probabilities
        self.attention = attention

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        B, T = batch.word_mask_BT.shape
        logits_BTC = torch.zeros(B, T, len(TAGS))
        for b, tweet in enumerate(batch.tweets):
            n = int(batch.word_mask_BT[b].sum())
            logits_BTC[b, :n] = self.probabilities[tweet.id][:n].log() + 3.0  # a constant is no matter
        output = Output(logits_BTC, torch.zeros(B, T, 16), grid=(2, 2))
        if self.attention is not None and need_attention:
            attention_BTR = torch.full((B, T, 4), 0.25)
            for b, tweet in enumerate(batch.tweets):
                n = int(batch.word_mask_BT[b].sum())
                attention_BTR[b, :n] = self.attention[tweet.id][:n]
            output.stages = [StageOutput(output.text_BTD, output.text_BTD, "patch", attention_BTR=attention_BTR)]
        return output


class SeeingOracle(Oracle):
    uses_image = True


def rows(*named: dict[str, float]) -> Tensor:
    """One word a dict of tag probabilities; what is not named shares the rest."""
    probs_TC = torch.zeros(len(named), len(TAGS))
    for t, values in enumerate(named):
        probs_TC[t] = (1 - sum(values.values())) / (len(TAGS) - len(values))
        for tag, p in values.items():
            probs_TC[t, TAG_INDEX[tag]] = p
    return probs_TC


O = {"O": 0.9}  # noqa: E741
FIRST = Tweet("first", ("a", "b", "c", "d"), (Aspect(0, 2, "POS"), Aspect(3, 4, "NEG")))
SECOND = Tweet("second", ("e", "f"), (Aspect(0, 1, "NEU"),))
PROBABILITIES = {
    # POS by argmax, as it should be; the other aspect found as NEU, where NEG comes second
    "first": rows({"B-POS": 0.5, "B-NEG": 0.3}, {"I-POS": 0.4, "I-NEG": 0.2}, O, {"B-NEU": 0.6, "B-NEG": 0.3}),
    # nothing found; of the polarities NEU is the likeliest
    "second": rows({"O": 0.7, "B-NEU": 0.2}, O),
}


def test_scores_by_hand() -> None:
    some = [FIRST, SECOND]
    model = Oracle(PROBABILITIES)
    data = EncodedTweets(some, model.tokenizer, model.config)
    predictions = predict(model, data)
    assert predictions.spans == [[(0, 2, "POS"), (3, 4, "NEU")], []]
    metrics = score(predictions, some)
    assert {k: metrics["joint"][k] for k in ("tp", "predicted", "gold")} == {"tp": 1, "predicted": 2, "gold": 3}
    assert metrics["joint"]["f1"] == pytest.approx(2 / 5)
    assert {k: metrics["mate"][k] for k in ("tp", "predicted", "gold")} == {"tp": 2, "predicted": 2, "gold": 3}
    assert joint_f1(predictions, some) == metrics["joint"]["f1"]
    assert counts(predictions, some) == [[1, 2, 2], [0, 0, 1]]

    rest = 0.2 / 5, 0.4 / 5  # what tags that no row names share, of the first tweet's first two words
    p_first = np.array([0.5 * 0.4, rest[0] * rest[1], 0.3 * 0.2])
    p_last = np.array([0.1 / 5, 0.6, 0.3])
    p_second = np.array([0.1 / 5, 0.2, 0.1 / 5])
    for found, expected in zip(predictions.polarities, (p_first, p_last, p_second), strict=True):
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)
    masc = metrics["masc"]
    assert masc["n"] == 3
    assert masc["accuracy"] == pytest.approx(2 / 3)
    assert masc["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)  # POS right, NEU once too often, NEG never
    assert (masc["n_extracted"], masc["accuracy_on_extracted"]) == (2, 0.5)
    assert metrics["pointing"] is None


def test_words_cut_by_truncation_count_as_gold_and_their_polarity_is_unknown() -> None:
    tweet = Tweet("long", tuple("abcdefghijkl"), (Aspect(0, 1, "POS"), Aspect(6, 9, "NEG"), Aspect(10, 11, "POS")))
    sure = rows({"B-POS": 0.9}, *[O] * 5, {"B-NEG": 0.9}, {"I-NEG": 0.9}, {"I-NEG": 0.9}, O, {"B-POS": 0.9}, O)
    model = Oracle({"long": sure}, max_tokens=8)
    predictions = predict(model, EncodedTweets([tweet], model.tokenizer, model.config))
    metrics = score(predictions, [tweet])
    assert predictions.spans == [[(0, 1, "POS"), (6, 8, "NEG")]]
    assert {k: metrics["joint"][k] for k in ("tp", "predicted", "gold")} == {"tp": 1, "predicted": 2, "gold": 3}
    assert metrics["masc"]["n"] == 3
    for cut in predictions.polarities[1:]:
        np.testing.assert_allclose(cut, [1 / 3] * 3)


def test_predictions_come_in_the_order_of_the_data() -> None:
    model = tiny_model(tiny_config().model)
    some = [*tweets(5), *one_word_tweets(1), *without_images(tweets(7)[5:])]
    data = EncodedTweets(some, model.tokenizer, model.config)
    model.train()
    together = predict(model, data, batch_size=3)
    assert not model.training
    assert len(together.polarities) == sum(len(tweet.aspects) for tweet in some)
    alone = [predict(model, EncodedTweets([tweet], model.tokenizer, model.config)) for tweet in some]
    assert together.spans == [one.spans[0] for one in alone]
    np.testing.assert_allclose(
        together.polarities, [row for one in alone for row in one.polarities], rtol=1e-3, atol=1e-5
    )
    batches = [indices for indices, _ in in_batches(data, 3)]
    assert sorted(index for indices in batches for index in indices) == list(range(len(some)))


def told(name: str, aspects: tuple[Aspect, ...], **changes: object) -> Tweet:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    tweet = Tweet(name, ("a", "b", "c"), aspects, image=image, distractors=(1, 2), cells=2)
    return replace(tweet, **changes)


def test_pointing_by_hand() -> None:
    by_image = Aspect(0, 2, "POS", region=3, told_by="image")
    some = [
        # over both words cell 3 leads with 0.4, though the first word alone prefers cell 0
        told("hit", (by_image, Aspect(2, 3, "NEG", region=0, told_by="text"))),
        told("miss", (replace(by_image, region=0),)),
        told("blind", (by_image,), image=None),
    ]
    words = torch.tensor([[0.5, 0.1, 0.1, 0.3], [0.1, 0.3, 0.1, 0.5], [0.0, 1.0, 0.0, 0.0]])
    attention = {tweet.id: words for tweet in some}
    model = SeeingOracle({tweet.id: rows(O, O, O) for tweet in some}, attention)
    data = EncodedTweets(some, model.tokenizer, model.config)
    metrics = score(predict(model, data, pointing=True), some)
    assert metrics["pointing"] == [
        {
            "level": "patch",
            "pointing": 0.5,
            "second_pointing": None,
            "n": 2,
            "distractor_mass": pytest.approx(0.2 + 0.1),
        }
    ]
    assert score(predict(model, data), some)["pointing"] is None
    blind = Oracle(model.probabilities, attention)
    assert score(predict(blind, data, pointing=True), some)["pointing"] is None


def test_pointing_of_two_looks_counts_the_own_figure_and_the_named_one() -> None:
    own, named, neither = (
        told(name, (Aspect(0, 1, "POS", region=region, told_by="image", second_region=second),))
        for name, region, second in (("own", 3, 0), ("named", 1, 3), ("neither", 0, 2))
    )
    by_text = told("text", (Aspect(0, 1, "POS", region=0, told_by="text", second_region=3),))
    some = [own, named, neither, replace(named, id="again"), by_text]
    attention = {tweet.id: torch.tensor([0.1, 0.1, 0.1, 0.7]).expand(3, 4) for tweet in some}
    model = SeeingOracle({tweet.id: rows(O, O, O) for tweet in some}, attention)
    metrics = score(predict(model, EncodedTweets(some, model.tokenizer, model.config), pointing=True), some)
    (stage,) = metrics["pointing"]
    assert (stage["pointing"], stage["second_pointing"], stage["n"]) == (1 / 4, 2 / 4, 4)


def test_an_aspect_that_truncation_cut_is_not_pointed_at() -> None:
    words = tuple("abcdefghij")
    aspects = (Aspect(0, 1, "POS", region=3, told_by="image"), Aspect(8, 10, "NEG", region=2, told_by="image"))
    tweet = told("cut", aspects, words=words)
    attention = torch.tensor([0.1, 0.1, 0.1, 0.7]).expand(10, 4)
    model = SeeingOracle({"cut": rows(*[O] * 10)}, {"cut": attention}, max_tokens=8)
    metrics = score(predict(model, EncodedTweets([tweet], model.tokenizer, model.config), pointing=True), [tweet])
    (stage,) = metrics["pointing"]
    assert (stage["pointing"], stage["n"], stage["distractor_mass"]) == (1.0, 1, pytest.approx(0.2))


def test_every_stage_of_a_real_model_points() -> None:
    model = tiny_model(tiny_config().model)
    some = tweets(12)
    metrics = score(predict(model, EncodedTweets(some, model.tokenizer, model.config), pointing=True), some)
    n = sum(aspect.told_by == "image" for tweet in some for aspect in tweet.aspects)
    assert [stage["level"] for stage in metrics["pointing"]] == ["pooled", "patch", "patch"]
    for stage in metrics["pointing"]:
        assert stage["n"] == n > 5
        assert 0 <= stage["pointing"] <= 1
        assert 0 < stage["distractor_mass"] < 1


def test_patches_lie_in_the_cells_that_they_show() -> None:
    patches = cells_of_regions("patch", (8, 8), 4)
    assert [patches[8 * row + column] for row, column in ((0, 0), (1, 1), (1, 2), (7, 7), (4, 3))] == [
        {0}, {0}, {1}, {15}, {9},
    ]  # fmt: skip
    assert cells_of_regions("patch", (4, 4), 4) == [{cell} for cell in range(16)]
    assert cells_of_regions("pooled", (8, 8), 4) == [{cell} for cell in range(16)]
    assert cells_of_regions("pooled", (4, 4), 4) == [{0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15}]
    assert cells_of_regions("image", (4, 4), 2) == [{0, 1, 2, 3}]
    # patches that are larger than cells, and some that lie across their borders
    assert cells_of_regions("patch", (2, 2), 4)[1] == {2, 3, 6, 7}
    assert cells_of_regions("patch", (3, 3), 4)[4] == {5, 6, 9, 10}
    assert cells_of_regions("patch", (8, 8), 3)[2] == {0, 1}
    # three rows and columns of patches, the last blocks half as wide
    assert cells_of_regions("pooled", (3, 3), 3) == [{0, 1, 3, 4}, {2, 5}, {6, 7}, {8}]


def test_a_region_of_several_cells_scores_its_share() -> None:
    by_image = Aspect(0, 1, "POS", region=3, told_by="image", second_region=9)
    tweet = told("shared", (by_image,), cells=4, distractors=(0, 1))
    model = SeeingOracle({"shared": rows(O, O, O)}, {"shared": torch.full((3, 4), 0.25)})
    batch = batch_of(model, [tweet])
    output = model(batch, need_attention=True)
    output.grid = (4, 4)
    output.stages[0].level = "image"
    output.stages[0].attention_BTR = torch.ones(1, 3, 1)
    model.forward = lambda batch, need_attention=False: output  # type: ignore[method-assign]
    metrics = score(predict(model, EncodedTweets([tweet], model.tokenizer, model.config), pointing=True), [tweet])
    expected = {"level": "image", "pointing": 1 / 16, "second_pointing": 1 / 16, "n": 1, "distractor_mass": 2 / 16}
    assert metrics["pointing"] == [expected]


def test_gold_spans_are_the_annotations() -> None:
    assert gold_spans([FIRST, SECOND]) == [[(0, 2, "POS"), (3, 4, "NEG")], [(0, 1, "NEU")]]
