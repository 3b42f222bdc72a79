"""Cross-attention as registered operators, and the derivative of one as the other."""

from __future__ import annotations

from typing import Any

import torch

from kernels import philox, registry
from kernels.attention import backward, forward
from kernels.attention.inputs import Inputs

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? key_mask, Tensor? key_bias, float scale, float dropout_p, Tensor? seed, "
    "bool return_mass, Tensor? query_mask"
)


def _product_flops(q_shape: torch.Size, k_shape: torch.Size) -> int:
    """Of one product of all queries with all keys."""
    B, H, Lq, D = q_shape
    return 2 * B * H * Lq * k_shape[2] * D


def _forward_flops(q_shape: torch.Size, k_shape: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * _product_flops(q_shape, k_shape)  # logits and output


def _backward_flops(_dout: torch.Size, dmass: torch.Size | None, *others: Any, **__: Any) -> int:
    _out, _lse, _need_bias_grad, q_shape, k_shape, *_ = others
    # The logits again, the probabilities' gradient, dq, dk and dv; with a mass, the logits once more for delta.
    return (5 if dmass is None else 6) * _product_flops(q_shape, k_shape)


_forward_op = registry.define(
    f"cross_attention({_INPUTS}) -> (Tensor, Tensor, Tensor)", forward.forward, forward.allocate, _forward_flops
)
_backward_op = registry.define(
    "cross_attention_backward(Tensor dout, Tensor? dmass, Tensor out, Tensor lse, bool need_bias_grad, "
    f"{_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    backward.backward,
    backward.allocate,
    _backward_flops,
)


class _CrossAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Outputs:
        with registry.below_autograd():
            out_BHQD, mass_BK, lse_BHQ = _forward_op(*arguments)
        a = Inputs(*arguments)
        ctx.save_for_backward(*a[:5], a.seed, a.query_mask_BQ, out_BHQD, lse_BHQ)
        ctx.constants = a.scale, a.dropout_p, a.return_mass
        ctx.mark_non_differentiable(*((lse_BHQ,) if a.return_mass else (mass_BK, lse_BHQ)))
        ctx.set_materialize_grads(False)  # a mass that nobody used costs its backward nothing
        return out_BHQD, mass_BK, lse_BHQ

    @staticmethod
    @registry.differentiable_once
    def backward(
        ctx: Any, dout_BHQD: torch.Tensor | None, dmass_BK: torch.Tensor | None, _dlse: None
    ) -> tuple[torch.Tensor | None, ...]:
        q_BHQD, k_BHKD, v_BHKD, key_mask_BK, key_bias_BK, seed, query_mask_BQ, out_BHQD, lse_BHQ = ctx.saved_tensors
        scale, dropout_p, return_mass = ctx.constants
        need_q, need_k, need_v, _, need_bias, *_ = ctx.needs_input_grad
        if dout_BHQD is None:
            dout_BHQD = torch.zeros_like(out_BHQD)
        inputs = Inputs(
            q_BHQD, k_BHKD, v_BHKD, key_mask_BK, key_bias_BK, scale, dropout_p, seed, return_mass, query_mask_BQ
        )
        dq_BHQD, dk_BHKD, dv_BHKD, dbias_BK = _backward_op(dout_BHQD, dmass_BK, out_BHQD, lse_BHQ, need_bias, *inputs)
        return (
            dq_BHQD if need_q else None,
            dk_BHKD if need_k else None,
            dv_BHKD if need_v else None,
            None,
            dbias_BK if need_bias else None,
            *(None,) * 5,
        )


registry.differentiate(_forward_op, _CrossAttention)


def cross_attention(*arguments: Any) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """`kernels.cross_attention` of `Inputs` of one type of at most 32 bits, with heads of at most 128."""
    a = Inputs(*arguments)
    out_BHQD, mass_BK, _ = _forward_op(*a._replace(seed=philox.seed_tensor(a.dropout_p, a.seed, a.q_BHQD.device)))
    return (out_BHQD, mass_BK) if a.return_mass else out_BHQD
