"""What all baselines must do: read the image they have, do without one they have not, learn, and be counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from builders import batch_of, gradients, tiny_config, tiny_model, tweets, without_images
from torch import nn

from clamp.baselines import ARCHITECTURES, CaptionConcat, Cmmt, Dtca, ImagePrefix, SingleCrossAttention, TextOnly
from clamp.config import ModelConfig
from clamp.cost import forward_flops
from clamp.data import Tweet
from clamp.data.collate import Batch
from clamp.model import Clamp

SEEING = ["single_cross_attention", "cmmt", "dtca", "image_prefix", "caption_concat"]
BASELINES = [*SEEING, "text_only"]
TASKS = {"cmmt": ["tagging", "aspect", "image"], "dtca": ["tagging", "text", "alignment"]}


def with_the_next_image(some: list[Tweet]) -> list[Tweet]:
    """Every tweet with image and caption of the one after it."""
    others = [*some[1:], some[0]]
    return [replace(tweet, image=other.image, proxy=other.proxy) for tweet, other in zip(some, others, strict=True)]


def config_of(architecture: str) -> ModelConfig:
    return tiny_config(model__architecture=architecture, model__dropout=0.0).model


def logits_of(architecture: str, some: list[Tweet]) -> torch.Tensor:
    model = tiny_model(config_of(architecture))
    batch = batch_of(model, some)
    return model(batch).tag_logits_BTC[batch.word_mask_BT]


def test_names_lead_to_classes() -> None:
    assert {
        "clamp": Clamp,
        "text_only": TextOnly,
        "image_prefix": ImagePrefix,
        "caption_concat": CaptionConcat,
        "single_cross_attention": SingleCrossAttention,
        "cmmt": Cmmt,
        "dtca": Dtca,
    } == ARCHITECTURES
    assert {"clamp", *BASELINES} == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", BASELINES)
def test_another_image_changes_what_is_said_unless_there_is_no_image_path(architecture: str) -> None:
    some = tweets(3)
    seen, swapped, blind = (logits_of(architecture, t) for t in (some, with_the_next_image(some), without_images(some)))
    for other in (swapped, blind):
        if architecture == "text_only":
            assert torch.equal(seen, other)
        else:
            assert (seen - other).abs().max() > 1e-4


@pytest.mark.parametrize("architecture", SEEING)
def test_a_tweet_without_an_image_is_read_as_if_no_other_had_one(architecture: str) -> None:
    some = tweets(4)
    blind = without_images(some)
    mixed = [*some[:2], *blind[2:]]
    words = sum(len(tweet.words) for tweet in some[:2])
    alone = logits_of(architecture, blind)[words:]
    torch.testing.assert_close(logits_of(architecture, mixed)[words:], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", BASELINES)
def test_every_parameter_takes_part(architecture: str) -> None:
    model = tiny_model(config_of(architecture)).train()
    found = gradients(model, batch_of(model, [*tweets(3), *without_images(tweets(4)[3:])]))
    idle = {name for name, gradient in found.items() if gradient is None or not gradient.any()}
    assert not {name for name in idle if not name.endswith("key.bias")}  # it adds the same to all logits of a row


@pytest.mark.parametrize("architecture", BASELINES)
def test_a_few_steps_lower_every_loss(architecture: str) -> None:
    model = tiny_model(config_of(architecture)).train()
    batch = batch_of(model, tweets(8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    courses: dict[str, list[float]] = {}
    for _ in range(25):
        losses = model.losses(model(batch), batch)
        for task, loss in losses.items():
            courses.setdefault(task, []).append(loss.item())
        optimizer.zero_grad()
        model.total(losses).backward()
        optimizer.step()
    assert list(courses) == list(model.tasks) == TASKS.get(architecture, ["tagging"])
    for task, course in courses.items():
        assert course[-1] < 0.9 * course[0], task


@pytest.mark.parametrize("architecture", BASELINES)
def test_losses_weigh_the_same(architecture: str) -> None:
    model = tiny_model(config_of(architecture))
    batch = batch_of(model, tweets(3))
    losses = model.losses(model(batch), batch)
    assert model.total(losses).item() == pytest.approx(sum(loss.item() for loss in losses.values()), rel=1e-6)


@pytest.mark.parametrize("architecture", SEEING)
def test_the_image_is_paid_for(architecture: str) -> None:
    """Also in evaluation mode and without gradients, where library layers hide their products from the counter."""
    some = tweets(2)
    text, model = (tiny_model(config_of(name)) for name in ("text_only", architecture))
    assert forward_flops(model, batch_of(model, some)) > forward_flops(text, batch_of(text, some))


@pytest.mark.parametrize("architecture", ["text_only", "caption_concat", "image_prefix", "single_cross_attention"])
def test_baselines_train_on_tagging_alone(architecture: str) -> None:
    model = tiny_model(tiny_config(model__architecture=architecture).model)
    assert model.tasks == ("tagging",)
    losses = model.losses(model(batch := batch_of(model, tweets(2))), batch)
    assert list(losses) == ["tagging"]
    assert torch.equal(model.total(losses), losses["tagging"])


def test_text_only_tags_the_normalised_text() -> None:
    model = tiny_model(tiny_config(model__architecture="text_only").model)
    output = model(batch := batch_of(model, tweets(2)))
    assert output.stages == []
    assert output.regions_BRD is None
    expected = model.tag_head(model.encode_text(batch))
    assert torch.equal(output.tag_logits_BTC, expected)


def test_single_cross_attention_is_one_gated_stage_over_patches() -> None:
    model = tiny_model(tiny_config(model__architecture="single_cross_attention", model__gate=False).model)
    output = model(batch_of(model, tweets(2)), need_attention=True)
    assert [stage.level for stage in output.stages] == ["patch"]
    assert output.stages[0].attention_BTR.shape[2] == 64
    assert model.stage.gate is not None
    assert model.stage.beta is None


def test_single_cross_attention_drops_while_it_trains_only() -> None:
    model = tiny_model(tiny_config(model__architecture="single_cross_attention", model__dropout=0.5).model)
    batch = batch_of(model, tweets(2))
    evaluated = [model(batch).tag_logits_BTC for _ in range(2)]
    assert torch.equal(*evaluated)
    model.train()
    model.text_encoder.eval()  # its dropout is its own
    assert not torch.equal(model(batch).tag_logits_BTC, model(batch).tag_logits_BTC)


class _Linear(nn.Module):
    """One matrix product in a model's clothes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 7)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.layer(torch.zeros(3, 5))


