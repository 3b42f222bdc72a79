"""Which implementation of an operator runs: the one place that decides."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch

Impl = Literal["auto", "triton", "torch", "reference"]
Mode = Literal["auto", "save", "chunked", "resident"]  # how InfoNCE's logits get to its backward pass (`infonce.plan`)

_IMPLS: tuple[str, ...] = get_args(Impl)

_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
# Triton reads it when it is imported, which is not before a kernel runs.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def run(
    impl: Impl,
    implementations: Mapping[str, Callable[..., Any]],
    tensor: torch.Tensor,
    *args: Any,
    unsupported: str | None = None,
) -> Any:
    """Call the implementation that `impl` names with `tensor` (the operator's first input) and `args`.

    `implementations` maps "triton", "torch" and "reference" to functions of one signature. "auto" is the Triton kernel
    on a CUDA tensor that it can take, and PyTorch elsewhere. `unsupported` is what, in these inputs, the operator's
    kernel cannot take. Autocast is off inside, so that the inputs' types alone decide the precision: it would round the
    logits of a float32 loss to 16 bits.

    Raises ValueError for an unknown name and RuntimeError for "triton" where it cannot run, with the reason.
    """
    if impl not in _IMPLS:
        raise ValueError(f"impl is {impl!r}; the choices are {', '.join(map(repr, _IMPLS))}")
    if impl == "auto":
        runs = tensor.is_cuda and unsupported is None and obstacle(tensor) is None
        impl = "triton" if runs else "torch"
    elif impl == "triton":
        reason = unsupported or obstacle(tensor)
        if reason is not None:
            raise RuntimeError(f"impl='triton' cannot run here: {reason}; impl='auto' picks what can")
    device = tensor.device
    if impl == "triton" and tensor.is_cuda and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):  # Triton launches on the current GPU, wherever the tensors are
            return run(impl, implementations, tensor, *args)
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False):
            return implementations[impl](tensor, *args)
    return implementations[impl](tensor, *args)


def obstacle(tensor: torch.Tensor) -> str | None:
    """Why no Triton kernel can take this tensor on this machine, or None where one can."""
    if not _TRITON_INSTALLED:
        return "triton is not installed"
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the kernels compute in float32 at most, and the input is {tensor.dtype}"
    if tensor.is_cuda:
        major, minor = torch.cuda.get_device_capability(tensor.device)
        return None if major >= 8 else f"the kernels need compute capability 8.0, and the GPU has {major}.{minor}"
    if not _INTERPRETED:
        return (
            f"the tensors are on {tensor.device.type}, not on a GPU (set TRITON_INTERPRET=1 to interpret the kernels)"
        )
    # It would multiply the bit patterns as integers, silently.
    return "Triton's interpreter has no bfloat16" if tensor.dtype == torch.bfloat16 else None


def compute_dtype(tensor: torch.Tensor) -> torch.dtype:
    """What PyTorch implementations compute in: float32, or the type of the operator's first input if that is wider."""
    return torch.promote_types(torch.float32, tensor.dtype)
