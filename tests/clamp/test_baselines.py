"""The baselines: which parts they have, and that their cost is counted."""

from __future__ import annotations

import pytest
import torch
from builders import batch_of, tiny_config, tiny_model, tweets
from torch import nn

from clamp.baselines import ARCHITECTURES, SingleCrossAttention, TextOnly
from clamp.cost import forward_flops
from clamp.data.collate import Batch
from clamp.model import Clamp


def test_names_lead_to_classes() -> None:
    assert {"clamp": Clamp, "text_only": TextOnly, "single_cross_attention": SingleCrossAttention} == ARCHITECTURES


@pytest.mark.parametrize("architecture", ["text_only", "single_cross_attention"])
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
