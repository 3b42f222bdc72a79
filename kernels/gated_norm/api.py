"""The tail of a fusion stage: gate, dropout, residual and LayerNorm."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from kernels import checks, dispatch, philox, reference
from kernels.dispatch import Impl

_WEIGHTS_OF = {
    dtype: frozenset({dtype, torch.float32}) for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
_TRITON_WIDTH = 4096  # a row lies in the registers of one program


def gated_residual_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    eps: float = 1e-5,
    dropout_p: float = 0.0,
    seed: int | torch.Tensor = 0,
    impl: Impl = "auto",
) -> torch.Tensor:
    """LayerNorm(residual + dropout(sigmoid(gate_logits) * x)). `reference.gated_residual_norm` has the equations.

    Args:
        x, residual: (..., D) floating point, of one type.
        gate_logits: (..., D) of that type, or None for no gate.
        weight, bias: (D,) of that type or float32.
        eps: added to the variance.
        dropout_p: probability, 0 <= p < 1, of dropping an element of the gated x (`philox.row_keep_mask` tells which).
        seed: of the dropout: a signed 64-bit int, or a 0-dim int64 tensor on x's device.
        impl: "auto", "triton", "torch" or "reference" (see `dispatch.run`).

    Returns:
        (..., D) of x's type. Everything before the result is in float32 (float64 for float64 inputs).

    Raises:
        TypeError: an argument that is no tensor, or no number, where one is needed.
        ValueError: a shape, type or device other than these (nothing broadcasts), D of 0, dropout_p outside [0, 1), or
            an unknown impl.
        RuntimeError: impl="triton" where there is no Triton kernel; a second derivative of that kernel.
    """
    shape, dtype, device = checks.floats("x", x, "")
    checks.same("residual", residual, dtype, device, shape)
    if gate_logits is not None:
        checks.same("gate_logits", gate_logits, dtype, device, shape)
    width = shape[-1]
    checks.one_of("weight", weight, _WEIGHTS_OF[dtype], device, (width,))
    checks.one_of("bias", bias, _WEIGHTS_OF[dtype], device, (width,))
    checks.number("eps", eps)
    if philox.threshold(dropout_p) > 0:
        checks.seed(seed, device)
    unsupported = f"rows of {width} elements are wider than {_TRITON_WIDTH}" if width > _TRITON_WIDTH else None
    return dispatch.run(
        impl, _IMPLEMENTATIONS, x, residual, gate_logits, weight, bias, eps, dropout_p, seed, unsupported=unsupported
    )


def _gated_residual_norm_torch(
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight_D: torch.Tensor,
    bias_D: torch.Tensor,
    eps: float,
    dropout_p: float,
    seed: int | torch.Tensor,
) -> torch.Tensor:
    dtype = dispatch.compute_dtype(x)
    width = x.shape[-1]
    update = x.to(dtype)
    if gate_logits is not None:
        update = update * torch.sigmoid(gate_logits.to(dtype))
    scale = 1.0
    if philox.threshold(dropout_p) > 0:
        keep = philox.row_keep_mask(x.numel() // width, width, dropout_p, seed, x.device)
        update = torch.where(keep.view(x.shape), update, 0.0)
        scale = philox.keep_scale(dropout_p)
    y = torch.add(residual.to(dtype), update, alpha=scale)
    return F.layer_norm(y, (width,), weight_D.to(dtype), bias_D.to(dtype), eps).to(x.dtype)


def _gated_residual_norm_triton(*args: Any) -> torch.Tensor:
    from kernels.gated_norm.op import gated_residual_norm  # triton is an import that not every machine has

    return gated_residual_norm(*args)


_IMPLEMENTATIONS = {
    "triton": _gated_residual_norm_triton,
    "torch": _gated_residual_norm_torch,
    "reference": reference.gated_residual_norm,
}
