"""The stack that the benchmarks time does what the model's fusion does: with its parameters, to the bit."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_config

from clamp.fusion import ProgressiveFusion
from clamp.pyramid import RegionPyramid
from kernels.bench.works import stack

B, T, SIDE = 4, 5, 3


def models(operators: stack.Operators) -> tuple[ProgressiveFusion, stack.Stack]:
    config = tiny_config(model__levels=list(stack.LEVELS), model__dropout=stack.DROPOUT, model__ffn_multiple=4).model
    fusion = ProgressiveFusion(config)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    timed = stack.Stack(config.width, config.heads, SIDE, operators)
    timed.load_state_dict(fusion.state_dict())
    return fusion, timed


def results(model: ProgressiveFusion | stack.Stack, width: int, *, without_image: bool) -> list[torch.Tensor]:
    """The text after the last stage, and every gradient; without_image: of one sample all regions are masked."""
    generator = torch.Generator().manual_seed(3)
    text_BTD = torch.randn(B, T, width, generator=generator, requires_grad=True)
    patch_BRD = torch.randn(B, SIDE * SIDE, width, generator=generator, requires_grad=True)
    word_mask_BT = torch.arange(T) < torch.tensor([5, 3, 1, 4])[:, None]
    mask_BR = torch.rand(B, SIDE * SIDE, generator=generator) < 0.6
    mask_BR[:, 4], mask_BR[3] = True, not without_image
    torch.manual_seed(5)  # of the dropout
    if isinstance(model, stack.Stack):
        x_BTD = model(text_BTD, word_mask_BT, patch_BRD, mask_BR)
    else:
        x_BTD = model(text_BTD, word_mask_BT, RegionPyramid(patch_BRD, mask_BR, (SIDE, SIDE)))[-1].x_BTD
    wanted = [text_BTD, patch_BRD, *dict(sorted(model.named_parameters())).values()]
    return [x_BTD, *torch.autograd.grad(x_BTD, wanted, torch.randn(x_BTD.shape, generator=generator))]


@pytest.mark.parametrize("training", [True, False])
def test_the_timed_stack_is_the_models(training: bool) -> None:
    fusion, timed = (model.train(training) for model in models(stack.fused("torch")))
    expected, actual = (results(model, timed.width, without_image=True) for model in (fusion, timed))
    assert len(actual) == len(expected) > 40
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_the_eager_stack_computes_the_same() -> None:
    fusion, timed = (model.eval() for model in models(stack.EAGER))
    expected, actual = (results(model, timed.width, without_image=False) for model in (fusion, timed))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


def test_the_last_stage_is_asked_for_no_mass() -> None:
    asked = []

    def attention(*tensors: torch.Tensor, return_mass: bool, **options: object) -> object:
        asked.append(return_mass)
        return stack.EAGER.attention(*tensors, return_mass=return_mass, **options)

    _, timed = models(stack.Operators(attention, stack.EAGER.norm, seeded=False))
    results(timed, timed.width, without_image=False)
    assert asked == [True, True, False]


def test_products_are_those_of_every_layer_with_the_rows_that_it_sees() -> None:
    _, timed = models(stack.EAGER)
    seen: dict[torch.nn.Module, int] = {}
    layers = [module for module in timed.modules() if isinstance(module, torch.nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(lambda module, given, out: seen.update({module: given[0].flatten(0, -2).shape[0]}))
    results(timed, timed.width, without_image=False)
    assert {layer: rows for rows, layer in stack.products(timed, B, T)} == seen
    assert len(seen) == len(layers) == 17
