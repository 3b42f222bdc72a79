"""PAF against its equations, written out in float64 with one loop a sample and a head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from builders import tiny_config
from torch import Tensor

from clamp.config import ModelConfig
from clamp.fusion import CrossAttentionStage, ProgressiveFusion, focus_of, split_heads
from clamp.pyramid import Grid, RegionPyramid

B, T, WIDTH = 4, 5, 16
LEVELS = [
    ("pooled", "patch", "patch"),
    ("image", "pooled", "patch"),
    ("patch", "pooled", "image"),
    ("patch", "image", "patch", "pooled"),
    ("pooled", "pooled"),
    ("patch",),
]


def config_of(levels: Sequence[str] = ("pooled", "patch", "patch"), **changes: object) -> ModelConfig:
    named = {f"model__{name}": value for name, value in changes.items()}
    return tiny_config(model__levels=list(levels), model__dropout=0.0, **named).model


def made_fusion(config: ModelConfig) -> ProgressiveFusion:
    """Large random parameters, so that gate, focus and norms all matter; beta differs from 1 and between stages."""
    torch.manual_seed(1)
    fusion = ProgressiveFusion(config).double()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for k, stage in enumerate(fusion.stages):
        if stage.beta is not None:
            stage.beta.data.fill_(0.6 + 0.5 * k)
    return fusion


def made_inputs(grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples with all regions, with some, with one, and with none; tweets of 5, 3, 1 and 4 words."""
    torch.manual_seed(2)
    n = grid[0] * grid[1]
    text_BTD = torch.randn(B, T, WIDTH, dtype=torch.float64)
    regions_BRD = torch.randn(B, n, WIDTH, dtype=torch.float64)
    word_mask_BT = torch.arange(T) < torch.tensor([5, 3, 1, 4])[:, None]
    region_mask_BR = torch.ones(B, n, dtype=torch.bool)
    region_mask_BR[1] = torch.rand(n) < 0.5
    region_mask_BR[2] = torch.arange(n) == n - 1
    region_mask_BR[3] = False
    return text_BTD, word_mask_BT, regions_BRD, region_mask_BR


