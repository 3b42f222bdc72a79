"""MCL: which rows take part, and that the losses are the reference's on those rows alone."""

from __future__ import annotations

import math

import pytest
import torch
from builders import tiny_config
from torch import Tensor

from clamp.contrastive import MAX_LOG_SCALE, ContrastScale, MultiTaskContrast, masked_mean
from kernels import reference

B, T, R, WIDTH = 5, 4, 6, 16


def made_contrast(**changes: object) -> MultiTaskContrast:
    config = tiny_config(**{f"model__contrast__{name}": value for name, value in changes.items()})
    return MultiTaskContrast(config.model.contrast, WIDTH, "auto").double()


def made_inputs() -> dict[str, Tensor]:
    """Five tweets: full, one region, no image, one word, no image."""
    region_mask_BR = torch.rand(B, R) < 0.7
    region_mask_BR[0] = True
    region_mask_BR[1] = torch.arange(R) == 2
    region_mask_BR[2] = region_mask_BR[4] = False
    region_mask_BR[3, 0] = True
    return {
        "text_BTD": torch.randn(B, T, WIDTH, dtype=torch.float64),
        "word_mask_BT": torch.arange(T) < torch.tensor([4, 2, 3, 1, 1])[:, None],
        "context_BTD": torch.randn(B, T, WIDTH, dtype=torch.float64),
        "regions_BRD": torch.randn(B, R, WIDTH, dtype=torch.float64),
        "region_mask_BR": region_mask_BR,
        "aspect_spans_N3": torch.tensor([[0, 0, 2], [0, 3, 4], [1, 0, 1], [2, 1, 3], [3, 0, 1]]),
    }


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


# float32 inside, float64 here
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def test_global_loss_is_the_reference_on_the_tweets_that_have_an_image() -> None:
    contrast, inputs = made_contrast(local_contrast="none", scale=7.0), made_inputs()
    z_t, z_v = [], []
    for b in (0, 1, 3):
        words = inputs["text_BTD"][b, inputs["word_mask_BT"][b]]
        regions = inputs["regions_BRD"][b, inputs["region_mask_BR"][b]]
        z_t.append(unit(contrast.project_text(words.mean(dim=0))))
        z_v.append(unit(contrast.project_image(regions.mean(dim=0))))
    expected = reference.info_nce(torch.stack(z_t), torch.stack(z_v), 7.0)
    losses = contrast(**inputs)
    assert list(losses) == list(contrast.tasks) == ["global"]
    torch.testing.assert_close(losses["global"].double(), expected, **CLOSE)


def test_embeddings_of_tweets_without_an_image_are_zero() -> None:
    inputs = made_inputs()
    z_t, z_v, valid_B = made_contrast().embed(
        inputs["text_BTD"], inputs["word_mask_BT"], inputs["regions_BRD"], inputs["region_mask_BR"]
    )
    assert valid_B.tolist() == [True, True, False, True, False]
    for z in (z_t, z_v):
        torch.testing.assert_close(z.norm(dim=1), valid_B.float())


def test_local_loss_is_the_mean_of_one_problem_a_tweet() -> None:
    contrast, inputs = made_contrast(global_contrast=False, local_contrast="words", scale=4.0), made_inputs()
    losses = contrast(**inputs)
    assert list(losses) == list(contrast.tasks) == ["local"]
    expected = []
    for b, words in ((0, 4), (1, 2)):  # tweet 3 has one word, 2 and 4 have no image
        t = unit(contrast.project_word(inputs["text_BTD"][b, :words]))
        o = unit(contrast.project_context(inputs["context_BTD"][b, :words]))
        expected.append(reference.info_nce(t, o, 4.0))
    torch.testing.assert_close(losses["local"].double(), torch.stack(expected).mean(), **CLOSE)


def test_aspects_are_contrasted_across_the_batch() -> None:
    contrast, inputs = made_contrast(global_contrast=False, scale=4.0), made_inputs()
    t, o = [], []
    for b, start, end in ((0, 0, 2), (0, 3, 4), (1, 0, 1), (3, 0, 1)):
        t.append(unit(contrast.project_word(inputs["text_BTD"][b, start:end].mean(dim=0))))
        o.append(unit(contrast.project_context(inputs["context_BTD"][b, start:end].mean(dim=0))))
    expected = reference.info_nce(torch.stack(t), torch.stack(o), 4.0)
    torch.testing.assert_close(contrast(**inputs)["local"].double(), expected, **CLOSE)


