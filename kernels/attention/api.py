"""Cross-attention that also tells how much attention each key received."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from kernels import checks, dispatch, philox, reference, registry
from kernels.attention.inputs import Inputs
from kernels.dispatch import Impl


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
    impl: Impl = "auto",
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
        TypeError: an argument that is no tensor, or no number, where one is needed.
        ValueError: a shape, type or device other than these (nothing broadcasts), D of 0, dropout_p outside [0, 1), or
            an unknown impl.
        RuntimeError: impl="triton" where the kernels cannot run (`dispatch.obstacle`), D above 128; a second
            derivative.
    """
    (B, H, Lq, D), dtype, device = checks.floats("q", q, "BHQD")
    if not isinstance(k, torch.Tensor) or k.ndim != 4:
        raise ValueError(f"k must be a tensor of ({B}, {H}, keys, {D}), as q is {tuple(q.shape)}")
    Lk = k.shape[2]
    checks.same("k", k, dtype, device, (B, H, Lk, D))
    checks.same("v", v, dtype, device, (B, H, Lk, D))
    if key_mask is not None:
        checks.same("key_mask", key_mask, torch.bool, device, (B, Lk))
    if key_bias is not None:
        checks.one_of("key_bias", key_bias, checks.COMPUTED, device, (B, Lk))
    if query_mask is not None:
        checks.same("query_mask", query_mask, torch.bool, device, (B, Lq))
    if scale is None:
        scale = 1 / math.sqrt(D)
    else:
        checks.number("scale", scale)
    if philox.threshold(dropout_p) > 0:
        checks.seed(seed, device)
    inputs = Inputs(q, k, v, key_mask, key_bias, scale, dropout_p, seed, return_mass, query_mask)
    return dispatch.run(impl, _IMPLEMENTATIONS, *inputs, unsupported=_unsupported(inputs))


def _unsupported(a: Inputs) -> str | None:
    """What in these inputs the Triton kernels cannot take."""
    if a.q_BHQD.shape[-1] > 128:
        return f"head width {a.q_BHQD.shape[-1]} is above 128"
    if a.key_bias_BK is None or a.key_bias_BK.dtype == a.q_BHQD.dtype:
        return None
    obstacle = dispatch.obstacle(a.key_bias_BK)
    return None if obstacle is None else f"key_bias: {obstacle}"


def _cross_attention_triton(*args: Any) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    from kernels.attention.op import cross_attention

    return cross_attention(*args)


