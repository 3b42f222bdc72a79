"""The gated residual LayerNorm, forward and backward: ours against eager PyTorch, and on a GPU torch.compile."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import kernels
from kernels.bench.local import one
from kernels.bench.measure.timing import Variant, forward_backward
from kernels.bench.works import eager, inputs, peers
from kernels.dispatch import Impl

DEVICE = one.here()
ON_GPU = DEVICE.name == "cuda"
SHAPE = (256 if ON_GPU else 16, 64, 768)  # B, T, D


def _variants() -> dict[str, Variant]:
    impls: tuple[Impl, ...] = ("triton",) if ON_GPU else ("torch", "reference")
    found: dict[str, Variant] = {"eager": forward_backward(eager.gated_residual_norm)}
    found |= {impl: forward_backward(partial(kernels.gated_residual_norm, seed=5, impl=impl)) for impl in impls}
    return found | ({peers.COMPILED: peers.compiled(DEVICE, eager.gated_residual_norm)} if ON_GPU else {})


VARIANTS = _variants()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dropout_p", [0.0, inputs.DROPOUT])
@pytest.mark.parametrize("gated", [True, False], ids=["gate", "no gate"])
def test_gated_residual_norm(benchmark: Any, gated: bool, dropout_p: float, variant: str) -> None:
    sample = inputs.norm(DEVICE, SHAPE, DEVICE.dtype, 0, gated=gated, dropout_p=dropout_p)
    work = f"gated_residual_norm {SHAPE}, {'gate' if gated else 'no gate'}, dropout {dropout_p}, forward + backward"
    one.time(benchmark, DEVICE, work, "gated_residual_norm", VARIANTS[variant], sample)
