"""Triton kernels of InfoNCE that pass over the rows once: from logsumexps to the loss, and from sums to gradients.

Each program writes one partial sum, and a single program adds those up in a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.infonce.blocks import Statistics
from kernels.launch import launch

ROWS = 32  # of a program

_PARTS = {"BLOCK": 1024, "num_warps": 4, "num_stages": 2}


def _config(width: int) -> dict[str, int]:
    """Rows that do not all begin at multiples of 16 elements take more addresses, and these registers."""
    block_d, num_warps = (64, 4) if width % 16 == 0 else (32, 8)
    return {"BLOCK_N": ROWS, "BLOCK_D": block_d, "num_warps": num_warps, "num_stages": 2}


def mean_loss(
    a_ND: Tensor,
    b_ND: Tensor,
    scale: Tensor,
    row_mask_N: Tensor | None,
    row_statistics: Statistics,
    column_statistics: Statistics,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """-> loss (), weight (): 1 / n of n pairs or 0 of fewer than two, row and column logsumexp (N,). All float32.

    The logsumexp of what is dropped is 0: finite, and of no consequence.
    """
    count, width = a_ND.shape
    programs = triton.cdiv(count, ROWS)
    row_lse_N, column_lse_N = (torch.empty(count, device=a_ND.device) for _ in range(2))
    loss_P, pairs_P = torch.empty(2, programs, device=a_ND.device)
    loss, weight = (torch.empty((), device=a_ND.device) for _ in range(2))
    launch(
        info_nce_pairs_kernel,
        (programs,),
        a_ND,
        b_ND,
        scale,
        row_mask_N,
        *row_statistics,
        *column_statistics,
        row_lse_N,
        column_lse_N,
        loss_P,
        pairs_P,
        count,
        width,
        **_config(width),
    )
    launch(info_nce_mean_kernel, (1,), loss_P, pairs_P, loss, weight, programs, **_PARTS)
    return loss, weight, row_lse_N, column_lse_N


def finish_gradient(
    sum_MD: Tensor,
    x_MD: Tensor,
    gradient_MD: Tensor,
    dot_P: Tensor,
    upstream: Tensor,
    weight: Tensor,
    scale: Tensor,
    factor: float,
) -> None:
    """gradient = upstream * weight / 2 * factor * scale * sum; gradient may be sum itself.

    dot_P receives the sum of sum * x over every `ROWS` rows.
    """
    rows, width = x_MD.shape
    tensors = (sum_MD, x_MD, upstream, weight, scale, gradient_MD, dot_P)
    grid = (triton.cdiv(rows, ROWS),)
    launch(info_nce_finish_kernel, grid, *tensors, rows, width, FACTOR=factor / 2, **_config(width))


def scale_gradient(dot_P: Tensor, upstream: Tensor, weight: Tensor, factor: float) -> Tensor:
    """-> upstream * weight / 2 * factor * the sum of dot_P, ()."""
    gradient = torch.empty_like(weight)
    launch(info_nce_scale_kernel, (1,), dot_P, upstream, weight, gradient, len(dot_P), FACTOR=factor / 2, **_PARTS)
    return gradient


@triton.jit
def info_nce_pairs_kernel(
    p_a,
    p_b,
    p_scale,
    p_mask,
    p_row,
    p_row_sum,
    p_column,
    p_column_sum,
    p_row_lse,
    p_column_lse,
    p_loss,
    p_pairs,
    count,
    width,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    b_d = tl.arange(0, BLOCK_D)
    inside_N = b_n < count
    b_at_ND = b_n.to(tl.int64)[:, None] * width + b_d[None, :]
    b_product_N = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, width, BLOCK_D):
        inside_ND = inside_N[:, None] & (b_d < width - start)[None, :]
        b_a_ND = tl.load(p_a + b_at_ND + start, mask=inside_ND, other=0.0).to(tl.float32)
        b_b_ND = tl.load(p_b + b_at_ND + start, mask=inside_ND, other=0.0).to(tl.float32)
        b_product_N += tl.sum(b_a_ND * b_b_ND, 1)

    present_N = inside_N
    if p_mask is not None:
        present_N = present_N & (tl.load(p_mask + b_n, mask=inside_N, other=0) != 0)
    b_row_sum_N = tl.load(p_row_sum + b_n, mask=present_N, other=1.0)
    b_column_sum_N = tl.load(p_column_sum + b_n, mask=present_N, other=1.0)
    b_row_N = tl.load(p_row + b_n, mask=present_N, other=0.0) + tl.log(b_row_sum_N)
    b_column_N = tl.load(p_column + b_n, mask=present_N, other=0.0) + tl.log(b_column_sum_N)
    b_loss_N = tl.where(present_N, (b_row_N + b_column_N) * 0.5 - b_product_N * tl.load(p_scale), 0.0)
    tl.store(p_row_lse + b_n, b_row_N, mask=inside_N)
    tl.store(p_column_lse + b_n, b_column_N, mask=inside_N)
    tl.store(p_loss + tl.program_id(0), tl.sum(b_loss_N, 0))
    tl.store(p_pairs + tl.program_id(0), tl.sum(present_N.to(tl.float32), 0))


@triton.jit
def _sum_of_parts(p_parts, parts, BLOCK: tl.constexpr):
    b_at = tl.arange(0, BLOCK)
    b_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, parts, BLOCK):
        b_sum += tl.load(p_parts + start + b_at, mask=b_at < parts - start, other=0.0)
    return tl.sum(b_sum, 0)


@triton.jit
def info_nce_mean_kernel(p_loss_parts, p_pair_parts, p_loss, p_weight, parts, BLOCK: tl.constexpr):
    pairs = _sum_of_parts(p_pair_parts, parts, BLOCK)
    weight = tl.where(pairs >= 2.0, 1.0 / tl.maximum(pairs, 1.0), 0.0)
    loss = tl.where(pairs >= 2.0, _sum_of_parts(p_loss_parts, parts, BLOCK) * weight, 0.0)
    tl.store(p_loss, loss)
    tl.store(p_weight, weight)


@triton.jit
def info_nce_finish_kernel(
    p_sum,
    p_x,
    p_upstream,
    p_weight,
    p_scale,
    p_gradient,
    p_dot,
    count,
    width,
    FACTOR: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    b_d = tl.arange(0, BLOCK_D)
    b_at_ND = b_n.to(tl.int64)[:, None] * width + b_d[None, :]
    factor = tl.load(p_upstream) * tl.load(p_weight) * FACTOR * tl.load(p_scale)
    b_dot_N = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, width, BLOCK_D):
        inside_ND = (b_n < count)[:, None] & (b_d < width - start)[None, :]
        b_sum_ND = tl.load(p_sum + b_at_ND + start, mask=inside_ND, other=0.0)
        b_x_ND = tl.load(p_x + b_at_ND + start, mask=inside_ND, other=0.0).to(tl.float32)
        b_dot_N += tl.sum(b_sum_ND * b_x_ND, 1)
        tl.store(p_gradient + b_at_ND + start, (b_sum_ND * factor).to(p_gradient.dtype.element_ty), mask=inside_ND)
    tl.store(p_dot + tl.program_id(0), tl.sum(b_dot_N, 0))


@triton.jit
def info_nce_scale_kernel(p_dot, p_upstream, p_weight, p_gradient, parts, FACTOR: tl.constexpr, BLOCK: tl.constexpr):
    dot = _sum_of_parts(p_dot, parts, BLOCK)
    tl.store(p_gradient, tl.load(p_upstream) * tl.load(p_weight) * FACTOR * dot)
