"""The Triton kernels that `infonce.tiles` starts on a block of InfoNCE's logits, and the pieces that others share.

The blocks of a kernel are BLOCK_M rows of a and BLOCK_K rows of b, the columns of the logits.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Exponentials are powers of two, with log2(e) folded into the scale: tl.exp would multiply, and guard against denormal
# numbers, at each element of a tile.
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _tile_of_program(tiles_m, tiles_k, GROUP: tl.constexpr):
    """Row and column tile of this program. GROUP row tiles take turns, so that their column tiles stay in the cache."""
    program = tl.program_id(0)
    first = program // (GROUP * tiles_k) * GROUP
    group = tl.minimum(tiles_m - first, GROUP)
    within = program % (GROUP * tiles_k)
    return first + within % group, within // group


@triton.jit
def logits_tile(p_a, p_b, p_scale, b_m, b_k, rows, columns, width, STEP: tl.constexpr, EVEN_STEPS: tl.constexpr):
    """scale * a b^T in bits, of the rows b_m and the columns b_k; past the end, those of the last row or column."""
    b_d = tl.arange(0, STEP)
    p_a_MD = p_a + tl.minimum(b_m, rows - 1).to(tl.int64)[:, None] * width + b_d[None, :]
    p_b_DK = p_b + tl.minimum(b_k, columns - 1).to(tl.int64)[None, :] * width + b_d[:, None]
    b_s_MK = tl.zeros((b_m.shape[0], b_k.shape[0]), tl.float32)
    for start in range(0, width, STEP):
        if EVEN_STEPS:
            b_a_MD, b_b_DK = tl.load(p_a_MD), tl.load(p_b_DK)
        else:
            inside_D = b_d < width - start
            b_a_MD = tl.load(p_a_MD, mask=inside_D[None, :], other=0.0)
            b_b_DK = tl.load(p_b_DK, mask=inside_D[:, None], other=0.0)
        b_s_MK = tl.dot(b_a_MD, b_b_DK, b_s_MK, input_precision="tf32x3")
        p_a_MD += STEP
        p_b_DK += STEP
    return b_s_MK * (tl.load(p_scale) * LOG2_E)


@triton.jit
def present(p_mask, b_at, extent):
    """Which of the rows (or columns) b_at exist and are not dropped."""
    there = b_at < extent
    if p_mask is not None:
        there = there & (tl.load(p_mask + b_at, mask=there, other=0) != 0)
    return there


@triton.jit
def info_nce_statistics_kernel(
    p_a,
    p_b,
    p_scale,
    p_row_mask,
    p_column_mask,
    p_row,
    p_row_sum,
    p_column,
    p_column_sum,
    p_saved,
    rows,
    columns,
    width,
    row_stride,
    column_stride,
    saved_stride,
    FACTOR: tl.constexpr,
    WHOLE: tl.constexpr,
    EVEN_STEPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STEP: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One tile: its rows' and its columns' maxima, and their sums of exponentials relative to them.

    WHOLE: no tile reaches over an edge, and nothing is dropped.
    """
    tile_m, tile_k = _tile_of_program(tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_K), GROUP)
    b_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_k = tile_k * BLOCK_K + tl.arange(0, BLOCK_K)
    b_s_MK = logits_tile(p_a, p_b, p_scale, b_m, b_k, rows, columns, width, STEP, EVEN_STEPS)
    if not WHOLE:
        present_M, present_K = present(p_row_mask, b_m, rows), present(p_column_mask, b_k, columns)
        b_s_MK = tl.where(present_M[:, None] & present_K[None, :], b_s_MK, float("-inf"))
    b_row_M, b_column_K = tl.max(b_s_MK, 1), tl.max(b_s_MK, 0)
    if not WHOLE:
        # Where nothing is present the sum is 0, and its reference need only be finite.
        b_row_M = tl.where(b_row_M == float("-inf"), 0.0, b_row_M)
        b_column_K = tl.where(b_column_K == float("-inf"), 0.0, b_column_K)
    inside_M, inside_K = b_m < rows, b_k < columns
    tile_m, tile_k = tile_m.to(tl.int64), tile_k.to(tl.int64)
    tl.store(p_row + tile_k * row_stride + b_m, b_row_M * LN_2, mask=inside_M)
    tl.store(p_column + tile_m * column_stride + b_k, b_column_K * LN_2, mask=inside_K)
    b_by_row_MK = tl.exp2(b_s_MK - b_row_M[:, None])
    tl.store(p_row_sum + tile_k * rows + b_m, tl.sum(b_by_row_MK, 1), mask=inside_M)
    b_by_column_MK = tl.exp2(b_s_MK - b_column_K[None, :])
    tl.store(p_column_sum + tile_m * columns + b_k, tl.sum(b_by_column_MK, 0), mask=inside_K)
    if p_saved is not None:
        # exp(S - min(row, column)) is the larger of the two.
        b_saved_MK = tl.maximum(b_by_row_MK, b_by_column_MK) * FACTOR
        p_saved_MK = p_saved + b_m.to(tl.int64)[:, None] * saved_stride + b_k[None, :]
        tl.store(p_saved_MK, b_saved_MK.to(p_saved.dtype.element_ty), mask=inside_M[:, None] & inside_K[None, :])


