"""A Triton kernel of one line: where it does not run, none will, whatever is wrong with the machine."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_COUNT = 64


@triton.jit
def _increment_kernel(p_x, COUNT: tl.constexpr):
    b_at = tl.arange(0, COUNT)
    tl.store(p_x + b_at, tl.load(p_x + b_at) + 1.0)


def increments(device: str) -> bool:
    """Whether it does what it says, on this device."""
    x = torch.arange(_COUNT, dtype=torch.float32, device=device)
    _increment_kernel[(1,)](x, COUNT=_COUNT)
    return x.tolist() == [value + 1.0 for value in range(_COUNT)]
