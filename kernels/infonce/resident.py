"""A Triton kernel of InfoNCE that keeps gradients in registers, so that no block of logits is ever written.

One program owns some rows of x (a, or b) and passes over all rows of y (b, or a). Of each tile a first product makes
the logits, and a second one adds the tile's share to the gradient of x.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.infonce.kernels import LOG2_E, logits_tile, present
from kernels.infonce.tiles import factor
from kernels.launch import architecture, launch

_SLICE = 128


def resident_sum(
    x_ND: Tensor, y_ND: Tensor, scale: Tensor, row_mask_N: Tensor | None, x_lse_N: Tensor, y_lse_N: Tensor
) -> Tensor:
    """-> G y (N, D) in float32, where G gradient_factor = softmax over j + softmax over i - 2 [i = j] of scale * x y^T.

    x_lse and y_lse (N,) are the logsumexps of the rows and the columns of these logits.
    """
    count, width = x_ND.shape
    tiles = _tiles(width, x_ND.dtype, architecture(x_ND.device))
    sum_ND = torch.empty(count, width, device=x_ND.device)
    launch(
        info_nce_resident_kernel,
        (triton.cdiv(count, tiles.BLOCK_M), triton.cdiv(width, tiles.BLOCK_D)),
        x_ND,
        y_ND,
        scale,
        row_mask_N,
        x_lse_N,
        y_lse_N,
        sum_ND,
        count,
        width,
        FACTOR=factor(x_ND.dtype),
        EVEN_STEPS=width % tiles.STEP == 0,
        **tiles._asdict(),
    )
    return sum_ND


class _Tiles(NamedTuple):
    """BLOCK_M rows of x, BLOCK_K of y, BLOCK_D columns of the gradient: all that there are, unless it is SLICED.

    Each program makes its logits for itself: a SLICED gradient takes more than two products.
    """

    BLOCK_M: int
    BLOCK_K: int
    STEP: int
    BLOCK_D: int
    SLICED: bool
    num_warps: int
    num_stages: int


def _tiles(width: int, dtype: torch.dtype, arch: int) -> _Tiles:
    """Tiles that spill no register; which are fastest was not measured."""
    block_d = max(16, triton.next_power_of_2(width))
    scattered = width % 16 != 0  # rows do not all begin at multiples of 16 elements: their addresses take registers
    if dtype == torch.float32:
        return _Tiles(32 if scattered else 64, 32, 16, min(block_d, _SLICE), True, 8, 2)
    if scattered:
        return _Tiles(32, 32, 32, min(block_d, _SLICE), True, 4, 2)
    if block_d == 512:
        return _Tiles(64, 32, 16, block_d, False, 8, 2 if arch < 100 else 1)
    return _Tiles(64, 64 if arch < 100 else 32, 16, block_d, False, 8, 2)


@triton.jit
def info_nce_resident_kernel(
    p_x,
    p_y,
    p_scale,
    p_mask,
    p_x_lse,
    p_y_lse,
    p_sum,
    count,
    width,
    FACTOR: tl.constexpr,
    EVEN_STEPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SLICED: tl.constexpr,
):
    """BLOCK_M rows and BLOCK_D columns of G y. Where these are all columns, both products take the same loads of y."""
    b_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    b_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside_MD = (b_m < count)[:, None] & (b_d < width)[None, :]
    b_at_MD = b_m.to(tl.int64)[:, None] * width + b_d[None, :]
    present_M = present(p_mask, b_m, count)
    b_row_M = tl.load(p_x_lse + b_m, mask=present_M, other=0.0) * LOG2_E
    if not SLICED:
        b_x_MD = tl.load(p_x + b_at_MD, mask=inside_MD, other=0.0)
    b_sum_MD = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for start in range(0, count, BLOCK_K):
        b_k = start + tl.arange(0, BLOCK_K)
        inside_KD = (b_k < count)[:, None] & (b_d < width)[None, :]
        b_y_KD = tl.load(p_y + b_k.to(tl.int64)[:, None] * width + b_d[None, :], mask=inside_KD, other=0.0)
        if SLICED:
            b_s_MK = logits_tile(p_x, p_y, p_scale, b_m, b_k, count, count, width, STEP, EVEN_STEPS)
        else:
            b_s_MK = tl.dot(b_x_MD, tl.trans(b_y_KD), input_precision="tf32x3") * (tl.load(p_scale) * LOG2_E)
        present_K = present(p_mask, b_k, count)
        b_s_MK = tl.where(present_M[:, None] & present_K[None, :], b_s_MK, float("-inf"))
        b_column_K = tl.load(p_y_lse + b_k, mask=present_K, other=0.0) * LOG2_E
        b_g_MK = tl.exp2(b_s_MK - b_row_M[:, None]) + tl.exp2(b_s_MK - b_column_K[None, :])
        # Both of a pair are dropped, or neither: rows that are contribute nothing, and their own sums weigh nothing.
        b_g_MK = tl.where(b_m[:, None] == b_k[None, :], b_g_MK - 2.0, b_g_MK) * FACTOR
        b_sum_MD = tl.dot(b_g_MK.to(b_y_KD.dtype), b_y_KD, b_sum_MD, input_precision="tf32x3")
    tl.store(p_sum + b_at_MD, b_sum_MD, mask=inside_MD)
