"""Cross-attention against eager PyTorch, SDPA's backends, FlexAttention and torch.compile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch

import kernels
from kernels import reference
from kernels.bench.measure import parity
from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import Sample, Variant, checked, compare, forward_backward
from kernels.bench.works import eager, inputs, peers
from kernels.bench.works.inputs import DROPOUT, AttentionShape

MASKED = "cross_attention, key mask"
GUIDED = "cross_attention, key mask, bias and mass"
DROPPING = "cross_attention, key mask and dropout"
PATCHES: AttentionShape = (256, 12, 64, 197, 64)
_OTHERS: dict[str, AttentionShape] = {
    "cross_attention, pooled regions": (256, 12, 64, 49, 64),
    "cross_attention, long text": (256, 12, 128, 257, 64),
    "cross_attention, small batch": (16, 12, 64, 197, 64),
}
_TINY: AttentionShape = (1, 2, 5, 19, 16)
_INPUTS = 3
# Gradients from 16-bit operands lie between 1e-3 and 1e-2 from the float64 ones; wrong ones do not.
_LARGEST_PEER_ERROR = 2e-2


def rows(device: Device) -> Iterator[Row]:
    """Forward and backward of every work, ours and the peers'."""
    seed = torch.full((), 5, dtype=torch.int64, device=device.name)
    ours = {"kernels": forward_backward(partial(kernels.cross_attention, seed=seed, impl=device.impl))}
    backends = peers.sdpa_backends()
    plain = {"eager": forward_backward(eager.cross_attention)}
    compiled = {peers.COMPILED: peers.compiled(device, eager.cross_attention)}

    samples, facts = _work(device, MASKED, PATCHES, guided=False)
    yield from judged(device, facts, ours | plain | backends, samples[0])
    flex = {peers.FLEX: peers.flex_attention(device)}
    yield from compare(device, facts, ours | plain | backends | compiled | flex, samples)

    samples, facts = _work(device, GUIDED, PATCHES, guided=True)
    yield from compare(device, facts, ours | plain | compiled, samples)

    samples, facts = _work(device, DROPPING, PATCHES, guided=False, dropout_p=DROPOUT)
    yield from compare(device, facts, ours | plain | backends | compiled, samples)

    for work, shape in _OTHERS.items():
        samples, facts = _work(device, work, shape, guided=False)
        yield from compare(device, facts, ours | plain | backends, samples, seconds=0.2)

    samples, facts = _work(device, MASKED, PATCHES, guided=False)
    yield {**facts, "variant": "SDPA", "default_backend": peers.default_backend(**samples[0].arguments)}


def _work(
    device: Device, work: str, shape: AttentionShape, *, guided: bool, dropout_p: float = 0.0
) -> tuple[list[Sample], Row]:
    shape = _TINY if device.rehearses else shape
    samples = [
        inputs.attention(device, shape, device.dtype, seed, guided=guided, dropout_p=dropout_p)
        for seed in range(_INPUTS)
    ]
    facts = {"work": work, "shape": list(shape), "dtype": str(device.dtype).removeprefix("torch.")}
    return samples, facts | {"bytes": _least_bytes(shape)}


def _least_bytes(shape: AttentionShape) -> int:
    """Each input read once and each output written once: q, k, v -> out, then q, k, v, out, dout -> dq, dk, dv."""
    B, H, Lq, Lk, D = shape
    return 2 * B * H * D * (6 * Lq + 6 * Lk)


def judged(device: Device, facts: Row, variants: Mapping[str, Variant], sample: Sample) -> Iterator[Row]:
    """Are a variant's output and gradients right at the very shape that is timed?"""
    expected = parity.named_results(forward_backward(reference_attention), parity.in_float64(sample))
    bounds = dict.fromkeys(expected, _LARGEST_PEER_ERROR)
    for name, variant in variants.items():
        row = {**facts, "variant": name, "check": "gradients at the timed shape"}
        yield from checked(device, row, partial(parity.judged, variant, sample, expected, bounds))


def reference_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor) -> torch.Tensor:
    out = reference.cross_attention(q, k, v, key_mask)
    assert isinstance(out, torch.Tensor)
    return out
