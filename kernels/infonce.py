"""Symmetric InfoNCE over one batch of pairs."""

from __future__ import annotations

import torch

from kernels import dispatch, reference


def info_nce(
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float | torch.Tensor,
    *,
    row_mask: torch.Tensor | None = None,
    impl: str = "auto",
) -> torch.Tensor:
    """Cross-entropy of scale * a b^T against its diagonal, mean of rows and columns; equations: `reference.info_nce`.

    Args:
        a, b: (N, D) floating point, of one type; row i of a belongs to row i of b. They are used as given: normalise
            first.
        scale: the inverse temperature: a float, or a one-element tensor, which then receives a gradient.
        row_mask: (N,) bool, False drops the pair from the rows and the columns; what it holds, NaN included, reaches
            neither the loss nor a gradient.
        impl: "auto", "triton", "torch" or "reference" (see `dispatch.run`).

    Returns:
        A scalar in float32 (float64 for float64 inputs), computed in that type. With one valid pair or none it is 0,
        with zero gradients.

    Raises:
        ValueError: an unknown impl.
        RuntimeError: impl="triton" where there is no Triton kernel.
    """
    return dispatch.run(impl, _IMPLEMENTATIONS, a, b, scale, row_mask)


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


def _info_nce_torch(
    a_ND: torch.Tensor, b_ND: torch.Tensor, scale: float | torch.Tensor, row_mask_N: torch.Tensor | None
) -> torch.Tensor:
    if row_mask_N is not None:
        dropped_N1 = ~row_mask_N[:, None]
        a_ND, b_ND = a_ND.masked_fill(dropped_N1, 0), b_ND.masked_fill(dropped_N1, 0)
    a_ND = scaled(scale, a_ND)
    logits_NN = a_ND @ b_ND.to(a_ND.dtype).T
    if row_mask_N is None:
        return symmetric_cross_entropy(logits_NN).sum() / max(a_ND.shape[0], 1)
    loss_N = symmetric_cross_entropy(drop_pairs_(logits_NN, row_mask_N))
    return torch.where(row_mask_N, loss_N, 0.0).sum() / row_mask_N.sum().clamp(min=1)


_IMPLEMENTATIONS = {"torch": _info_nce_torch, "reference": reference.info_nce}