def test_a_matrix_product_costs_two_operations_a_multiply_add() -> None:
    assert forward_flops(_Linear(), None) == 2 * 3 * 5 * 7  # type: ignore[arg-type]


def test_the_stage_costs_what_its_products_do() -> None:
    text, cross = (
        tiny_model(tiny_config(model__architecture=name).model) for name in ("text_only", "single_cross_attention")
    )
    some = tweets(2)
    batch = batch_of(cross, some)
    samples, words, regions, width, ffn = 2, batch.word_mask_BT.shape[1], 64, 16, 2
    stem = 2 * samples * (16 * 16 * 4 * (3 * 4 * 4) + 8 * 8 * 8 * (4 * 3 * 3) + regions * 8 * width)
    of_words = width * width * (1 + 1 + 2 + 2 * ffn)  # query, out, gate over twice the width, feed-forward
    of_regions = 2 * width * width  # keys and values
    attention = 2 * words * regions * width  # logits and values, over all heads
    stage = 2 * samples * (words * of_words + regions * of_regions + attention)
    assert forward_flops(cross, batch) - forward_flops(text, batch_of(text, some)) == stem + stage


def test_clamp_costs_more_than_its_baselines() -> None:
    costs = []
    for name in ("text_only", "single_cross_attention", "clamp"):
        model = tiny_model(tiny_config(model__architecture=name).model)
        costs.append(forward_flops(model, batch_of(model, tweets(2))))
    assert costs == sorted(costs)
    assert costs[0] < costs[1] < costs[2]