@triton.jit
def _fold(p_running, p_running_sum, p_tile, p_tile_sum, tile_stride, block, extent, tiles, BLOCK, TILES):
    """Add what the tiles say of BLOCK rows (or columns) to their running sums, TILES tiles at a time."""
    b_at = block * BLOCK + tl.arange(0, BLOCK)
    inside = b_at < extent
    b_running = tl.load(p_running + b_at, mask=inside, other=0.0)
    b_sum = tl.load(p_running_sum + b_at, mask=inside, other=0.0)
    for first in range(0, tiles, TILES):
        b_p = first + tl.arange(0, TILES)
        inside_PM = (b_p < tiles)[:, None] & inside[None, :]
        b_p = b_p.to(tl.int64)[:, None]
        b_tile_PM = tl.load(p_tile + b_p * tile_stride + b_at[None, :], mask=inside_PM, other=0.0)
        b_tile_sum_PM = tl.load(p_tile_sum + b_p * extent + b_at[None, :], mask=inside_PM, other=0.0)
        b_tile_PM = tl.where(b_tile_sum_PM == 0.0, float("-inf"), b_tile_PM)
        b_raised = tl.maximum(b_running, tl.max(b_tile_PM, 0))
        b_sum = b_sum * tl.exp2((b_running - b_raised) * LOG2_E)
        b_sum += tl.sum(b_tile_sum_PM * tl.exp2((b_tile_PM - b_raised[None, :]) * LOG2_E), 0)
        b_running = b_raised
    tl.store(p_running + b_at, b_running, mask=inside)
    tl.store(p_running_sum + b_at, b_sum, mask=inside)


@triton.jit
def info_nce_fold_kernel(
    p_row,
    p_row_sum,
    p_row_tile,
    p_row_tile_sum,
    p_column,
    p_column_sum,
    p_column_tile,
    p_column_tile_sum,
    rows,
    columns,
    row_tiles,
    column_tiles,
    row_stride,
    column_stride,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
):
    """The first programs fold the rows, the others the columns."""
    block, row_blocks = tl.program_id(0), tl.cdiv(rows, BLOCK)
    if block < row_blocks:
        _fold(p_row, p_row_sum, p_row_tile, p_row_tile_sum, row_stride, block, rows, column_tiles, BLOCK, TILES)
    else:
        block -= row_blocks
        _fold(
            p_column,
            p_column_sum,
            p_column_tile,
            p_column_tile_sum,
            column_stride,
            block,
            columns,
            row_tiles,
            BLOCK,
            TILES,
        )


