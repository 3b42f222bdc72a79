"""Cross-attention as registered operators, and the derivative of one as the other."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kernels import philox, registry
from kernels.attention import backward, forward

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _empty_outputs(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_mask: torch.Tensor | None,
    key_bias: torch.Tensor | None,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
    return_mass: bool,
    query_mask: torch.Tensor | None,
) -> Outputs:
    return forward.allocate(q, k, return_mass)


def _empty_gradients(
    dout: torch.Tensor,
    dmass: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_mask: torch.Tensor | None,
    key_bias: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
    query_mask: torch.Tensor | None,
    need_bias_grad: bool,
) -> Gradients:
    return backward.allocate(q, k, v, key_bias, need_bias_grad)


def _product_flops(q_shape: torch.Size, k_shape: torch.Size) -> int:
    """Of one product of all queries with all keys."""
    B, H, Lq, D = q_shape
    return 2 * B * H * Lq * k_shape[2] * D


def _forward_flops(q_shape: torch.Size, k_shape: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * _product_flops(q_shape, k_shape)  # logits and output


def _backward_flops(
    _dout: torch.Size, dmass: torch.Size | None, q_shape: torch.Size, k_shape: torch.Size, *_: Any, **__: Any
) -> int:
    # The logits again, the probabilities' gradient, dq, dk and dv; with a mass, the logits once more for delta.
    return (5 if dmass is None else 6) * _product_flops(q_shape, k_shape)


_forward_op = registry.define(
    "cross_attention(Tensor q, Tensor k, Tensor v, Tensor? key_mask, Tensor? key_bias, float scale, float dropout_p, "
    "Tensor? seed, bool return_mass, Tensor? query_mask) -> (Tensor, Tensor, Tensor)",
    forward.forward,
    _empty_outputs,
    _forward_flops,
)
_backward_op = registry.define(
    "cross_attention_backward(Tensor dout, Tensor? dmass, Tensor q, Tensor k, Tensor v, Tensor? key_mask, "
    "Tensor? key_bias, Tensor out, Tensor lse, float scale, float dropout_p, Tensor? seed, Tensor? query_mask, "
    "bool need_bias_grad) -> (Tensor, Tensor, Tensor, Tensor)",
    backward.backward,
    _empty_gradients,
    _backward_flops,
)


class _CrossAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        key_mask: torch.Tensor | None,
        key_bias: torch.Tensor | None,
        scale: float,
        dropout_p: float,
        seed: torch.Tensor | None,
        return_mass: bool,
        query_mask: torch.Tensor | None,
    ) -> Outputs:
        with registry.below_autograd():
            out, mass, lse = _forward_op(
                q, k, v, key_mask, key_bias, scale, dropout_p, seed, return_mass, query_mask
            )  # fmt: skip
        ctx.save_for_backward(q, k, v, key_mask, key_bias, out, lse, seed, query_mask)
        ctx.scale, ctx.dropout_p = scale, dropout_p
        ctx.mark_non_differentiable(*((lse,) if return_mass else (mass, lse)))
        ctx.set_materialize_grads(False)  # a mass that nobody used costs its backward nothing
        return out, mass, lse

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, dout: torch.Tensor | None, dmass: torch.Tensor | None, _dlse: None
    ) -> tuple[torch.Tensor | None, ...]:
        q, k, v, key_mask, key_bias, out, lse, seed, query_mask = ctx.saved_tensors
        need_q, need_k, need_v, _, need_bias, *_ = ctx.needs_input_grad
        dq, dk, dv, dbias = _backward_op(
            torch.zeros_like(out) if dout is None else dout,
            dmass, q, k, v, key_mask, key_bias, out, lse, ctx.scale, ctx.dropout_p, seed, query_mask, need_bias,
        )  # fmt: skip
        return (
            dq if need_q else None,
            dk if need_k else None,
            dv if need_v else None,
            None,
            dbias if need_bias else None,
            *(None,) * 5,
        )


registry.differentiate(_forward_op, _CrossAttention)


def cross_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_mask: torch.Tensor | None,
    key_bias: torch.Tensor | None,
    scale: float | None,
    dropout_p: float,
    seed: int | torch.Tensor,
    return_mass: bool,
    query_mask: torch.Tensor | None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """`kernels.cross_attention` for q, k and v of one type of at most 32 bits, with heads of at most 128."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    seed_tensor = None
    if philox.threshold(dropout_p) > 0:
        # A tensor, so that a CUDA graph can be replayed with another seed.
        seed_tensor = (
            seed if isinstance(seed, torch.Tensor) else torch.full((), seed, dtype=torch.int64, device=q.device)
        )
    out, mass, _ = _forward_op(
        q, k, v, key_mask, key_bias, scale, dropout_p, seed_tensor, return_mass, query_mask
    )  # fmt: skip
    return (out, mass) if return_mass else out