def layer_norm(x_D: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    centred_D = x_D - x_D.mean(dim=-1, keepdim=True)
    return centred_D / (centred_D.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def blocks_of(level: str, grid: Grid) -> list[list[int]]:
    patches = range(grid[0] * grid[1])
    if level == "image":
        return [list(patches)]
    if level == "patch":
        return [[patch] for patch in patches]
    step = 1 if grid[0] == 1 else 2
    blocks: dict[tuple[int, int], list[int]] = {}
    for patch in patches:
        blocks.setdefault((patch // grid[1] // step, patch % grid[1] // 2), []).append(patch)
    return list(blocks.values())


def key_and_value(fusion: ProgressiveFusion, k: int, region_D: Tensor) -> Tensor:
    """What stage k reads of a region, (2 D): stages of one level have rows of one matrix, in their order."""
    layer, width = fusion.key_value[fusion.levels[k]], region_D.shape[-1]
    rows = slice(2 * width * fusion.levels[:k].count(fusion.levels[k]), None)
    return layer.weight[rows][: 2 * width] @ region_D + layer.bias[rows][: 2 * width]


def expected_fusion(
    fusion: ProgressiveFusion,
    config: ModelConfig,
    levels: Sequence[str],
    text_TD: Tensor,
    words: int,
    patch_RD: Tensor,
    valid_R: Tensor,
    grid: Grid,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """X^k, C^k and the head-averaged attention of every stage, for one sample."""
    plain = config.fusion == "plain"
    d = WIDTH // config.heads
    x_TD, rho, before = text_TD, None, None
    results = []
    for k, (stage, level) in enumerate(zip(fusion.stages, levels, strict=True)):
        blocks = blocks_of(level, grid)
        regions, valid = [], []
        for block in blocks:
            seen = [patch_RD[r] for r in block if valid_R[r]]
            regions.append(torch.stack(seen).mean(dim=0) if seen else torch.zeros(WIDTH, dtype=torch.float64))
            valid.append(bool(seen))
        if rho is not None and before != level:  # to this level's regions
            assert before is not None
            coarse = blocks_of(before, grid)
            if before == "image":
                rho = [torch.ones((), dtype=torch.float64) for _ in blocks]
            elif len(coarse) < len(blocks):
                rho = [next(rho[c] for c, group in enumerate(coarse) if block[0] in group) for block in blocks]
            else:
                rho = [torch.stack([rho[c] for c, g in enumerate(coarse) if set(g) & set(b)]).max() for b in blocks]
        q_TD = stage.query(x_TD)
        kv = [key_and_value(fusion, k, region) for region in regions]
        contexts, received = [], [0.0] * len(blocks)
        attention_TR = torch.zeros(len(x_TD), len(blocks), dtype=torch.float64)
        for t in range(len(x_TD)):
            heads = []
            for h in range(config.heads):
                cut = slice(h * d, (h + 1) * d)
                weights = {}
                for r in range(len(blocks)):
                    if valid[r]:
                        logit = (q_TD[t, cut] @ kv[r][:WIDTH][cut]) / math.sqrt(d)
                        if rho is not None and config.focus and not plain:
                            logit = logit + stage.beta * torch.log(rho[r])
                        weights[r] = torch.exp(logit)
                total = sum(weights.values())
                c_d = torch.zeros(d, dtype=torch.float64)
                for r, weight in weights.items():
                    c_d = c_d + weight / total * kv[r][WIDTH:][cut]
                    attention_TR[t, r] += (weight / total).item() / config.heads
                    if t < words:
                        received[r] = received[r] + weight / total / (config.heads * words)
                heads.append(c_d)
            contexts.append(torch.cat(heads))
        context_TD = torch.stack(contexts)
        read_TD = context_TD @ stage.out.weight.T
        if config.gate and not plain:
            gate_TD = torch.sigmoid(stage.gate(torch.cat([x_TD, read_TD], dim=1)))
        else:
            gate_TD = torch.ones_like(x_TD)
        y_TD = layer_norm(x_TD + gate_TD * read_TD, stage.norm_attention)
        hidden = stage.ffn_in(y_TD)
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        x_TD = layer_norm(y_TD + stage.ffn_out(hidden), stage.norm_ffn)
        mass = [torch.as_tensor(m, dtype=torch.float64) for m in received]
        highest = max(max(m.item() for m in mass), 1e-6)
        top = next((m for m in mass if m.item() == highest), torch.tensor(highest, dtype=torch.float64))
        rho = [torch.clamp(m / top, min=1e-4) for m in mass]
        before = level
        results.append((x_TD, context_TD, attention_TR))
    return results


CASES = [
    *((levels, {}, (4, 4)) for levels in LEVELS),
    (LEVELS[0], {"gate": False}, (3, 3)),
    (LEVELS[0], {"focus": False}, (3, 3)),
    (LEVELS[0], {"fusion": "plain"}, (3, 3)),
    (LEVELS[0], {"heads": 4}, (1, 5)),
    (LEVELS[2], {}, (5, 3)),
]


@pytest.mark.parametrize(("levels", "changes", "grid"), CASES)
def test_outputs_and_gradients_are_those_of_the_equations(
    levels: Sequence[str], changes: dict[str, object], grid: Grid
) -> None:
    config = config_of(levels, **changes)
    fusion = made_fusion(config)
    run_levels = ("patch",) if config.fusion == "plain" else levels
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs(grid)
    text_BTD.requires_grad_()
    regions_BRD.requires_grad_()
    inputs = {"text": text_BTD, "regions": regions_BRD, **dict(fusion.named_parameters())}
    direction_BTD = torch.randn(B, T, WIDTH, dtype=torch.float64)

    stages = fusion(text_BTD, word_mask_BT, RegionPyramid(regions_BRD, region_mask_BR, grid), need_attention=True)
    assert [stage.level for stage in stages] == list(run_levels)
    objective = ((stages[-1].x_BTD + stages[-1].context_BTD) * direction_BTD * word_mask_BT[..., None]).sum()
    actual = torch.autograd.grad(objective, list(inputs.values()), allow_unused=True)

    objective = torch.zeros((), dtype=torch.float64)
    for b, words in enumerate(word_mask_BT.sum(dim=1).tolist()):
        results = expected_fusion(
            fusion, config, run_levels, text_BTD[b], words, regions_BRD[b], region_mask_BR[b], grid
        )
        for stage, (x_TD, context_TD, attention_TR) in zip(stages, results, strict=True):
            torch.testing.assert_close(stage.x_BTD[b], x_TD, rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(stage.context_BTD[b], context_TD, rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(stage.attention_BTR[b], attention_TR, rtol=1e-7, atol=1e-9)
        x_TD, context_TD, _ = results[-1]
        objective = objective + ((x_TD + context_TD) * direction_BTD[b] * word_mask_BT[b, :, None]).sum()
    expected = torch.autograd.grad(objective, list(inputs.values()), allow_unused=True)
    for name, got, wanted in zip(inputs, actual, expected, strict=True):
        if got is None or wanted is None:
            assert got is None or not got.any(), name
            assert wanted is None or not wanted.any(), name
        else:
            torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8, msg=name)


def test_a_tweet_without_an_image_falls_back_to_its_text() -> None:
    config = config_of()
    fusion = made_fusion(config)
    text_BTD, word_mask_BT, regions_BRD, _ = made_inputs((4, 4))
    nothing_BR = torch.zeros(B, 16, dtype=torch.bool)
    regions_BRD.requires_grad_()
    stages = fusion(text_BTD, word_mask_BT, RegionPyramid(regions_BRD, nothing_BR, (4, 4)), need_attention=True)
    x_BTD = text_BTD
    for stage, output in zip(fusion.stages, stages, strict=True):
        assert not output.context_BTD.any()
        assert not output.attention_BTR.any()
        y_BTD = stage.norm_attention(x_BTD)
        x_BTD = stage.norm_ffn(y_BTD + stage.ffn_out(torch.nn.functional.gelu(stage.ffn_in(y_BTD))))
        torch.testing.assert_close(output.x_BTD, x_BTD)
    stages[-1].x_BTD.square().sum().backward()
    assert regions_BRD.grad is not None
    assert not regions_BRD.grad.any()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("levels", LEVELS)
def test_gradients_are_finite_whatever_is_masked(levels: Sequence[str]) -> None:
    fusion = made_fusion(config_of(levels))
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((4, 4))
    word_mask_BT[0] = False  # nothing counts towards the mass of this sample
    stages = fusion(text_BTD, word_mask_BT, RegionPyramid(regions_BRD, region_mask_BR, (4, 4)))
    stages[-1].x_BTD.sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_padding_regions_and_words_changes_nothing() -> None:
    fusion = made_fusion(config_of())
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((1, 6))
    x_BTD = fusion(text_BTD, word_mask_BT, RegionPyramid(regions_BRD, region_mask_BR, (1, 6)))[-1].x_BTD
    wide_BTD = torch.cat([text_BTD, 50 * torch.randn(B, 3, WIDTH, dtype=torch.float64)], dim=1)
    longer_BRD = torch.cat([regions_BRD, 50 * torch.randn(B, 4, WIDTH, dtype=torch.float64)], dim=1)
    word_mask_BT = torch.cat([word_mask_BT, torch.zeros(B, 3, dtype=torch.bool)], dim=1)
    region_mask_BR = torch.cat([region_mask_BR, torch.zeros(B, 4, dtype=torch.bool)], dim=1)
    padded_BTD = fusion(wide_BTD, word_mask_BT, RegionPyramid(longer_BRD, region_mask_BR, (1, 10)))[-1].x_BTD
    torch.testing.assert_close(padded_BTD[:, :T], x_BTD, rtol=1e-12, atol=1e-12)


def test_what_padding_words_attend_to_is_no_guide() -> None:
    fusion = made_fusion(config_of())
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((4, 4))
    pyramid = RegionPyramid(regions_BRD, region_mask_BR, (4, 4))
    x_BTD = fusion(text_BTD, word_mask_BT, pyramid)[-1].x_BTD
    other_BTD = torch.where(word_mask_BT[..., None], text_BTD, 30 * torch.randn_like(text_BTD))
    other_x_BTD = fusion(other_BTD, word_mask_BT, pyramid)[-1].x_BTD
    torch.testing.assert_close(other_x_BTD[word_mask_BT], x_BTD[word_mask_BT], rtol=1e-12, atol=1e-12)


def test_gradients_reach_the_stage_before_through_rho() -> None:
    fusion = made_fusion(config_of(("patch", "patch")))
    first, second = fusion.stages
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((2, 3))
    k_BHRd = split_heads(regions_BRD, config_of().heads).clone().requires_grad_()
    _, _, mass_BR, _ = first(text_BTD, word_mask_BT, k_BHRd, k_BHRd, region_mask_BR, None, need_mass=True)
    # the second stage reads the text afresh, and its keys are constants: rho is the only way back
    k2_BHRd = k_BHRd.detach()
    x_BTD, *_ = second(text_BTD, word_mask_BT, k2_BHRd, k2_BHRd, region_mask_BR, focus_of(mass_BR), need_mass=False)
    x_BTD[word_mask_BT].square().sum().backward()
    assert first.query.weight.grad.abs().max() > 0
    assert k_BHRd.grad is not None
    assert k_BHRd.grad.abs().max() > 0
    assert second.beta.grad.abs() > 0


def test_only_stages_that_have_a_predecessor_have_a_beta_and_it_starts_at_one() -> None:
    fusion = ProgressiveFusion(config_of())
    assert [stage.beta is None for stage in fusion.stages] == [True, False, False]
    assert all(stage.beta.item() == 1.0 for stage in fusion.stages[1:])
    assert all(stage.out.bias is None for stage in fusion.stages)


def test_rho_is_relative_to_the_most_attended_region_and_floored() -> None:
    rho_BR = focus_of(torch.tensor([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0], [1e-7, 0.0, 5e-7]]))
    expected = torch.tensor([[1.0, 0.5, 1e-4], [1e-4, 1e-4, 1e-4], [0.1, 1e-4, 0.5]])
    torch.testing.assert_close(rho_BR, expected)


def test_dropout_follows_the_seed_and_is_off_in_evaluation() -> None:
    fusion = ProgressiveFusion(tiny_config(model__dropout=0.5).model)
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((4, 4))
    pyramid = RegionPyramid(regions_BRD.float(), region_mask_BR, (4, 4))

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return fusion(text_BTD.float(), word_mask_BT, pyramid)[-1].x_BTD

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    fusion.eval()
    assert torch.equal(run(1), run(2))


def test_a_stage_runs_under_autocast_on_text_in_float32() -> None:
    # CUDA's autocast leaves the text's norm in float32, the CPU's does not: hence float32 from outside
    stage = CrossAttentionStage(tiny_config().model, gate=True, focus=True)
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((4, 4))
    rho_BR = torch.rand(B, 16) + 0.1
    k_BHRd = split_heads(regions_BRD, 2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x_BTD, context_BTD, mass_BR, _ = stage(
            text_BTD.float(), word_mask_BT, k_BHRd, k_BHRd, region_mask_BR, rho_BR, need_mass=True
        )
    assert context_BTD.dtype == torch.bfloat16
    assert mass_BR.dtype == torch.float32
    x_BTD.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in stage.parameters())


def test_one_product_a_level_yields_all_keys_and_values() -> None:
    fusion = ProgressiveFusion(config_of(("pooled", "patch", "patch", "image", "patch")))
    assert {level: layer.out_features for level, layer in fusion.key_value.items()} == {
        "pooled": 2 * WIDTH,
        "patch": 3 * 2 * WIDTH,
        "image": 2 * WIDTH,
    }
    assert not any("key" in name for name, _ in fusion.stages.named_parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("levels", [("pooled", "patch", "patch"), ("patch", "image", "pooled")])
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_the_whole_stack_traces_in_one_graph(levels: tuple[str, ...], training: bool) -> None:
    fusion = ProgressiveFusion(tiny_config(model__levels=list(levels), model__dropout=0.3).model).train(training)
    text_BTD, word_mask_BT, regions_BRD, region_mask_BR = made_inputs((4, 4))

    def run(text_BTD: Tensor, word_mask_BT: Tensor, regions_BRD: Tensor, region_mask_BR: Tensor) -> Tensor:
        return fusion(text_BTD, word_mask_BT, RegionPyramid(regions_BRD, region_mask_BR, (4, 4)))[-1].x_BTD

    inputs = (text_BTD.float(), word_mask_BT, regions_BRD.float().requires_grad_(), region_mask_BR)
    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(5)
        x_BTD = function(*inputs)
        fusion.zero_grad()
        inputs[2].grad = None
        x_BTD[word_mask_BT].square().sum().backward()
        results.append((x_BTD.detach(), inputs[2].grad, *(p.grad for p in fusion.parameters())))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
