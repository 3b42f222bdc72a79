"""Symmetric InfoNCE within each of many small groups."""

from __future__ import annotations

from typing import Any

import torch

from kernels import checks, dispatch, reference
from kernels.dispatch import Impl
from kernels.infonce.api import drop_pairs_, scaled, symmetric_cross_entropy

_TRITON_ROWS = 128  # a group's logits lie in the registers of one program


def grouped_info_nce(
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float | torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    impl: Impl = "auto",
) -> torch.Tensor:
    """The mean over G independent groups of a weighted symmetric InfoNCE. Equations: `reference.grouped_info_nce`.

    Args:
        a, b: (G, N, D) floating point, of one type; they are used as given: normalise first.
        scale: the inverse temperature: a float, or a one-element tensor, which then receives a gradient.
        mask: (G, N) bool, False drops the row's pair from its group; what it holds, NaN included, reaches neither the
            loss nor a gradient.
        weights: (G, N) floating point constants >= 0, normalised over a group's valid rows; None = equal.
        impl: "auto", "triton", "torch" or "reference" (see `dispatch.run`).

    Returns:
        A scalar in float32 (float64 for float64 inputs), computed in that type. Groups with fewer than two valid rows
        or without a positive weight take no part; where none takes part it is 0, with zero gradients.

    Raises:
        TypeError: an argument that is no tensor, or no number, where one is needed.
        ValueError: a shape, type or device other than these (nothing broadcasts), D of 0, or an unknown impl.
        RuntimeError: impl="triton" where there is no Triton kernel; a second derivative of that kernel.
    """
    shape, dtype, device = checks.floats("a", a, "GND")
    checks.same("b", b, dtype, device, shape)
    checks.scale(scale, device)
    if mask is not None:
        checks.same("mask", mask, torch.bool, device, shape[:2])
    if weights is not None:
        checks.one_of("weights", weights, checks.COMPUTED, device, shape[:2])
    rows = shape[1]
    unsupported = f"groups of {rows} rows are above {_TRITON_ROWS}" if rows > _TRITON_ROWS else None
    return dispatch.run(impl, _IMPLEMENTATIONS, a, b, scale, mask, weights, unsupported=unsupported)


def _grouped_info_nce_torch(
    a_GND: torch.Tensor,
    b_GND: torch.Tensor,
    scale: float | torch.Tensor,
    mask_GN: torch.Tensor | None,
    weights_GN: torch.Tensor | None,
) -> torch.Tensor:
    if mask_GN is not None:
        dropped_GN1 = ~mask_GN[..., None]
        a_GND, b_GND = a_GND.masked_fill(dropped_GN1, 0), b_GND.masked_fill(dropped_GN1, 0)
    a_GND = scaled(scale, a_GND)
    logits_GNN = torch.bmm(a_GND, b_GND.to(a_GND.dtype).mT)
    if mask_GN is None:
        mask_GN = torch.ones(a_GND.shape[:2], dtype=torch.bool, device=a_GND.device)
    else:
        drop_pairs_(logits_GNN, mask_GN)
    share_GN = _shares(mask_GN, weights_GN, a_GND.dtype)
    return (share_GN * symmetric_cross_entropy(logits_GNN)).sum()


def _shares(mask_GN: torch.Tensor, weights_GN: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """What each row's term counts in the loss: all add up to 1, or to 0 where no group takes part."""
    weights_GN = mask_GN.to(dtype) if weights_GN is None else weights_GN.detach().to(dtype).masked_fill(~mask_GN, 0)
    total_G1 = weights_GN.sum(dim=1, keepdim=True)
    active_G1 = (mask_GN.sum(dim=1, keepdim=True) >= 2) & (total_G1 > 0)
    return torch.where(active_G1, weights_GN / total_G1, 0.0) / active_G1.sum().clamp(min=1)


def _grouped_info_nce_triton(*args: Any) -> torch.Tensor:
    from kernels.grouped_infonce.op import grouped_info_nce  # triton is an import that not every machine has

    return grouped_info_nce(*args)


_IMPLEMENTATIONS = {
    "triton": _grouped_info_nce_triton,
    "torch": _grouped_info_nce_torch,
    "reference": reference.grouped_info_nce,
}
