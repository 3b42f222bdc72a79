"""The Triton kernels of `grouped_info_nce`.

One program owns a group: its N x N logits stay in registers in float32, while the width goes by in steps. Forward
leaves each row's weight and both logsumexps, from which backward recomputes the logits and turns them into the matrix

    G_ij = w_i (P_ij / 2 - delta_ij) + w_j Q_ij / 2,  P_ij = exp(S_ij - row_i), Q_ij = exp(S_ij - column_j)

so that the gradients of a group's loss are scale G b, scale G^T a, and sum_ij G_ij a_i . b_j for the scale. In the
kernels logits and logsumexps are in bits: an exponential is then one instruction.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.infonce.kernels import LN_2, LOG2_E


@triton.jit
def _products(
    p_x, p_y, b_i, b_j, b_valid_i, b_valid_j, width, x_stride, y_stride, STEP: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """x_i . y_j of valid rows, float32; 0 elsewhere."""
    b_products = tl.zeros((b_i.shape[0], b_j.shape[0]), tl.float32)
    for start in range(0, width, STEP):
        b_column_1D = (start + tl.arange(0, STEP))[None, :]
        b_inside_1D = b_column_1D < width
        b_x = tl.load(p_x + b_i[:, None] * x_stride + b_column_1D, mask=b_valid_i[:, None] & b_inside_1D, other=0.0)
        b_y = tl.load(p_y + b_j[:, None] * y_stride + b_column_1D, mask=b_valid_j[:, None] & b_inside_1D, other=0.0)
        b_products = tl.dot(b_x, tl.trans(b_y), b_products, input_precision=PRECISION)
    return b_products


@triton.jit
def grouped_infonce_fwd_kernel(
    p_a, p_b, p_scale, p_mask, p_weights, p_share, p_row, p_column, p_loss, p_active,
    rows, width, a_group_stride, a_stride, b_group_stride, b_stride,
    ROWS: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr,
    MASKED: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """A group's loss, whether it takes part, its weights w, and its logsumexps in bits, +inf for what takes none."""
    group = tl.program_id(0).to(tl.int64)
    b_i = tl.arange(0, ROWS)
    b_inside = b_i < rows
    b_valid = b_inside
    if MASKED:
        b_valid = b_inside & tl.load(p_mask + group * rows + b_i, mask=b_inside, other=0).to(tl.int1)
    b_weight = tl.where(b_valid, 1.0, 0.0)
    if WEIGHTED:
        b_weight = tl.load(p_weights + group * rows + b_i, mask=b_valid, other=0.0).to(tl.float32)
    total = tl.sum(b_weight)
    active = (tl.sum(b_valid.to(tl.int32)) >= 2) & (total > 0)
    b_valid = b_valid & active
    b_share = tl.where(b_valid, b_weight / tl.where(active, total, 1.0), 0.0)

    scale = tl.load(p_scale).to(tl.float32) * LOG2_E
    b_products = _products(
        p_a + group * a_group_stride, p_b + group * b_group_stride, b_i, b_i, b_valid, b_valid, width,
        a_stride, b_stride, STEP, PRECISION,
    )  # fmt: skip
    b_pair = b_valid[:, None] & b_valid[None, :]
    b_logits = tl.where(b_pair, scale * b_products, float("-inf"))
    b_row_top = tl.where(b_valid, tl.max(b_logits, axis=1), 0.0)
    b_column_top = tl.where(b_valid, tl.max(b_logits, axis=0), 0.0)
    b_row_sum = tl.where(b_valid, tl.sum(tl.exp2(b_logits - b_row_top[:, None]), axis=1), 1.0)
    b_column_sum = tl.where(b_valid, tl.sum(tl.exp2(b_logits - b_column_top[None, :]), axis=0), 1.0)
    b_row = b_row_top + tl.log2(b_row_sum)
    b_column = b_column_top + tl.log2(b_column_sum)
    b_own = tl.sum(tl.where((b_i[:, None] == b_i[None, :]) & b_pair, b_logits, 0.0), axis=1)

    # Two sums, for rows and columns lie in different threads.
    loss = tl.sum(b_share * (b_row / 2 - b_own)) + tl.sum(b_share * (b_column / 2))
    tl.store(p_loss + group, loss * LN_2)
    tl.store(p_active + group, active.to(tl.float32))
    tl.store(p_share + group * rows + b_i, b_share, mask=b_inside)
    tl.store(p_row + group * rows + b_i, tl.where(b_valid, b_row, float("inf")), mask=b_inside)
    tl.store(p_column + group * rows + b_i, tl.where(b_valid, b_column, float("inf")), mask=b_inside)


@triton.jit
def grouped_infonce_fwd_mean_kernel(p_loss, p_active, p_mean, p_part, groups, BLOCK: tl.constexpr):
    """The mean of the losses over the active groups, 0 where there is none, and what each counts in it."""
    b_loss = tl.zeros((BLOCK,), tl.float32)
    b_active = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, groups, BLOCK):
        b_group = start + tl.arange(0, BLOCK)
        b_loss += tl.load(p_loss + b_group, mask=b_group < groups, other=0.0)
        b_active += tl.load(p_active + b_group, mask=b_group < groups, other=0.0)
    part = 1 / tl.maximum(tl.sum(b_active), 1.0)
    tl.store(p_part, part)
    tl.store(p_mean, tl.sum(b_loss) * part)


