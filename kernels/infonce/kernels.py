"""The Triton kernels that `infonce_tiles` starts on a block of InfoNCE's logits, and the pieces that others share.

The blocks of a kernel are BLOCK_M rows of a and BLOCK_N rows of b, the columns of the logits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tile_of_program(tiles_m, tiles_n, GROUP: tl.constexpr):
    """Row and column tile of this program. GROUP row tiles take turns, so that their column tiles stay in the cache."""
    program = tl.program_id(0)
    first = program // (GROUP * tiles_n) * GROUP
    group = tl.minimum(tiles_m - first, GROUP)
    within = program % (GROUP * tiles_n)
    return first + within % group, within // group


@triton.jit
def logits_tile(p_a, p_b, p_scale, b_m, b_n, rows, columns, width, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr):
    """scale * a b^T of the rows b_m and the columns b_n; past the end, those of the last row or column."""
    b_k = tl.arange(0, BLOCK_K)
    p_a_MK = p_a + tl.minimum(b_m, rows - 1).to(tl.int64)[:, None] * width + b_k[None, :]
    p_b_KN = p_b + tl.minimum(b_n, columns - 1).to(tl.int64)[None, :] * width + b_k[:, None]
    b_s_MN = tl.zeros((b_m.shape[0], b_n.shape[0]), tl.float32)
    for start in range(0, width, BLOCK_K):
        if EVEN_K:
            b_a_MK, b_b_KN = tl.load(p_a_MK), tl.load(p_b_KN)
        else:
            inside_K = b_k < width - start
            b_a_MK = tl.load(p_a_MK, mask=inside_K[None, :], other=0.0)
            b_b_KN = tl.load(p_b_KN, mask=inside_K[:, None], other=0.0)
        b_s_MN = tl.dot(b_a_MK, b_b_KN, b_s_MN, input_precision="tf32x3")
        p_a_MK += BLOCK_K
        p_b_KN += BLOCK_K
    return b_s_MN * tl.load(p_scale)


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
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One tile: its rows' and its columns' maxima, and their sums of exponentials relative to them.

    WHOLE: no tile reaches over an edge, and nothing is dropped.
    """
    tile_m, tile_n = _tile_of_program(tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_N), GROUP)
    b_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    b_s_MN = logits_tile(p_a, p_b, p_scale, b_m, b_n, rows, columns, width, BLOCK_K, EVEN_K)
    if not WHOLE:
        present_M, present_N = present(p_row_mask, b_m, rows), present(p_column_mask, b_n, columns)
        b_s_MN = tl.where(present_M[:, None] & present_N[None, :], b_s_MN, float("-inf"))
    b_row_M, b_column_N = tl.max(b_s_MN, 1), tl.max(b_s_MN, 0)
    if not WHOLE:
        # Where nothing is present the sum is 0, and its reference need only be finite.
        b_row_M = tl.where(b_row_M == float("-inf"), 0.0, b_row_M)
        b_column_N = tl.where(b_column_N == float("-inf"), 0.0, b_column_N)
    inside_M, inside_N = b_m < rows, b_n < columns
    tile_m, tile_n = tile_m.to(tl.int64), tile_n.to(tl.int64)
    tl.store(p_row + tile_n * row_stride + b_m, b_row_M, mask=inside_M)
    tl.store(p_column + tile_m * column_stride + b_n, b_column_N, mask=inside_N)
    b_by_row_MN = tl.exp(b_s_MN - b_row_M[:, None])
    tl.store(p_row_sum + tile_n * rows + b_m, tl.sum(b_by_row_MN, 1), mask=inside_M)
    b_by_column_MN = tl.exp(b_s_MN - b_column_N[None, :])
    tl.store(p_column_sum + tile_m * columns + b_n, tl.sum(b_by_column_MN, 0), mask=inside_N)
    if p_saved is not None:
        # exp(S - min(row, column)) is the larger of the two.
        b_saved_MN = tl.maximum(b_by_row_MN, b_by_column_MN) * FACTOR
        p_saved_MN = p_saved + b_m.to(tl.int64)[:, None] * saved_stride + b_n[None, :]
        tl.store(p_saved_MN, b_saved_MN.to(p_saved.dtype.element_ty), mask=inside_M[:, None] & inside_N[None, :])


