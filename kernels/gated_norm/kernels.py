"""The Triton kernels of `gated_residual_norm`, on rows of M and D.

All are bound by memory. A program strides over tiles of a few whole rows, with weight and bias in registers. Backward,
it also keeps its sums for their gradients there, and a last kernel adds up what the programs leave, in their order. The
sum of residual and gated x is recomputed, not saved: x, residual and gate_logits are what its gradients need anyway.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def keep_mask(seed, b_row_M1, threshold, COLUMNS: tl.constexpr):
    """`philox.row_keep_mask` of these rows: (M, COLUMNS), one call for eight columns."""
    CALLS: tl.constexpr = COLUMNS // 8
    ROWS: tl.constexpr = b_row_M1.shape[0]
    b_call_MD = tl.broadcast_to(tl.arange(0, CALLS)[None, :], (ROWS, CALLS)).to(tl.uint32)
    b_low_MD = tl.broadcast_to((b_row_M1 & 0xFFFFFFFF).to(tl.uint32), (ROWS, CALLS))
    b_high_MD = tl.broadcast_to((b_row_M1 >> 32).to(tl.uint32), (ROWS, CALLS))
    b_w0, b_w1, b_w2, b_w3 = tl.philox(seed, b_call_MD, b_low_MD, b_high_MD, tl.zeros_like(b_call_MD), n_rounds=7)
    # join adds a last axis of two: after it the axes are (word // 2, word % 2, half).
    b_words = tl.join(tl.join(b_w0, b_w2), tl.join(b_w1, b_w3))
    b_halves = tl.join(b_words & 0xFFFF, b_words >> 16)
    return tl.reshape(b_halves, (ROWS, COLUMNS)).to(tl.int32) >= threshold


@triton.jit
def _tile(
    p_x, p_residual, p_gate, seed, b_row_M1, b_inside_MD, b_column_1D,
    x_stride, residual_stride, gate_stride, threshold, keep_scale, GATED: tl.constexpr, DROPPING: tl.constexpr,
):  # fmt: skip
    """What a tile's rows sum to, and what it is made of: y = residual + factor * x, factor = c keep sigmoid."""
    b_x = tl.load(p_x + b_row_M1 * x_stride + b_column_1D, mask=b_inside_MD, other=0.0).to(tl.float32)
    b_y = tl.load(p_residual + b_row_M1 * residual_stride + b_column_1D, mask=b_inside_MD, other=0.0).to(tl.float32)
    b_open = tl.full(b_x.shape, 1.0, tl.float32)
    if GATED:
        b_gate = tl.load(p_gate + b_row_M1 * gate_stride + b_column_1D, mask=b_inside_MD, other=0.0)
        b_open = tl.sigmoid(b_gate.to(tl.float32))
    b_factor = b_open
    if DROPPING:
        b_factor = tl.where(keep_mask(seed, b_row_M1, threshold, b_x.shape[1]), b_open * keep_scale, 0.0)
    return b_y + b_factor * b_x, b_x, b_open, b_factor


