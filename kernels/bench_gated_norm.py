"""The gated residual LayerNorm, forward and backward, with dropout and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import kernels

SHAPE = (16, 64, 768)  # B, T, D


@pytest.mark.parametrize("impl", ["torch", "reference"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_gated_residual_norm(benchmark: Callable[..., None], dropout_p: float, impl: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual, gate = (torch.randn(SHAPE, generator=generator, requires_grad=True) for _ in range(3))
    weight, bias = torch.ones(SHAPE[-1], requires_grad=True), torch.zeros(SHAPE[-1], requires_grad=True)
    benchmark.group = f"gated_residual_norm {SHAPE}, dropout {dropout_p}, forward + backward"  # type: ignore[attr-defined]

    def step() -> None:
        kernels.gated_residual_norm(x, residual, gate, weight, bias, dropout_p=dropout_p, impl=impl).sum().backward()

    benchmark(step)
