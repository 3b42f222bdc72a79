"""CMMT against its formulas in float64, its gate at both ends, and what its visual task learns from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from builders import batch_of, tiny_config, tiny_model, tweets, without_images

from clamp.baselines import Cmmt
from clamp.baselines.cmmt import polarity_shares
from clamp.tagging import IGNORED, TAG_INDEX


def made() -> Cmmt:
    model = tiny_model(tiny_config(model__architecture="cmmt", model__dropout=0.0).model)
    assert isinstance(model, Cmmt)
    return model


@torch.no_grad()
def test_the_words_follow_the_formulas() -> None:
    model = made()
    batch = batch_of(model, [*tweets(3), *without_images(tweets(4)[3:])])
    output = model(batch, need_attention=True)
    model.double()
    text_BTD, regions_BRD = output.text_BTD.double(), output.regions_BRD.double()
    q_BTD, (k_BRD, v_BRD) = model.query(text_BTD), model.key_value(regions_BRD).chunk(2, dim=-1)
    width = q_BTD.shape[-1] // 2
    parts, attention = [], []
    for head in (slice(0, width), slice(width, None)):
        logits_BTR = q_BTD[..., head] @ k_BRD[..., head].mT * width**-0.5
        weights_BTR = logits_BTR.softmax(dim=-1) * output.region_mask_BR[:, None]  # all regions of an image or none
        parts.append(weights_BTR @ v_BRD[..., head])
        attention.append(weights_BTR)
    context_BTD = torch.cat(parts, dim=-1) @ model.out.weight.T
    p_BT3 = (text_BTD @ model.aspect_head.weight.T + model.aspect_head.bias).softmax(dim=-1)
    gate_BT1 = (p_BT3 * p_BT3).sum(dim=-1, keepdim=True)
    y_BTD = model.norm_mixed(gate_BT1 * text_BTD + (1 - gate_BT1) * context_BTD)
    z_BTD = model.norm_ffn(y_BTD + model.ffn_out(torch.nn.functional.gelu(model.ffn_in(y_BTD))))
    expected_BTC = model.tag_head(model.norm_out(text_BTD + z_BTD))
    torch.testing.assert_close(output.tag_logits_BTC.double(), expected_BTC, rtol=1e-4, atol=1e-5)
    (stage,) = output.stages
    torch.testing.assert_close(stage.attention_BTR.double(), sum(attention) / 2, rtol=1e-4, atol=1e-6)
    assert not stage.context_BTD[3].any()


def test_a_certain_aspect_tagger_shuts_the_image_out_and_an_unsure_one_lets_it_in() -> None:
    model = made()
    some = tweets(2)
    change = {}
    for certainty in (0.0, 50.0):
        model.aspect_head.weight.data.zero_()
        model.aspect_head.bias.data = torch.tensor([certainty, 0.0, 0.0])
        seen, blind = (model(batch_of(model, t)).tag_logits_BTC for t in (some, without_images(some)))
        change[certainty] = (seen - blind).abs().max().item()
    assert change[50.0] == 0.0
    assert change[0.0] > 1e-3


def test_polarity_shares_count_aspects_not_words() -> None:
    tags = ["O", "B-POS", "I-POS", "I-POS", "B-NEG", "B-POS"], ["O", "O", "B-NEU", None, None, None], ["O"] + [None] * 5
    tags_BT = torch.tensor([[IGNORED if tag is None else TAG_INDEX[tag] for tag in row] for row in tags])
    shares_B3, has_aspect_B = polarity_shares(tags_BT)
    torch.testing.assert_close(shares_B3, torch.tensor([[2 / 3, 0.0, 1 / 3], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert has_aspect_B.tolist() == [True, True, False]


def test_the_image_loss_is_the_divergence_over_tweets_with_an_image_and_an_aspect() -> None:
    model = made()
    some = tweets(4)
    some = [some[0], replace(some[1], aspects=()), *without_images([some[2]]), some[3]]
    batch = batch_of(model, some)
    output = model(batch)
    expected = []
    for b in (0, 3):
        polarities = [aspect.polarity for aspect in some[b].aspects]
        p_3 = torch.tensor([polarities.count(name) / len(polarities) for name in ("POS", "NEU", "NEG")])
        q_3 = model.image_head(output.regions_BRD[b].mean(dim=0)).softmax(dim=0)
        expected.append(sum(p * (p / q).log() for p, q in zip(p_3, q_3, strict=True) if p > 0))
    torch.testing.assert_close(model.losses(output, batch)["image"], torch.stack(expected).mean())


@pytest.mark.parametrize("lacking", ["images", "aspects"])
def test_without_images_or_aspects_the_visual_task_is_absent(lacking: str) -> None:
    model = made()
    some = tweets(3)
    some = without_images(some) if lacking == "images" else [replace(tweet, aspects=()) for tweet in some]
    losses = model.losses(model(batch := batch_of(model, some)), batch)
    assert list(losses) == ["tagging", "aspect"]


def test_the_aspect_task_reads_the_words_before_fusion() -> None:
    model = made()
    batch = batch_of(model, tweets(3))
    output = model(batch)
    mask_BT = batch.word_mask_BT
    gold = torch.tensor([0, 1, 2, 1, 2, 1, 2])[batch.tags_BT[mask_BT]]
    expected = torch.nn.functional.cross_entropy(model.aspect_head(output.text_BTD)[mask_BT], gold)
    torch.testing.assert_close(model.losses(output, batch)["aspect"], expected)
