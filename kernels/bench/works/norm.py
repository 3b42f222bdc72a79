"""The gated residual LayerNorm, whose limit is memory: time beside the bytes that it must move."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch

import kernels
from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import compare, forward_backward
from kernels.bench.works import eager, inputs, peers

WORKS = {  # work -> (shape, gated, dropout)
    "gated_residual_norm, gate and dropout": ((256, 64, 768), True, inputs.DROPOUT),
    "gated_residual_norm, gate": ((256, 64, 768), True, 0.0),
    "gated_residual_norm, dropout": ((256, 64, 768), False, inputs.DROPOUT),
    "gated_residual_norm, small batch": ((16, 64, 768), True, inputs.DROPOUT),
}
_TINY = (2, 3, 16)


def rows(device: Device) -> Iterator[Row]:
    """Forward and backward."""
    seed = torch.full((), 5, dtype=torch.int64, device=device.name)
    for work, (shape, gated, dropout_p) in WORKS.items():
        shape = _TINY if device.rehearses else shape
        samples = [inputs.norm(device, shape, device.dtype, s, gated=gated, dropout_p=dropout_p) for s in range(3)]
        variants = {
            "kernels": forward_backward(partial(kernels.gated_residual_norm, seed=seed, impl=device.impl)),
            "eager": forward_backward(eager.gated_residual_norm),
            peers.COMPILED: peers.compiled(device, eager.gated_residual_norm),
        }
        # forward: x, residual, gate -> out; backward: the same and dout -> a gradient of each
        passes = (4 if gated else 3) + (7 if gated else 5)
        facts = {"work": work, "shape": list(shape), "dtype": str(device.dtype).removeprefix("torch.")}
        yield from compare(device, facts | {"bytes": 2 * passes * math.prod(shape)}, variants, samples, seconds=0.2)
