"""Cross-attention that also tells how much attention each key received."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from kernels import dispatch, philox, reference


def cross_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    key_mask: torch.Tensor | None = None,
    key_bias: torch.Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | torch.Tensor = 0,
    return_mass: bool = False,
    query_mask: torch.Tensor | None = None,
    impl: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Multi-head attention of queries over another sequence's keys. `reference.cross_attention` has the equations.

    Args:
        q: (B, H, Lq, D) floating point, any strides.
        k, v: (B, H, Lk, D) of q's type, any strides.
        key_mask: (B, Lk) bool, True = attend. What masked keys and values hold, NaN included, reaches no output and no
            gradient. A sample without a valid key gives out = 0 and mass = 0 with zero gradients.
        key_bias: (B, Lk) floating point, added to the logits of every head and query; differentiable. -inf masks the
            key; at masked keys the bias is ignored and its gradient is exactly 0.
        scale: what q . k is multiplied by; None = 1 / sqrt(D).
        dropout_p: probability, 0 <= p < 1, of dropping an attention probability (`philox` defines which).
        seed: of the dropout: a signed 64-bit int, or a 0-dim int64 tensor on q's device.
        return_mass: also return the mass.
        query_mask: (B, Lq) bool: the queries that the mass is averaged over, None = all. It does not change out.
        impl: "auto", "triton", "torch" or "reference" (see `dispatch.run`).

    Returns:
        out (B, H, Lq, D) of q's type, or (out, mass). mass (B, Lk), float32 (float64 for float64 inputs): the
        probability that each key received before dropout, averaged over heads and valid queries; differentiable; it
        sums to 1 for a sample with a valid key and a valid query, and is 0 for any other.

    Raises:
        ValueError: dropout_p outside [0, 1), or an unknown impl.
        RuntimeError: impl="triton" where the kernels cannot run (`dispatch.obstacle`), D above 128, and q, k and v of
            different types.
    """
    philox.threshold(dropout_p)
    return dispatch.run(
        impl, _IMPLEMENTATIONS, q, k, v, key_mask, key_bias, scale, dropout_p, seed, return_mass, query_mask,
        unsupported=_unsupported(q, k, v, key_bias),
    )  # fmt: skip


def _unsupported(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_bias: torch.Tensor | None) -> str | None:
    """What in these inputs the Triton kernels cannot take."""
    if q.shape[-1] > 128:
        return f"head width {q.shape[-1]} is above 128"
    if not q.dtype == k.dtype == v.dtype:
        return f"q, k and v are of different types: {q.dtype}, {k.dtype}, {v.dtype}"
    if key_bias is None or key_bias.dtype == q.dtype:
        return None
    obstacle = dispatch.obstacle(key_bias)
    return None if obstacle is None else f"key_bias: {obstacle}"


def _cross_attention_triton(*args: Any) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    from kernels.attention_op import cross_attention

    return cross_attention(*args)