def _cross_attention_torch(*arguments: Any) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    a = Inputs(*arguments)
    q_BHQD, k_BHKD, v_BHKD = a[:3]
    valid_BK = _valid_keys(a.key_mask_BK, a.key_bias_BK)
    dropping = philox.threshold(a.dropout_p) > 0
    differentiating = torch.is_grad_enabled() and any(x.requires_grad for x in a[:3])
    # Where there is a derivative, SDPA's computes the logits again: on a CPU that is the slower of the two.
    if a.key_bias_BK is None and not (a.return_mass or dropping or differentiating):
        bias_BK = _logit_bias(valid_BK, None, q_BHQD.dtype)
        return F.scaled_dot_product_attention(
            q_BHQD,
            _without_masked(k_BHKD, valid_BK),
            _without_masked(v_BHKD, valid_BK),
            attn_mask=None if bias_BK is None else bias_BK[:, None, None, :],
            scale=a.scale,
        )
    keep_BHQK = None
    if dropping:
        shape_BHQK = torch.Size((*q_BHQD.shape[:3], k_BHKD.shape[2]))
        keep_BHQK = philox.attention_keep_mask(shape_BHQK, a.dropout_p, a.seed, q_BHQD.device)
    share_BQ = _mass_share(q_BHQD, valid_BK, a.query_mask_BQ) if a.return_mass else None
    out_BHQD, mass_BK = _ExplicitAttention.apply(
        q_BHQD, k_BHKD, v_BHKD, a.key_bias_BK, valid_BK, share_BQ, keep_BHQK, a.scale, philox.keep_scale(a.dropout_p)
    )
    return (out_BHQD, mass_BK) if a.return_mass else out_BHQD


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
    output is then exactly 0. Half the lowest number, for backends that multiply it by log2(e).
    """
    if valid_BK is None:
        return None
    lowest = torch.finfo(dtype).min / 2
    if key_bias_BK is None:
        return torch.zeros_like(valid_BK, dtype=dtype).masked_fill_(~valid_BK, lowest)
    return key_bias_BK.to(dtype).masked_fill(~valid_BK, lowest)


def _without_masked(x_BHKD: torch.Tensor, valid_BK: torch.Tensor | None) -> torch.Tensor:
    """0 at masked keys, whatever they hold. Not differentiable."""
    if valid_BK is None:
        return x_BHKD
    # On bits, which on a CPU takes a third of the time of torch.where, whose operands are of two types.
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x_BHKD.element_size()]
    all_or_none_B1K1 = -valid_BK.to(integer)[:, None, :, None]
    return (x_BHKD.view(integer) & all_or_none_B1K1).view(x_BHKD.dtype)


def _mass_share(
    q_BHQD: torch.Tensor, valid_BK: torch.Tensor | None, query_mask_BQ: torch.Tensor | None
) -> torch.Tensor:
    """What a probability of each query counts in the mass; nothing in a sample without a valid key."""
    batch, heads, queries, _ = q_BHQD.shape
    share_BQ = torch.ones(batch, queries, dtype=dispatch.compute_dtype(q_BHQD), device=q_BHQD.device)
    if query_mask_BQ is not None:
        share_BQ = query_mask_BQ.to(share_BQ.dtype)
    share_BQ = share_BQ / (heads * share_BQ.sum(dim=1, keepdim=True)).clamp(min=1)
    return share_BQ if valid_BK is None else share_BQ * valid_BK.any(dim=1, keepdim=True)


class _ExplicitAttention(torch.autograd.Function):
    """Attention by an explicit softmax in at least float32, and the mass (of no element without `share_BQ`).

    The derivative is what autograd's would be, in less memory and without masking the gradients of keys and values:
    the probabilities of masked keys are exactly 0, and so is what they are multiplied into.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_BHQD: torch.Tensor,
        k_BHKD: torch.Tensor,
        v_BHKD: torch.Tensor,
        key_bias_BK: torch.Tensor | None,
        valid_BK: torch.Tensor | None,
        share_BQ: torch.Tensor | None,
        keep_BHQK: torch.Tensor | None,
        scale: float,
        keep_scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, heads, queries, width = q_BHQD.shape
        keys = k_BHKD.shape[2]
        dtype = dispatch.compute_dtype(q_BHQD)
        q_NQD = (q_BHQD.to(dtype) * scale).reshape(batch * heads, queries, width)
        k_NKD, v_NKD = (
            _without_masked(x, valid_BK).to(dtype).reshape(batch * heads, keys, width) for x in (k_BHKD, v_BHKD)
        )
        bias_BK = _logit_bias(valid_BK, key_bias_BK, dtype)
        if bias_BK is None:
            probs_NQK = torch.bmm(q_NQD, k_NKD.mT)
        else:
            bias_N1K = bias_BK[:, None, :].expand(batch, heads, keys).reshape(batch * heads, 1, keys)
            probs_NQK = torch.baddbmm(bias_N1K, q_NQD, k_NKD.mT)
        # In place: fresh memory for the largest tensors costs as much as what is computed in it.
        torch.softmax(probs_NQK, dim=-1, out=probs_NQK)
        # The scale commutes with the product, whose result is smaller than the probabilities.
        out_BHQD = torch.bmm(_kept(probs_NQK, keep_BHQK), v_NKD).view(q_BHQD.shape)
        if keep_BHQK is not None:
            out_BHQD *= keep_scale
        mass_BK = probs_NQK.new_empty(0)
        if share_BQ is not None:
            share_B1N = share_BQ[:, None, :].expand(batch, heads, queries).reshape(batch, 1, heads * queries)
            mass_BK = torch.bmm(share_B1N, probs_NQK.view(batch, heads * queries, keys))[:, 0]
        # What a gradient of the output counts. Without a valid key there are probabilities, but they mean nothing.
        gain_B111 = None if valid_BK is None else valid_BK.any(dim=1).to(dtype)[:, None, None, None] * keep_scale
        made = (q_NQD, k_NKD, v_NKD, probs_NQK, share_BQ, keep_BHQK, gain_B111)
        ctx.save_for_backward(*made, q_BHQD, k_BHKD, v_BHKD, key_bias_BK)  # the inputs for `differentiable_once`
        ctx.types = tuple(None if x is None else x.dtype for x in (q_BHQD, k_BHKD, v_BHKD, key_bias_BK))
        ctx.batch, ctx.heads, ctx.scale, ctx.keep_scale = batch, heads, scale, keep_scale
        ctx.set_materialize_grads(False)
        return out_BHQD.to(v_BHKD.dtype), mass_BK

    @staticmethod
    @registry.differentiable_once
    def backward(
        ctx: Any, dout_BHQD: torch.Tensor | None, dmass_BK: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        q_NQD, k_NKD, v_NKD, probs_NQK, share_BQ, keep_BHQK, gain_B111, *_ = ctx.saved_tensors
        need_q, need_k, need_v, need_bias, *_ = ctx.needs_input_grad
        q_type, k_type, v_type, bias_type = ctx.types

        def by_head(x_NLX: torch.Tensor) -> torch.Tensor:
            return x_NLX.unflatten(0, (ctx.batch, ctx.heads))

        dq = dk = dv = dbias = None
        if dout_BHQD is None:
            dprobs_NQK = torch.zeros_like(probs_NQK)
        else:
            gain = ctx.keep_scale if gain_B111 is None else gain_B111
            dout_NQD = (dout_BHQD.to(probs_NQK.dtype) * gain).reshape(q_NQD.shape)
            if need_v:
                dv = by_head(torch.bmm(_kept(probs_NQK, keep_BHQK).mT, dout_NQD)).to(v_type)
            dprobs_NQK = _kept(torch.bmm(dout_NQD, v_NKD.mT), keep_BHQK)
        if share_BQ is not None and dmass_BK is not None:
            by_head(dprobs_NQK).addcmul_(share_BQ[:, None, :, None], dmass_BK[:, None, None, :])
        dlogits_NQK = torch.ops.aten._softmax_backward_data.out(
            dprobs_NQK, probs_NQK, -1, probs_NQK.dtype, grad_input=dprobs_NQK
        )
        if need_q:
            dq = by_head(torch.bmm(dlogits_NQK, k_NKD).mul_(ctx.scale)).to(q_type)
        if need_k:
            dk = by_head(torch.bmm(dlogits_NQK.mT, q_NQD)).to(k_type)
        if need_bias:
            dbias = by_head(dlogits_NQK).sum(dim=(1, 2)).to(bias_type)
        return dq, dk, dv, dbias, *(None,) * 5


def _kept(x_NQK: torch.Tensor, keep_BHQK: torch.Tensor | None) -> torch.Tensor:
    return x_NQK if keep_BHQK is None else torch.where(keep_BHQK.view(x_NQK.shape), x_NQK, 0.0)


_IMPLEMENTATIONS = {
    "triton": _cross_attention_triton,
    "torch": _cross_attention_torch,
    "reference": reference.cross_attention,
}
