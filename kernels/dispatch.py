"""Which implementation of an operator runs: the one place that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

IMPLEMENTATIONS = ("auto", "triton", "torch", "reference")


def run(impl: str, implementations: Mapping[str, Callable[..., Any]], tensor: torch.Tensor, *args: Any) -> Any:
    """Call the implementation that `impl` names with `tensor` (the operator's first input) and `args`.

    `implementations` maps "torch", "reference" and, where an operator has one, "triton" to functions of one signature.
    "auto" is the Triton kernel on a CUDA tensor and PyTorch elsewhere. Autocast is off inside, so that the inputs'
    types alone decide the precision: it would round the logits of a float32 loss to 16 bits.

    Raises ValueError for an unknown name and RuntimeError for "triton" where the operator has no Triton kernel.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; the choices are {', '.join(map(repr, IMPLEMENTATIONS))}")
    if impl == "auto":
        impl = "triton" if tensor.is_cuda and "triton" in implementations else "torch"
    if impl not in implementations:
        raise RuntimeError("this operator has no Triton kernel: use impl='auto' or impl='torch'")
    with torch.autocast(tensor.device.type, enabled=False):
        return implementations[impl](tensor, *args)


def compute_dtype(tensor: torch.Tensor) -> torch.dtype:
    """What PyTorch implementations compute in: float32, or the type of the operator's first input if that is wider."""
    return torch.promote_types(torch.float32, tensor.dtype)
