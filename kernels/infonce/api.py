"""Symmetric InfoNCE over one batch of pairs: the public function, and its PyTorch path."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import checks, dispatch, reference
from kernels.dispatch import Impl, Mode
from kernels.infonce import plan
from kernels.infonce.blocks import torch_footprint, without_dropped
from kernels.infonce.chunked import chunked


def info_nce(
    a: Tensor,
    b: Tensor,
    scale: float | Tensor,
    *,
    row_mask: Tensor | None = None,
    mode: Mode = "auto",
    workspace_bytes: int = 2**30,
    group: torch.distributed.ProcessGroup | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Cross-entropy of scale * a b^T against its diagonal, mean of rows and columns; equations: `reference.info_nce`.

    Args:
        a, b: (N, D) floating point, of one type; row i of a belongs to row i of b. They are used as given: normalise
            first.
        scale: the inverse temperature: a float, or a one-element tensor, which then receives a gradient.
        row_mask: (N,) bool, False drops the pair from the rows and the columns; what it holds, NaN included, reaches
            neither the loss nor a gradient.
        mode: how the N x N logits get to the backward pass. "save" keeps them, "chunked" forms them again block by
            block, "resident" does so in the smallest blocks; "auto": see `infonce.plan`.
        workspace_bytes: what may be held at once beyond inputs, outputs and O(N D). It decides modes and blocks; what
            happens to be free does not.
        group: a process group whose ranks' shards form one batch, in the order of the ranks: see
            `kernels.infonce.distributed`. Shards may differ in size. "save" is not among its modes.
        impl: "auto", "triton", "torch" or "reference" (see `dispatch.run`); the reference heeds neither mode nor
            workspace_bytes.

    Returns:
        A scalar in float32 (float64 for float64 inputs), computed in that type. With one valid pair or none it is 0,
        with zero gradients. It can be differentiated once.

    Raises:
        TypeError: an argument that is no tensor, or no number, where one is needed.
        ValueError: a shape, type or device other than these (nothing broadcasts), D of 0, an unknown impl or mode, or
            a mode that `workspace_bytes` has no room for.
        RuntimeError: impl="triton" where there is no Triton kernel; a second derivative.
    """
    shape, dtype, device = checks.floats("a", a, "ND")
    checks.same("b", b, dtype, device, shape)
    checks.scale(scale, device)
    if row_mask is not None:
        checks.same("row_mask", row_mask, torch.bool, device, shape[:1])
    checks.number("workspace_bytes", workspace_bytes)
    dtype = dispatch.compute_dtype(a)
    if isinstance(scale, Tensor):
        scale = scale.reshape(()).to(a.device, dtype)
    else:
        scale = torch.full((), scale, dtype=dtype, device=a.device)
    if group is None:
        return dispatch.run(impl, _IMPLEMENTATIONS, a, b, scale, row_mask, mode, workspace_bytes)
    from kernels.infonce import distributed

    return dispatch.run(impl, distributed.IMPLEMENTATIONS, a, b, scale, row_mask, mode, workspace_bytes, group)


def _info_nce_torch(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, mode: Mode, workspace_bytes: int
) -> Tensor:
    differentiable = torch.is_grad_enabled() and (a_ND.requires_grad or b_ND.requires_grad or scale.requires_grad)
    footprint = torch_footprint(scale.dtype)
    cut = plan.plan(a_ND.shape[0], mode, workspace_bytes, differentiable, footprint)
    if cut.mode == "save":
        return _whole(a_ND, b_ND, scale, row_mask_N)
    return chunked(a_ND, b_ND, scale, row_mask_N, cut.row_block, cut.column_block)


def _info_nce_triton(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, mode: Mode, workspace_bytes: int
) -> Tensor:
    from kernels.infonce import op

    return op.info_nce(a_ND, b_ND, scale, row_mask_N, mode, workspace_bytes)


def _info_nce_reference(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, mode: Mode, workspace_bytes: int
) -> Tensor:
    return reference.info_nce(a_ND, b_ND, scale, row_mask_N)


_IMPLEMENTATIONS = {"torch": _info_nce_torch, "triton": _info_nce_triton, "reference": _info_nce_reference}


def _whole(a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None) -> Tensor:
    """All logits at once, differentiated by autograd: the fewest operations, and small batches are made of those."""
    a_ND, b_ND = without_dropped(a_ND, row_mask_N), without_dropped(b_ND, row_mask_N)
    a_ND = scaled(scale, a_ND)
    logits_NN = a_ND @ b_ND.to(a_ND.dtype).T
    if row_mask_N is None:
        return symmetric_cross_entropy(logits_NN).sum() / max(a_ND.shape[0], 1)
    loss_N = symmetric_cross_entropy(drop_pairs_(logits_NN, row_mask_N))
    return torch.where(row_mask_N, loss_N, 0.0).sum() / row_mask_N.sum().clamp(min=1)


def scaled(scale: float | torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """scale * a in the type that the loss is computed in: on a, not on the logits, which are larger."""
    a = a.to(dispatch.compute_dtype(a))
    return a * (scale.reshape(()) if isinstance(scale, torch.Tensor) else scale)


def drop_pairs_(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Take the masked rows and columns of fresh logits (..., N, N) out of every sum, in place.

    The number is finite, so that rows that lose all their columns stay finite too; they are to be weighed with 0.
    """
    dropped = ~(mask[..., :, None] & mask[..., None, :])
    return logits.masked_fill_(dropped, torch.finfo(logits.dtype).min / 2)


def symmetric_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """(..., N, N) -> (..., N): the mean of pair i's row and column cross-entropies against the diagonal."""
    row, column = logits.logsumexp(dim=-1), logits.logsumexp(dim=-2)
    return (row + column) / 2 - logits.diagonal(dim1=-2, dim2=-1)
