"""Cross-attention, forward and backward: our implementations against SDPA, which has neither bias gradient nor mass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import kernels

SHAPES = {"patches": (16, 12, 64, 197, 64), "pooled": (16, 12, 64, 49, 64)}  # B, H, Lq, Lk, D


def _inputs(shape: tuple[int, int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v, and a key mask with a tenth of the keys masked."""
    B, H, Lq, Lk, D = shape
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, length, D, generator=generator, requires_grad=True) for length in (Lq, Lk, Lk))
    key_mask = torch.rand(B, Lk, generator=generator) > 0.1
    return q, k, v, key_mask


def _step(forward: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        forward().sum().backward()

    return run


@pytest.mark.parametrize("impl", ["torch", "reference", "sdpa"])
@pytest.mark.parametrize("shape", SHAPES)
def test_masked(benchmark: Callable[..., None], shape: str, impl: str) -> None:
    q, k, v, key_mask = _inputs(SHAPES[shape])
    benchmark.group = f"cross_attention {shape} {SHAPES[shape]}, key mask, forward + backward"  # type: ignore[attr-defined]
    if impl == "sdpa":
        benchmark(_step(lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask[:, None, None])))
    else:
        benchmark(_step(lambda: kernels.cross_attention(q, k, v, key_mask=key_mask, impl=impl)))


@pytest.mark.parametrize("impl", ["torch", "reference"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_and_mass(benchmark: Callable[..., None], shape: str, impl: str) -> None:
    q, k, v, key_mask = _inputs(SHAPES[shape])
    bias = torch.zeros(key_mask.shape, requires_grad=True)
    benchmark.group = f"cross_attention {shape} {SHAPES[shape]}, mask, bias and mass, forward + backward"  # type: ignore[attr-defined]

    def forward() -> torch.Tensor:
        out, mass = kernels.cross_attention(q, k, v, key_mask=key_mask, key_bias=bias, return_mass=True, impl=impl)
        return out.sum() + mass.square().sum()

    benchmark(_step(forward))
