"""InfoNCE on one GPU, registered with torch: the blocks of `infonce.tiles`, and three ways to the backward pass.

After a forward pass of one product of N x N x D, the backward takes three in mode "chunked", which makes every block of
logits again, and two in "save", which keeps them, as exponentials. "resident" has no blocks: from 16-bit inputs it
takes four.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels import registry
from kernels.dispatch import Mode
from kernels.infonce import plan, resident, rows, tiles
from kernels.infonce.blocks import statistics, without_dropped
from kernels.infonce.tiles import Saved


def info_nce(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, mode: Mode, workspace_bytes: int
) -> Tensor:
    """`infonce.info_nce` of a 0-dim float32 scale -> the loss, (), float32."""
    count, width = a_ND.shape
    differentiable = torch.is_grad_enabled() and (a_ND.requires_grad or b_ND.requires_grad or scale.requires_grad)
    footprint = tiles.footprint(width, a_ND.dtype)
    cut = plan.plan(count, mode, workspace_bytes, differentiable, footprint)
    return _forward_op(a_ND, b_ND, scale, row_mask_N, cut.mode, cut.row_block, cut.column_block)[0]


def forward(
    a_ND: Tensor,
    b_ND: Tensor,
    scale: Tensor,
    row_mask_N: Tensor | None,
    mode: Mode,
    row_block: int,
    column_block: int,
) -> tuple[Tensor, ...]:
    """-> loss (), a pair's weight (), row and column logsumexp (N,), and the tensors of `Saved`, or empty ones."""
    row_mask_N = None if row_mask_N is None else row_mask_N.contiguous()
    a_ND, b_ND = (without_dropped(x_ND.contiguous(), row_mask_N) for x_ND in (a_ND, b_ND))
    (count, width), device = a_ND.shape, a_ND.device
    saved = _empty_saved(a_ND, mode)
    row, column = (statistics(count, torch.float32, device) for _ in range(2))
    if mode == "resident":
        # The logsumexps come from blocks as well. Of this many rows, a block's partial sums are no larger than a.
        row_block, column_block = 128 * max(1, width // 32), 32768
    for m in _steps(count, row_block):
        for k in _steps(count, column_block):
            tiles.fold_statistics(
                a_ND[m],
                b_ND[k],
                scale,
                *_masks(row_mask_N, m, k),
                (row[0][m], row[1][m]),
                (column[0][k], column[1][k]),
                saved.block(m, k) if mode == "save" else None,
            )
    return *rows.mean_loss(a_ND, b_ND, scale, row_mask_N, row, column), *saved[:3]


def backward(
    upstream: Tensor,
    a_ND: Tensor,
    b_ND: Tensor,
    scale: Tensor,
    row_mask_N: Tensor | None,
    weight: Tensor,
    row_lse_N: Tensor,
    column_lse_N: Tensor,
    exponential_NN: Tensor,
    row_maximum_PN: Tensor,
    column_maximum_PN: Tensor,
    mode: Mode,
    row_block: int,
    column_block: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a, b and scale that `needed` asks for, and empty tensors for the others."""
    row_mask_N = None if row_mask_N is None else row_mask_N.contiguous()
    a_ND, b_ND = (without_dropped(x_ND.contiguous(), row_mask_N) for x_ND in (a_ND, b_ND))
    count, width = a_ND.shape
    needs_a, needs_b, needs_scale = needed
    needs_a_sum = needs_a or not needs_b  # scale's gradient follows from the sum for a as from that for b
    factor = tiles.gradient_factor(a_ND.dtype)
    finish = partial(rows.finish_gradient, upstream=upstream, weight=weight, scale=scale, factor=factor)
    a_gradient_ND = torch.empty_like(a_ND) if needs_a_sum else a_ND.new_empty(0)
    b_gradient_ND = b_ND.new_empty(0)
    dot_P = torch.empty(-(-count // rows.ROWS), device=a_ND.device)

    if mode == "resident":
        lse = row_lse_N, column_lse_N
        if needs_a_sum:
            a_sum_ND = resident.resident_sum(a_ND, b_ND, scale, row_mask_N, *lse)
            finish(a_sum_ND, a_ND, a_gradient_ND, dot_P)
            del a_sum_ND
        b_sum_ND = resident.resident_sum(b_ND, a_ND, scale, row_mask_N, *lse[::-1]) if needs_b else None
    else:
        saved = Saved(exponential_NN, row_maximum_PN, column_maximum_PN, _edge(a_ND)) if mode == "save" else None
        b_sum_ND = torch.zeros(b_ND.shape, device=b_ND.device) if needs_b else None
        # Row blocks are the outer loop: only one of them at a time has a gradient of a in float32.
        for m in _steps(count, row_block):
            a_sum_MD = torch.zeros(m.stop - m.start, width, device=a_ND.device) if needs_a_sum else None
            for k in _steps(count, column_block):
                gradient_MK = _gradient(a_ND, b_ND, scale, row_mask_N, row_lse_N, column_lse_N, saved, m, k)
                b_sum_KD = None if b_sum_ND is None else b_sum_ND[k]
                tiles.add_products(gradient_MK, a_ND[m], b_ND[k], a_sum_MD, b_sum_KD)
                del gradient_MK  # before the next one is allocated
            if a_sum_MD is not None:
                finish(a_sum_MD, a_ND[m], a_gradient_ND[m], dot_P[m.start // rows.ROWS :])

    if b_sum_ND is not None:
        b_gradient_ND = b_sum_ND if b_ND.dtype == torch.float32 else torch.empty_like(b_ND)
        finish(b_sum_ND, b_ND, b_gradient_ND, dot_P)
    scale_gradient = scale.new_empty(0)
    if needs_scale:
        scale_gradient = rows.scale_gradient(dot_P, upstream, weight, factor)
    return a_gradient_ND if needs_a else a_ND.new_empty(0), b_gradient_ND, scale_gradient


def _gradient(
    a_ND: Tensor,
    b_ND: Tensor,
    scale: Tensor,
    row_mask_N: Tensor | None,
    row_lse_N: Tensor,
    column_lse_N: Tensor,
    saved: Saved | None,
    m: slice,
    k: slice,
) -> Tensor:
    offset = m.start - k.start
    row_mask_M, column_mask_K = _masks(row_mask_N, m, k)
    if saved is not None:
        return tiles.restored_block(saved.block(m, k), row_mask_M, row_lse_N[m], column_lse_N[k], offset)
    return tiles.gradient_block(
        a_ND[m], b_ND[k], scale, row_mask_M, column_mask_K, row_lse_N[m], column_lse_N[k], offset
    )


def _steps(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _masks(row_mask_N: Tensor | None, m: slice, k: slice) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if row_mask_N is None else (row_mask_N[m], row_mask_N[k])


def _edge(a_ND: Tensor) -> int:
    count, width = a_ND.shape
    return tiles.saved_edge(count, width, a_ND.dtype)


def _empty_saved(a_ND: Tensor, mode: Mode) -> Saved:
    count, edge = a_ND.shape[0] if mode == "save" else 0, _edge(a_ND)
    row_maximum_PN, column_maximum_PN = (torch.empty(-(-count // edge), count, device=a_ND.device) for _ in range(2))
    return Saved(a_ND.new_empty(count, tiles.padded(count)), row_maximum_PN, column_maximum_PN, edge)


def _forward_fake(
    a_ND: Tensor, b_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, mode: Mode, *_: int
) -> tuple[Tensor, ...]:
    count = a_ND.shape[0]
    return *(scale.new_empty(shape) for shape in ((), (), (count,), (count,))), *_empty_saved(a_ND, mode)[:3]


def _backward_fake(upstream: Tensor, a_ND: Tensor, b_ND: Tensor, scale: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    needs_a, needs_b, needs_scale = rest[-1]
    return (
        torch.empty_like(a_ND, memory_format=torch.contiguous_format) if needs_a else a_ND.new_empty(0),
        torch.empty_like(b_ND, memory_format=torch.contiguous_format) if needs_b else b_ND.new_empty(0),
        scale.new_empty(() if needs_scale else 0),
    )


def _forward_flops(a_shape: tuple[int, int], *_: Any, **__: Any) -> int:
    return 2 * a_shape[0] ** 2 * a_shape[1]


def _backward_flops(upstream_shape: tuple[int, ...], a_shape: tuple[int, int], *rest: Any, **_: Any) -> int:
    *_rest, mode, _row_block, _column_block, (needs_a, needs_b, _needs_scale) = rest
    products = (needs_a or not needs_b) + needs_b
    formed = {"save": 0, "chunked": 1, "resident": products}[mode]
    return (products + formed) * _forward_flops(a_shape)


_forward_op = registry.define(
    "info_nce(Tensor a, Tensor b, Tensor scale, Tensor? row_mask, str mode, int row_block, int column_block) -> (Tensor"
    " loss, Tensor weight, Tensor row_lse, Tensor column_lse, Tensor exponential, Tensor row_maximum, Tensor"
    " column_maximum)",
    forward,
    _forward_fake,
    _forward_flops,
)
_backward_op = registry.define(
    "info_nce_backward(Tensor upstream, Tensor a, Tensor b, Tensor scale, Tensor? row_mask, Tensor weight, Tensor"
    " row_lse, Tensor column_lse, Tensor exponential, Tensor row_maximum, Tensor column_maximum, str mode, int"
    " row_block, int column_block, bool[] needed) -> (Tensor a_gradient, Tensor b_gradient, Tensor scale_gradient)",
    backward,
    _backward_fake,
    _backward_flops,
)


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_ND: Tensor,
        b_ND: Tensor,
        scale: Tensor,
        row_mask_N: Tensor | None,
        mode: Mode,
        row_block: int,
        column_block: int,
    ) -> tuple[Tensor, ...]:
        with registry.below_autograd():
            outputs = _forward_op(a_ND, b_ND, scale, row_mask_N, mode, row_block, column_block)
        ctx.save_for_backward(a_ND, b_ND, scale, row_mask_N, *outputs[1:])
        ctx.plan = mode, row_block, column_block
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)  # a gradient of zeros would be as large as what was saved
        return outputs

    @staticmethod
    @registry.differentiable_once
    def backward(ctx: Any, upstream: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        needed = list(ctx.needs_input_grad[:3])
        gradients = _backward_op(upstream, *ctx.saved_tensors, *ctx.plan, needed)
        return *(gradient if need else None for gradient, need in zip(gradients, needed, strict=True)), *[None] * 4


registry.differentiate(_forward_op, _InfoNCE)
