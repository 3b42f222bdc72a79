"""The two contrastive losses, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import kernels

PAIRS = (1024, 256)  # N, D
GROUPS = (64, 32, 256)  # G, N, D
SCALE = 10.0


def _units(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(shape, generator=generator), dim=-1).requires_grad_() for _ in range(2))
    return a, b


def _eager(a_ND: torch.Tensor, b_ND: torch.Tensor) -> torch.Tensor:
    """CLIP's loss as it is commonly written."""
    logits_NN = SCALE * a_ND @ b_ND.T
    labels_N = torch.arange(len(logits_NN))
    return (F.cross_entropy(logits_NN, labels_N) + F.cross_entropy(logits_NN.T, labels_N)) / 2


@pytest.mark.parametrize("impl", ["torch", "reference", "eager"])
def test_info_nce(benchmark: Callable[..., None], impl: str) -> None:
    a, b = _units(PAIRS)
    benchmark.group = f"info_nce {PAIRS}, forward + backward"  # type: ignore[attr-defined]

    def step() -> None:
        loss = _eager(a, b) if impl == "eager" else kernels.info_nce(a, b, SCALE, impl=impl)
        loss.backward()

    benchmark(step)


@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_grouped_info_nce(benchmark: Callable[..., None], impl: str) -> None:
    a, b = _units(GROUPS)
    benchmark.group = f"grouped_info_nce {GROUPS}, forward + backward"  # type: ignore[attr-defined]

    def step() -> None:
        kernels.grouped_info_nce(a, b, SCALE, impl=impl).backward()

    benchmark(step)