@triton.jit
def _gradient(
    p_y, p_dx, b_grad, b_i, b_j, b_inside_i, b_valid_j, factor, width, y_stride,
    STEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dx_i = factor * sum_j grad_ij y_j."""
    for start in range(0, width, STEP):
        b_column_1D = (start + tl.arange(0, STEP))[None, :]
        b_inside_1D = b_column_1D < width
        b_y = tl.load(p_y + b_j[:, None] * y_stride + b_column_1D, mask=b_valid_j[:, None] & b_inside_1D, other=0.0)
        b_dx = factor * tl.dot(b_grad, b_y, input_precision=PRECISION)
        p_out = p_dx + b_i[:, None] * width + b_column_1D
        tl.store(p_out, b_dx.to(p_dx.dtype.element_ty), mask=b_inside_i[:, None] & b_inside_1D)


@triton.jit
def grouped_infonce_bwd_kernel(
    p_dloss, p_a, p_b, p_scale, p_share, p_row, p_column, p_part, p_da, p_db, p_dscale,
    rows, width, a_group_stride, a_stride, b_group_stride, b_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """A group's part of all three gradients; or, with four PARTS, the half of one side's, and its part of the scale's.

    x is the side that the rows of the matrix belong to, y the other.
    """
    group = (tl.program_id(0) // PARTS).to(tl.int64)
    part = tl.program_id(0) % PARTS
    p_x, p_y = p_a + group * a_group_stride, p_b + group * b_group_stride
    p_dx, p_dy = p_da + group * rows * width, p_db + group * rows * width
    x_stride, y_stride = a_stride, b_stride
    b_i = tl.arange(0, ROWS)
    if PARTS == 4:
        b_i += part % 2 * ROWS
        if part >= 2:
            p_x, p_y, p_dx, p_row, p_column = p_y, p_x, p_dy, p_column, p_row
            x_stride, y_stride = b_stride, a_stride
    b_j = tl.arange(0, COLUMNS)
    b_inside_i, b_inside_j = b_i < rows, b_j < rows
    b_row = tl.load(p_row + group * rows + b_i, mask=b_inside_i, other=float("inf"))
    b_column = tl.load(p_column + group * rows + b_j, mask=b_inside_j, other=float("inf"))
    b_share_i = tl.load(p_share + group * rows + b_i, mask=b_inside_i, other=0.0)
    b_share_j = tl.load(p_share + group * rows + b_j, mask=b_inside_j, other=0.0)
    b_valid_i, b_valid_j = b_row < float("inf"), b_column < float("inf")
    # The largest weight stays outside the matrix, whose entries 16 bits can then hold: they are within [-1, 1], however
    # many the rows and groups.
    top_share = tl.max(b_share_j)
    divisor = tl.where(top_share > 0, top_share, 1.0)
    factor = tl.load(p_dloss).to(tl.float32) * tl.load(p_part) * top_share
    scale = tl.load(p_scale).to(tl.float32)

    b_products = _products(
        p_x, p_y, b_i, b_j, b_valid_i, b_valid_j, width, x_stride, y_stride, STEP, PRECISION
    )  # fmt: skip
    # The weights go into the exponents: registers hold one number a column, not two. They are kept from log(0), for a
    # row of no weight is still a negative.
    b_row -= tl.log2(tl.maximum(b_share_i / divisor / 2, 1.2e-38))
    b_column -= tl.log2(tl.maximum(b_share_j / divisor / 2, 1.2e-38))
    b_logits = b_products * (scale * LOG2_E)
    b_grad = tl.exp2(b_logits - b_row[:, None]) + tl.exp2(b_logits - b_column[None, :])
    b_grad = tl.where((b_row < float("inf"))[:, None] & (b_column < float("inf"))[None, :], b_grad, 0.0)
    b_grad -= tl.where(b_i[:, None] == b_j[None, :], (b_share_i / divisor)[:, None], 0.0)
    if part < 2:  # the other side's halves have the same products
        tl.store(p_dscale + tl.program_id(0) - group * (PARTS // 2), factor * tl.sum(b_grad * b_products))

    b_grad = b_grad.to(p_a.dtype.element_ty)
    factor *= scale
    _gradient(p_y, p_dx, b_grad, b_i, b_j, b_inside_i, b_valid_j, factor, width, y_stride, STEP, PRECISION)
    if PARTS == 1:
        b_grad = tl.trans(b_grad)
        _gradient(p_x, p_dy, b_grad, b_j, b_i, b_inside_j, b_valid_i, factor, width, x_stride, STEP, PRECISION)


@triton.jit
def grouped_infonce_bwd_sum_kernel(p_parts, p_dscale, groups, BLOCK: tl.constexpr):
    b_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, groups, BLOCK):
        b_group = start + tl.arange(0, BLOCK)
        b_sum += tl.load(p_parts + b_group, mask=b_group < groups, other=0.0)
    tl.store(p_dscale, tl.sum(b_sum).to(p_dscale.dtype.element_ty))