@triton.jit
def _fold(p_running, p_running_sum, p_tile, p_tile_sum, tile_stride, block, extent, tiles, BLOCK, TILES):
    """Add what the tiles say of BLOCK rows (or columns) to their running sums, TILES tiles at a time."""
    b_at = block * BLOCK + tl.arange(0, BLOCK)
    inside = b_at < extent
    b_running = tl.load(p_running + b_at, mask=inside, other=0.0)
    b_sum = tl.load(p_running_sum + b_at, mask=inside, other=0.0)
    for first in range(0, tiles, TILES):
        b_t = first + tl.arange(0, TILES)
        inside_TB = (b_t < tiles)[:, None] & inside[None, :]
        b_t = b_t.to(tl.int64)[:, None]
        b_tile_TB = tl.load(p_tile + b_t * tile_stride + b_at[None, :], mask=inside_TB, other=0.0)
        b_tile_sum_TB = tl.load(p_tile_sum + b_t * extent + b_at[None, :], mask=inside_TB, other=0.0)
        b_tile_TB = tl.where(b_tile_sum_TB == 0.0, float("-inf"), b_tile_TB)
        b_raised = tl.maximum(b_running, tl.max(b_tile_TB, 0))
        b_sum = b_sum * tl.exp(b_running - b_raised)
        b_sum += tl.sum(b_tile_sum_TB * tl.exp(b_tile_TB - b_raised[None, :]), 0)
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
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One tile of G, from its own product."""
    tile_m, tile_n = _tile_of_program(tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_N), GROUP)
    b_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    b_s_MN = logits_tile(p_a, p_b, p_scale, b_m, b_n, rows, columns, width, BLOCK_K, EVEN_K)
    b_row_M = tl.load(p_row_lse + b_m, mask=b_m < rows, other=float("inf"))
    b_column_N = tl.load(p_column_lse + b_n, mask=b_n < columns, other=float("inf"))
    b_pair_M = b_m + offset
    if p_row_mask is not None or p_column_mask is not None:
        present_M, present_N = present(p_row_mask, b_m, rows), present(p_column_mask, b_n, columns)
        b_s_MN = tl.where(present_M[:, None] & present_N[None, :], b_s_MN, float("-inf"))
        b_row_M, b_column_N = tl.where(present_M, b_row_M, 0.0), tl.where(present_N, b_column_N, 0.0)
        b_pair_M = tl.where(present_M, b_pair_M, -1)
    b_g_MN = tl.exp(b_s_MN - b_row_M[:, None]) + tl.exp(b_s_MN - b_column_N[None, :])
    b_g_MN = tl.where(b_pair_M[:, None] == b_n[None, :], b_g_MN - 2.0, b_g_MN)
    p_gradient_MN = p_gradient + b_m.to(tl.int64)[:, None] * gradient_stride + b_n[None, :]
    inside_MN = (b_m < rows)[:, None] & (b_n < columns)[None, :]
    tl.store(p_gradient_MN, (b_g_MN * FACTOR).to(p_gradient.dtype.element_ty), mask=inside_MN)


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
    BLOCK_N: tl.constexpr,
):
    """One tile of G, from what was saved. It lies within one of the tiles whose maxima were."""
    tiles_n = tl.cdiv(columns, BLOCK_N)
    tile_m, tile_n = (tl.program_id(0) // tiles_n).to(tl.int64), (tl.program_id(0) % tiles_n).to(tl.int64)
    b_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside_M, inside_N = b_m < rows, b_n < columns
    inside_MN = inside_M[:, None] & inside_N[None, :]
    b_e_MN = tl.load(p_saved + b_m[:, None] * saved_stride + b_n[None, :], mask=inside_MN, other=0.0).to(tl.float32)
    b_row_M = tl.load(p_row + tile_n * BLOCK_N // EDGE * row_stride + b_m, mask=inside_M, other=0.0)
    b_column_N = tl.load(p_column + tile_m * BLOCK_M // EDGE * column_stride + b_n, mask=inside_N, other=0.0)
    b_row_lse_M = tl.load(p_row_lse + b_m, mask=inside_M, other=0.0)
    b_column_lse_N = tl.load(p_column_lse + b_n, mask=inside_N, other=0.0)

    b_low_MN = tl.minimum(b_row_M[:, None], b_column_N[None, :])
    # No maximum passes its logsumexp, except the 0 that stands for none: without the bound its exp could be infinite.
    b_by_row_MN = tl.exp(tl.minimum(b_low_MN - b_row_lse_M[:, None], 0.0))
    b_by_column_MN = tl.exp(tl.minimum(b_low_MN - b_column_lse_N[None, :], 0.0))
    b_g_MN = b_e_MN * (b_by_row_MN + b_by_column_MN)
    b_pair_M = tl.where(present(p_row_mask, b_m, rows), b_m + offset, -1)
    b_g_MN = tl.where(b_pair_M[:, None] == b_n[None, :], b_g_MN - 2.0 * FACTOR, b_g_MN)
    p_gradient_MN = p_gradient + b_m[:, None] * gradient_stride + b_n[None, :]
    tl.store(p_gradient_MN, b_g_MN.to(p_gradient.dtype.element_ty), mask=inside_MN)