def _cross_attention_torch(
    q_BHQD: torch.Tensor,
    k_BHKD: torch.Tensor,
    v_BHKD: torch.Tensor,
    key_mask_BK: torch.Tensor | None,
    key_bias_BK: torch.Tensor | None,
    scale: float | None,
    dropout_p: float,
    seed: int | torch.Tensor,
    return_mass: bool,
    query_mask_BQ: torch.Tensor | None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    valid_BK = _valid_keys(key_mask_BK, key_bias_BK)
    if valid_BK is not None:
        valid_B1K1 = valid_BK[:, None, :, None]
        # where, not masked_fill: the same result, in two thirds of the time on a CPU.
        k_BHKD, v_BHKD = torch.where(valid_B1K1, k_BHKD, 0.0), torch.where(valid_B1K1, v_BHKD, 0.0)

    if key_bias_BK is None and not return_mass and philox.threshold(dropout_p) == 0:
        # With a bias that needs a gradient SDPA leaves its fast path and is slower than what follows.
        bias_BK = _logit_bias(valid_BK, None, q_BHQD.dtype)
        bias_B11K = None if bias_BK is None else bias_BK[:, None, None, :]
        return F.scaled_dot_product_attention(q_BHQD, k_BHKD, v_BHKD, attn_mask=bias_B11K, scale=scale)

    probs_BHQK = _probabilities(q_BHQD, k_BHKD, valid_BK, key_bias_BK, scale)
    out_BHQD = _weighted_values(probs_BHQK, v_BHKD, dropout_p, seed)
    return (out_BHQD, _mass(probs_BHQK, valid_BK, query_mask_BQ)) if return_mass else out_BHQD


def _valid_keys(key_mask_BK: torch.Tensor | None, key_bias_BK: torch.Tensor | None) -> torch.Tensor | None:
    """The keys that take part, (B, Lk) bool, or None where all do."""
    if key_bias_BK is None:
        return key_mask_BK
    unbarred_BK = key_bias_BK != -math.inf
    return unbarred_BK if key_mask_BK is None else key_mask_BK & unbarred_BK


def _logit_bias(
    valid_BK: torch.Tensor | None, key_bias_BK: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor | None:
    """What is added to the logits: the bias, and at masked keys a number that leaves them no probability.

    It is finite, so that a sample without a valid key has a finite softmax: over values that were all set to 0, its
    output and its gradients are then exactly 0. Half the lowest number, for backends that multiply it by log2(e).
    """
    if valid_BK is None:
        return None
    lowest = torch.finfo(dtype).min / 2
    if key_bias_BK is None:
        return torch.zeros_like(valid_BK, dtype=dtype).masked_fill_(~valid_BK, lowest)
    return key_bias_BK.to(dtype).masked_fill(~valid_BK, lowest)


def _probabilities(
    q_BHQD: torch.Tensor,
    k_BHKD: torch.Tensor,
    valid_BK: torch.Tensor | None,
    key_bias_BK: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    """The attention probabilities (B, H, Lq, Lk) in at least float32; bias and product are one pass over them."""
    batch, heads, queries, width = q_BHQD.shape
    keys = k_BHKD.shape[2]
    dtype = dispatch.compute_dtype(q_BHQD)
    q_NQD = (q_BHQD.to(dtype) * (1 / math.sqrt(width) if scale is None else scale)).reshape(-1, queries, width)
    k_NDK = k_BHKD.to(dtype).reshape(-1, keys, width).mT
    bias_BK = _logit_bias(valid_BK, key_bias_BK, dtype)
    if bias_BK is None:
        logits_NQK = torch.bmm(q_NQD, k_NDK)
    else:
        bias_N1K = bias_BK[:, None, :].expand(batch, heads, keys).reshape(-1, 1, keys)
        logits_NQK = torch.baddbmm(bias_N1K, q_NQD, k_NDK)
    return logits_NQK.softmax(dim=-1).view(batch, heads, queries, keys)


def _weighted_values(
    probs_BHQK: torch.Tensor, v_BHKD: torch.Tensor, dropout_p: float, seed: int | torch.Tensor
) -> torch.Tensor:
    if philox.threshold(dropout_p) == 0:
        return (probs_BHQK @ v_BHKD.to(probs_BHQK.dtype)).to(v_BHKD.dtype)
    keep_BHQK = philox.attention_keep_mask(probs_BHQK.shape, dropout_p, seed, probs_BHQK.device)
    kept_BHQK = torch.where(keep_BHQK, probs_BHQK, 0.0)
    # The scale commutes with the product, whose result is smaller than the probabilities.
    out_BHQD = (kept_BHQK @ v_BHKD.to(probs_BHQK.dtype)) * philox.keep_scale(dropout_p)
    return out_BHQD.to(v_BHKD.dtype)


def _mass(probs_BHQK: torch.Tensor, valid_BK: torch.Tensor | None, query_mask_BQ: torch.Tensor | None) -> torch.Tensor:
    batch, heads, queries, keys = probs_BHQK.shape
    if query_mask_BQ is None:
        mass_BK = probs_BHQK.mean(dim=(1, 2))
    else:
        share_BQ = query_mask_BQ.to(probs_BHQK.dtype)
        share_BQ = share_BQ / (heads * share_BQ.sum(dim=1, keepdim=True).clamp(min=1))
        share_B1N = share_BQ[:, None, :].expand(batch, heads, queries).reshape(batch, 1, heads * queries)
        mass_BK = torch.bmm(share_B1N, probs_BHQK.view(batch, heads * queries, keys))[:, 0]
    return mass_BK if valid_BK is None else mass_BK.masked_fill(~valid_BK, 0)


_IMPLEMENTATIONS = {
    "triton": _cross_attention_triton,
    "torch": _cross_attention_torch,
    "reference": reference.cross_attention,
}
