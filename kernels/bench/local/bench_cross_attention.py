"""Cross-attention, forward and backward, against eager PyTorch and SDPA; on a GPU torch.compile and FlexAttention too.

SDPA has neither a bias gradient at this speed nor the attention mass; where one of them is wanted it does not compete.
"""

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
BATCH = 256 if ON_GPU else 8
SHAPES = {"patches": (BATCH, 12, 64, 197, 64), "pooled": (BATCH, 12, 64, 49, 64)}  # B, H, Lq, Lk, D
FEATURES: dict[str, dict[str, Any]] = {
    "key mask": {"guided": False},
    "key mask, bias and mass": {"guided": True},
    "key mask and dropout": {"guided": False, "dropout_p": inputs.DROPOUT},
}


def _variants() -> dict[str, Variant]:
    def ours(impl: Impl) -> Variant:
        return forward_backward(partial(kernels.cross_attention, seed=5, impl=impl))

    if not ON_GPU:
        return {
            "torch": ours("torch"),
            "reference": ours("reference"),
            "eager": forward_backward(eager.cross_attention),
            "SDPA": forward_backward(peers.sdpa),
        }
    found = {"triton": ours("triton"), "eager": forward_backward(eager.cross_attention)}
    found[peers.COMPILED] = peers.compiled(DEVICE, eager.cross_attention)
    return found | peers.sdpa_backends() | {peers.FLEX: peers.flex_attention(DEVICE)}


VARIANTS = _variants()
# What takes no more than a mask and dropout, and what no more than a mask.
ONLY_ATTENTION = {"SDPA", peers.FLEX, *peers.sdpa_backends()}
ONLY_MASKS = {peers.FLEX}


def _competes(variant: str, features: str) -> bool:
    return {
        "key mask": True,
        "key mask, bias and mass": variant not in ONLY_ATTENTION,
        "key mask and dropout": variant not in ONLY_MASKS,
    }[features]


@pytest.mark.parametrize(
    ("features", "variant"),
    [(features, name) for features in FEATURES for name in VARIANTS if _competes(name, features)],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_attention(benchmark: Any, shape: str, features: str, variant: str) -> None:
    sample = inputs.attention(DEVICE, SHAPES[shape], DEVICE.dtype, 0, **FEATURES[features])
    work = f"cross_attention {shape} {SHAPES[shape]}, {features}, forward + backward"
    one.time(benchmark, DEVICE, work, "cross_attention", VARIANTS[variant], sample)