@triton.jit
def info_nce_gradient_kernel(
    p_a,
    p_b,
    p_scale,
    p_row_mask,
    p_column_mask,
    p_row_lse,
    p_column_lse,
    p_gradient,
    rows,
    columns,
    width,
    offset,
    gradient_stride,
    FACTOR: tl.constexpr,
    EVEN_STEPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STEP: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One tile of G, from its own product."""
    tile_m, tile_k = _tile_of_program(tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_K), GROUP)
    b_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_k = tile_k * BLOCK_K + tl.arange(0, BLOCK_K)
    b_s_MK = logits_tile(p_a, p_b, p_scale, b_m, b_k, rows, columns, width, STEP, EVEN_STEPS)
    b_row_M = tl.load(p_row_lse + b_m, mask=b_m < rows, other=float("inf")) * LOG2_E
    b_column_K = tl.load(p_column_lse + b_k, mask=b_k < columns, other=float("inf")) * LOG2_E
    b_pair_M = b_m + offset
    if p_row_mask is not None or p_column_mask is not None:
        present_M, present_K = present(p_row_mask, b_m, rows), present(p_column_mask, b_k, columns)
        b_s_MK = tl.where(present_M[:, None] & present_K[None, :], b_s_MK, float("-inf"))
        b_row_M, b_column_K = tl.where(present_M, b_row_M, 0.0), tl.where(present_K, b_column_K, 0.0)
        b_pair_M = tl.where(present_M, b_pair_M, -1)
    b_g_MK = tl.exp2(b_s_MK - b_row_M[:, None]) + tl.exp2(b_s_MK - b_column_K[None, :])
    b_g_MK = tl.where(b_pair_M[:, None] == b_k[None, :], b_g_MK - 2.0, b_g_MK)
    p_gradient_MK = p_gradient + b_m.to(tl.int64)[:, None] * gradient_stride + b_k[None, :]
    inside_MK = (b_m < rows)[:, None] & (b_k < columns)[None, :]
    tl.store(p_gradient_MK, (b_g_MK * FACTOR).to(p_gradient.dtype.element_ty), mask=inside_MK)


@triton.jit
def info_nce_restore_kernel(
    p_saved,
    p_row,
    p_column,
    p_row_mask,
    p_row_lse,
    p_column_lse,
    p_gradient,
    rows,
    columns,
    offset,
    saved_stride,
    row_stride,
    column_stride,
    gradient_stride,
    FACTOR: tl.constexpr,
    EDGE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile of G, from what was saved. It lies within one of the tiles whose maxima were."""
    tiles_k = tl.cdiv(columns, BLOCK_K)
    tile_m, tile_k = (tl.program_id(0) // tiles_k).to(tl.int64), (tl.program_id(0) % tiles_k).to(tl.int64)
    b_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_k = tile_k * BLOCK_K + tl.arange(0, BLOCK_K)
    inside_M, inside_K = b_m < rows, b_k < columns
    inside_MK = inside_M[:, None] & inside_K[None, :]
    b_e_MK = tl.load(p_saved + b_m[:, None] * saved_stride + b_k[None, :], mask=inside_MK, other=0.0).to(tl.float32)
    b_row_M = tl.load(p_row + tile_k * BLOCK_K // EDGE * row_stride + b_m, mask=inside_M, other=0.0) * LOG2_E
    b_column_K = tl.load(p_column + tile_m * BLOCK_M // EDGE * column_stride + b_k, mask=inside_K, other=0.0) * LOG2_E
    b_row_lse_M = tl.load(p_row_lse + b_m, mask=inside_M, other=0.0) * LOG2_E
    b_column_lse_K = tl.load(p_column_lse + b_k, mask=inside_K, other=0.0) * LOG2_E

    b_low_MK = tl.minimum(b_row_M[:, None], b_column_K[None, :])
    # No maximum passes its logsumexp, except the 0 that stands for none: without the bound its exp could be infinite.
    b_by_row_MK = tl.exp2(tl.minimum(b_low_MK - b_row_lse_M[:, None], 0.0))
    b_by_column_MK = tl.exp2(tl.minimum(b_low_MK - b_column_lse_K[None, :], 0.0))
    b_g_MK = b_e_MK * (b_by_row_MK + b_by_column_MK)
    b_pair_M = tl.where(present(p_row_mask, b_m, rows), b_m + offset, -1)
    b_g_MK = tl.where(b_pair_M[:, None] == b_k[None, :], b_g_MK - 2.0 * FACTOR, b_g_MK)
    p_gradient_MK = p_gradient + b_m[:, None] * gradient_stride + b_k[None, :]
    tl.store(p_gradient_MK, b_g_MK.to(p_gradient.dtype.element_ty), mask=inside_MK)