@pytest.mark.parametrize("with_image", [[], [0], [3], [3, 0]])
def test_a_task_with_fewer_than_two_rows_is_absent(with_image: list[int]) -> None:
    inputs = made_inputs()
    inputs["region_mask_BR"] = torch.zeros(B, R, dtype=torch.bool)
    inputs["region_mask_BR"][with_image] = True
    words = made_contrast(local_contrast="words")(**inputs)
    assert ("global" in words) == (len(with_image) >= 2)
    assert ("local" in words) == (0 in with_image)  # tweet 0 has words to tell apart, tweet 3 has one word
    aspects = made_contrast()(**inputs)
    assert ("local" in aspects) == (0 in with_image)
    without_gold = made_contrast()(**{**inputs, "aspect_spans_N3": None})
    assert "local" not in without_gold


@pytest.mark.parametrize("local", ["words", "aspects"])
def test_nothing_of_tweets_without_an_image_leaks(local: str) -> None:
    contrast, inputs = made_contrast(local_contrast=local), made_inputs()
    expected = contrast(**inputs)
    poisoned = dict(inputs)
    region_mask_BR, word_mask_BT = inputs["region_mask_BR"], inputs["word_mask_BT"]
    poisoned["regions_BRD"] = inputs["regions_BRD"].masked_fill(~region_mask_BR[..., None], torch.nan).requires_grad_()
    usable_BT = word_mask_BT & region_mask_BR.any(dim=1)[:, None]
    poisoned["context_BTD"] = torch.where(usable_BT[..., None], inputs["context_BTD"], 1e30).requires_grad_()
    losses = contrast(**poisoned)
    for task in ("global", "local"):
        assert torch.equal(losses[task], expected[task])
    sum(losses.values()).backward()
    for name in ("regions_BRD", "context_BTD"):
        assert poisoned[name].grad.isfinite().all()
    assert not poisoned["regions_BRD"].grad[~region_mask_BR].any()
    assert not poisoned["context_BTD"].grad[~usable_BT].any()
    assert all(parameter.grad.isfinite().all() for parameter in contrast.parameters())


@pytest.mark.parametrize("local", ["words", "aspects"])
def test_contexts_of_zero_have_finite_gradients_and_can_leave(local: str) -> None:
    """As at the start, where W_o is zero."""
    contrast, inputs = made_contrast(local_contrast=local), made_inputs()
    inputs["context_BTD"] = torch.zeros_like(inputs["context_BTD"]).requires_grad_()
    contrast(**inputs)["local"].backward()
    assert inputs["context_BTD"].grad.isfinite().all()
    assert inputs["context_BTD"].grad.any()  # by the projection's bias
    inputs["context_BTD"].grad = None
    torch.nn.init.zeros_(contrast.project_context.bias)
    contrast(**inputs)["local"].backward()
    assert inputs["context_BTD"].grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in contrast.parameters() if p.grad is not None)


@pytest.mark.parametrize(("log_scale", "scale"), [(-3.0, 1.0), (9.0, 100.0), (1.5, math.exp(1.5))])
def test_learned_scales_are_projected_into_1_to_100(log_scale: float, scale: float) -> None:
    contrast = made_contrast(learn_scale=True)
    for module in (contrast.global_scale, contrast.local_scale):
        module.log_scale.data.fill_(log_scale)
    contrast.project()
    for module in (contrast.global_scale, contrast.local_scale):
        assert module().item() == pytest.approx(scale)
    assert math.exp(MAX_LOG_SCALE) == pytest.approx(100.0)


def test_the_two_scales_are_learned_apart() -> None:
    contrast = made_contrast(learn_scale=True)
    losses = contrast(**made_inputs())
    losses["global"].backward()
    assert contrast.global_scale.log_scale.grad.abs() > 0
    assert contrast.local_scale.log_scale.grad is None
    assert ContrastScale(5.0, learned=True)().item() == pytest.approx(5.0)
    assert ContrastScale(5.0, learned=False)() == 5.0


def test_masked_mean_of_nothing_is_zero_and_of_some_ignores_the_rest() -> None:
    x_BND = torch.tensor([[[1.0], [5.0], [math.nan]], [[math.nan], [math.inf], [2.0]]])
    mask_BN = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(x_BND, mask_BN).tolist() == [[3.0], [0.0]]
