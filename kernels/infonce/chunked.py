"""InfoNCE in PyTorch that holds one block of logits at a time, forward and backward, as a registered operator.

The forward pass leaves the log-sum-exp of every row and column; the backward pass forms each block again from them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import registry
from kernels.infonce.blocks import (
    TorchBlocks,
    add_rectangle_gradients,
    fold_rectangle,
    logsumexp,
    statistics,
    without_dropped,
)


def chunked(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, row_block: int, column_block: int
) -> Tensor:
    """The loss of `infonce.info_nce`, with scale () of the type to compute in, and blocks of at most this size."""
    return _forward_op(a_ND, b_ND, scale, row_mask_N, row_block, column_block)[0]


def _forward(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, row_block: int, column_block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """-> loss (), row and column log-sum-exp (N,)."""
    a_ND, b_ND = without_dropped(a_ND, row_mask_N), without_dropped(b_ND, row_mask_N)
    count, dtype, device = len(a_ND), scale.dtype, scale.device
    blocks = TorchBlocks(min(count, row_block) * min(count, column_block), dtype, device)
    row, column = statistics(count, dtype, device), statistics(count, dtype, device)
    fold_rectangle(blocks, (row_block, column_block), a_ND, b_ND, scale, row_mask_N, row_mask_N, row, column)
    row_lse_N, column_lse_N = logsumexp(row), logsumexp(column)
    loss_N = (row_lse_N + column_lse_N) / 2 - torch.linalg.vecdot(a_ND.to(dtype) * scale, b_ND.to(dtype))
    loss = without_dropped(loss_N, row_mask_N).sum() * _pair_weight(count, row_mask_N, dtype)
    return loss, row_lse_N, column_lse_N


def _backward(
    loss_gradient: Tensor,
    a_ND: Tensor,
    b_ND: Tensor,
    scale: Tensor,
    row_mask_N: Tensor | None,
    row_lse_N: Tensor,
    column_lse_N: Tensor,
    row_block: int,
    column_block: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a, b and scale that `needed` asks for, and empty tensors for the others."""
    a_ND, b_ND = without_dropped(a_ND, row_mask_N), without_dropped(b_ND, row_mask_N)
    count, dtype, device = len(a_ND), scale.dtype, scale.device
    needs_a, needs_b, needs_scale = needed
    # sum_ij G_ij a_i . b_j, which is scale's gradient, comes from either product.
    a_gradient_ND = a_ND.new_zeros(a_ND.shape, dtype=dtype) if needs_a or not needs_b else None
    b_gradient_ND = b_ND.new_zeros(b_ND.shape, dtype=dtype) if needs_b else None
    blocks = TorchBlocks(min(count, row_block) * min(count, column_block), dtype, device)
    add_rectangle_gradients(
        blocks,
        (row_block, column_block),
        a_ND,
        b_ND,
        scale,
        row_mask_N,
        row_mask_N,
        row_lse_N,
        column_lse_N,
        True,
        a_gradient_ND,
        b_gradient_ND,
    )
    weight = loss_gradient * _pair_weight(count, row_mask_N, dtype) / 2
    scale_gradient = a_ND.new_empty(0)
    if needs_scale:
        known_ND, x_ND = (b_gradient_ND, b_ND) if a_gradient_ND is None else (a_gradient_ND, a_ND)
        scale_gradient = torch.linalg.vecdot(known_ND, x_ND.to(dtype)).sum() * weight
    gradients = []
    for gradient_ND, x_ND in ((a_gradient_ND if needs_a else None, a_ND), (b_gradient_ND, b_ND)):
        if gradient_ND is None:
            gradients.append(x_ND.new_empty(0))
        else:
            gradients.append(without_dropped(gradient_ND.mul_(weight * scale), row_mask_N).to(x_ND.dtype))
    return gradients[0], gradients[1], scale_gradient


def _pair_weight(count: int, row_mask_N: Tensor | None, dtype: torch.dtype) -> float | Tensor:
    """1 / n over n valid pairs, and 0 for fewer than two, which are no contrast."""
    if row_mask_N is None:
        return 1 / count if count >= 2 else 0.0
    valid = row_mask_N.sum().to(dtype)
    return torch.where(valid >= 2, 1 / valid, 0.0)


def _forward_fake(a_ND: Tensor, b_ND: Tensor, scale: Tensor, *_: Any) -> tuple[Tensor, ...]:
    count = a_ND.shape[0]  # len() would make a constant of it
    return scale.new_empty(()), scale.new_empty(count), scale.new_empty(count)


def _backward_fake(loss_gradient: Tensor, a_ND: Tensor, b_ND: Tensor, scale: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    inputs = a_ND, b_ND, scale
    return tuple(x.new_empty(x.shape if need else 0) for x, need in zip(inputs, rest[-1], strict=True))


def _forward_flops(a_shape: tuple[int, int], *_: Any, **__: Any) -> int:
    count, width = a_shape
    return 2 * count**2 * width


def _backward_flops(gradient_shape: tuple[int, ...], a_shape: tuple[int, int], *rest: Any, **_: Any) -> int:
    needs_a, needs_b, _needs_scale = rest[-1]
    return (1 + (needs_a or not needs_b) + needs_b) * _forward_flops(a_shape)


_forward_op = registry.define(
    "info_nce_torch(Tensor a, Tensor b, Tensor scale, Tensor? row_mask, int row_block, int column_block)"
    " -> (Tensor loss, Tensor row_lse, Tensor column_lse)",
    _forward,
    _forward_fake,
    _forward_flops,
)
_backward_op = registry.define(
    "info_nce_torch_backward(Tensor loss_gradient, Tensor a, Tensor b, Tensor scale, Tensor? row_mask, Tensor row_lse,"
    " Tensor column_lse, int row_block, int column_block, bool[] needed)"
    " -> (Tensor a_gradient, Tensor b_gradient, Tensor scale_gradient)",
    _backward,
    _backward_fake,
    _backward_flops,
)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_ND: Tensor,
        b_ND: Tensor,
        scale: Tensor,
        row_mask_N: Tensor | None,
        row_block: int,
        column_block: int,
    ) -> tuple[Tensor, ...]:
        with registry.below_autograd():
            loss, row_lse_N, column_lse_N = _forward_op(a_ND, b_ND, scale, row_mask_N, row_block, column_block)
        ctx.save_for_backward(a_ND, b_ND, scale, row_mask_N, row_lse_N, column_lse_N)
        ctx.shape = row_block, column_block
        ctx.mark_non_differentiable(row_lse_N, column_lse_N)
        return loss, row_lse_N, column_lse_N

    @staticmethod
    @registry.differentiable_once
    def backward(ctx: Any, loss_gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        needed = list(ctx.needs_input_grad[:3])
        gradients = _backward_op(loss_gradient, *ctx.saved_tensors, *ctx.shape, needed)
        wanted = (gradient if need else None for gradient, need in zip(gradients, needed, strict=True))
        return *wanted, None, None, None


registry.differentiate(_forward_op, _Chunked)