@triton.jit
def gated_norm_fwd_kernel(
    p_x, p_residual, p_gate, p_weight, p_bias, p_seed, p_out, p_mean, p_rstd,
    rows, x_stride, residual_stride, gate_stride, eps, threshold, keep_scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GATED: tl.constexpr, DROPPING: tl.constexpr,
):  # fmt: skip
    """A program norms every num_programs-th tile of ROWS rows, which lie in registers as ROWS x COLUMNS."""
    b_column_1D = tl.arange(0, COLUMNS)[None, :]
    b_inside_1D = b_column_1D < WIDTH
    b_weight = tl.load(p_weight + b_column_1D, mask=b_inside_1D, other=0.0).to(tl.float32)
    b_bias = tl.load(p_bias + b_column_1D, mask=b_inside_1D, other=0.0).to(tl.float32)
    seed = tl.load(p_seed) if DROPPING else 0
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        b_row_M1 = (tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        b_inside_MD = (b_row_M1 < rows) & b_inside_1D
        b_y, _x, _open, _factor = _tile(
            p_x, p_residual, p_gate, seed, b_row_M1, b_inside_MD, b_column_1D,
            x_stride, residual_stride, gate_stride, threshold, keep_scale, GATED, DROPPING,
        )  # fmt: skip
        b_mean_M1 = tl.sum(b_y, axis=1, keep_dims=True) / WIDTH
        b_centred = tl.where(b_inside_1D, b_y - b_mean_M1, 0.0)
        b_rstd_M1 = tl.rsqrt(tl.sum(b_centred * b_centred, axis=1, keep_dims=True) / WIDTH + eps)
        b_out = b_centred * b_rstd_M1 * b_weight + b_bias
        tl.store(p_out + b_row_M1 * WIDTH + b_column_1D, b_out.to(p_out.dtype.element_ty), mask=b_inside_MD)
        tl.store(p_mean + b_row_M1, b_mean_M1, mask=b_row_M1 < rows)
        tl.store(p_rstd + b_row_M1, b_rstd_M1, mask=b_row_M1 < rows)


@triton.jit
def gated_norm_bwd_kernel(
    p_dout, p_x, p_residual, p_gate, p_weight, p_seed, p_mean, p_rstd, p_dx, p_dresidual, p_dgate, p_partials,
    rows, dout_stride, x_stride, residual_stride, gate_stride, threshold, keep_scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GATED: tl.constexpr, DROPPING: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """A program takes every num_programs-th tile; partials (programs, 2, WIDTH) are its dweight and dbias."""
    b_column_1D = tl.arange(0, COLUMNS)[None, :]
    b_inside_1D = b_column_1D < WIDTH
    b_weight = tl.load(p_weight + b_column_1D, mask=b_inside_1D, other=0.0).to(tl.float32)
    seed = tl.load(p_seed) if DROPPING else 0
    b_dweight = tl.zeros((ROWS, COLUMNS), tl.float32)
    b_dbias = tl.zeros((ROWS, COLUMNS), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        b_row_M1 = (tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        b_inside_MD = (b_row_M1 < rows) & b_inside_1D
        b_y, b_x, b_open, b_factor = _tile(
            p_x, p_residual, p_gate, seed, b_row_M1, b_inside_MD, b_column_1D,
            x_stride, residual_stride, gate_stride, threshold, keep_scale, GATED, DROPPING,
        )  # fmt: skip
        b_dout = tl.load(p_dout + b_row_M1 * dout_stride + b_column_1D, mask=b_inside_MD, other=0.0).to(tl.float32)
        b_mean_M1 = tl.load(p_mean + b_row_M1, mask=b_row_M1 < rows, other=0.0)
        b_rstd_M1 = tl.load(p_rstd + b_row_M1, mask=b_row_M1 < rows, other=0.0)

        b_normed = tl.where(b_inside_1D, (b_y - b_mean_M1) * b_rstd_M1, 0.0)
        b_dweight += b_dout * b_normed
        b_dbias += b_dout
        b_dnormed = b_dout * b_weight
        b_along_M1 = tl.sum(b_dnormed * b_normed, axis=1, keep_dims=True) / WIDTH
        b_shift_M1 = tl.sum(b_dnormed, axis=1, keep_dims=True) / WIDTH
        b_dy = (b_dnormed - b_shift_M1 - b_along_M1 * b_normed) * b_rstd_M1

        b_offset = b_row_M1 * WIDTH + b_column_1D
        tl.store(p_dresidual + b_offset, b_dy.to(p_dresidual.dtype.element_ty), mask=b_inside_MD)
        if GATED or DROPPING:
            b_dx = b_dy * b_factor
            tl.store(p_dx + b_offset, b_dx.to(p_dx.dtype.element_ty), mask=b_inside_MD)
            if GATED:
                b_dgate = b_dx * b_x * (1 - b_open)
                tl.store(p_dgate + b_offset, b_dgate.to(p_dgate.dtype.element_ty), mask=b_inside_MD)

    p_partial = p_partials + tl.program_id(0) * 2 * WIDTH + b_column_1D
    tl.store(p_partial, tl.sum(b_dweight, axis=0, keep_dims=True), mask=b_inside_1D)
    tl.store(p_partial + WIDTH, tl.sum(b_dbias, axis=0, keep_dims=True), mask=b_inside_1D)


@triton.jit
def gated_norm_bwd_sum_kernel(
    p_partials, p_dweight, p_dbias, programs, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sum partials (programs, 2, WIDTH) over the programs, ROWS of them at a time, for COLUMNS columns."""
    b_column_1D = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    b_inside_1D = b_column_1D < WIDTH
    b_dweight = tl.zeros((ROWS, COLUMNS), tl.float32)
    b_dbias = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, programs, ROWS):
        b_row_M1 = (start + tl.arange(0, ROWS))[:, None]
        b_inside_MD = (b_row_M1 < programs) & b_inside_1D
        p_row = p_partials + b_row_M1 * 2 * WIDTH + b_column_1D
        b_dweight += tl.load(p_row, mask=b_inside_MD, other=0.0)
        b_dbias += tl.load(p_row + WIDTH, mask=b_inside_MD, other=0.0)
    b_dweight = tl.sum(b_dweight, axis=0, keep_dims=True)
    b_dbias = tl.sum(b_dbias, axis=0, keep_dims=True)
    tl.store(p_dweight + b_column_1D, b_dweight.to(p_dweight.dtype.element_ty), mask=b_inside_1D)
    tl.store(p_dbias + b_column_1D, b_dbias.to(p_dbias.dtype.element_ty), mask=b_inside_1D)
