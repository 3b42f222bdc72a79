"""The Triton kernels of `gated_residual_norm`, and the operators that torch knows them by.

All are bound by memory. A program strides over tiles of a few whole rows, with weight and bias in registers. Backward,
it also keeps its sums for their gradients there, and a last kernel adds up what the programs leave, in their order. The
sum of residual and gated x is recomputed, not saved: x, residual and gate_logits are what its gradients need anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from kernels import philox, registry
from kernels.launch import architecture, launch

_ROWS_A_PROGRAM = 8  # at least: reading weight and bias, and writing their gradients, is then small beside the rows
# Multiprocessors of each architecture's largest GPU. Never counted on the GPU at hand: the number of programs decides
# in which order the gradients of weight and bias are summed.
_MULTIPROCESSORS = {80: 108, 90: 132, 100: 148}


@triton.jit
def _keep(seed, b_row_R1, threshold, COLUMNS: tl.constexpr):
    """`philox.row_keep_mask` of these rows: (R, COLUMNS), one call for eight columns."""
    CALLS: tl.constexpr = COLUMNS // 8
    ROWS: tl.constexpr = b_row_R1.shape[0]
    b_call_RC = tl.broadcast_to(tl.arange(0, CALLS)[None, :], (ROWS, CALLS)).to(tl.uint32)
    b_low_RC = tl.broadcast_to((b_row_R1 & 0xFFFFFFFF).to(tl.uint32), (ROWS, CALLS))
    b_high_RC = tl.broadcast_to((b_row_R1 >> 32).to(tl.uint32), (ROWS, CALLS))
    b_w0, b_w1, b_w2, b_w3 = tl.philox(seed, b_call_RC, b_low_RC, b_high_RC, tl.zeros_like(b_call_RC), n_rounds=7)
    # join adds a last axis of two: after it the axes are (word // 2, word % 2, half).
    b_words = tl.join(tl.join(b_w0, b_w2), tl.join(b_w1, b_w3))
    b_halves = tl.join(b_words & 0xFFFF, b_words >> 16)
    return tl.reshape(b_halves, (ROWS, COLUMNS)).to(tl.int32) >= threshold


@triton.jit
def _tile(
    p_x, p_residual, p_gate, seed, b_row_R1, b_inside_RC, b_column_1C,
    x_stride, residual_stride, gate_stride, threshold, keep_scale, GATED: tl.constexpr, DROPPING: tl.constexpr,
):  # fmt: skip
    """What a tile's rows sum to, and what it is made of: y = residual + factor * x, factor = c keep sigmoid."""
    b_x = tl.load(p_x + b_row_R1 * x_stride + b_column_1C, mask=b_inside_RC, other=0.0).to(tl.float32)
    b_y = tl.load(p_residual + b_row_R1 * residual_stride + b_column_1C, mask=b_inside_RC, other=0.0).to(tl.float32)
    b_open = tl.full(b_x.shape, 1.0, tl.float32)
    if GATED:
        b_gate = tl.load(p_gate + b_row_R1 * gate_stride + b_column_1C, mask=b_inside_RC, other=0.0)
        b_open = tl.sigmoid(b_gate.to(tl.float32))
    b_factor = b_open
    if DROPPING:
        b_factor = tl.where(_keep(seed, b_row_R1, threshold, b_x.shape[1]), b_open * keep_scale, 0.0)
    return b_y + b_factor * b_x, b_x, b_open, b_factor


@triton.jit
def gated_norm_fwd_kernel(
    p_x, p_residual, p_gate, p_weight, p_bias, p_seed, p_out, p_mean, p_rstd,
    rows, x_stride, residual_stride, gate_stride, eps, threshold, keep_scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GATED: tl.constexpr, DROPPING: tl.constexpr,
):  # fmt: skip
    """A program norms every num_programs-th tile of ROWS rows, which lie in registers as ROWS x COLUMNS."""
    b_column_1C = tl.arange(0, COLUMNS)[None, :]
    b_inside_1C = b_column_1C < WIDTH
    b_weight = tl.load(p_weight + b_column_1C, mask=b_inside_1C, other=0.0).to(tl.float32)
    b_bias = tl.load(p_bias + b_column_1C, mask=b_inside_1C, other=0.0).to(tl.float32)
    seed = tl.load(p_seed) if DROPPING else 0
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        b_row_R1 = (tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        b_inside_RC = (b_row_R1 < rows) & b_inside_1C
        b_y, _x, _open, _factor = _tile(
            p_x, p_residual, p_gate, seed, b_row_R1, b_inside_RC, b_column_1C,
            x_stride, residual_stride, gate_stride, threshold, keep_scale, GATED, DROPPING,
        )  # fmt: skip
        b_mean_R1 = tl.sum(b_y, axis=1, keep_dims=True) / WIDTH
        b_centred = tl.where(b_inside_1C, b_y - b_mean_R1, 0.0)
        b_rstd_R1 = tl.rsqrt(tl.sum(b_centred * b_centred, axis=1, keep_dims=True) / WIDTH + eps)
        b_out = b_centred * b_rstd_R1 * b_weight + b_bias
        tl.store(p_out + b_row_R1 * WIDTH + b_column_1C, b_out.to(p_out.dtype.element_ty), mask=b_inside_RC)
        tl.store(p_mean + b_row_R1, b_mean_R1, mask=b_row_R1 < rows)
        tl.store(p_rstd + b_row_R1, b_rstd_R1, mask=b_row_R1 < rows)


@triton.jit
def gated_norm_bwd_kernel(
    p_dout, p_x, p_residual, p_gate, p_weight, p_seed, p_mean, p_rstd, p_dx, p_dresidual, p_dgate, p_partials,
    rows, dout_stride, x_stride, residual_stride, gate_stride, threshold, keep_scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GATED: tl.constexpr, DROPPING: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """A program takes every num_programs-th tile; partials (programs, 2, WIDTH) are its dweight and dbias."""
    b_column_1C = tl.arange(0, COLUMNS)[None, :]
    b_inside_1C = b_column_1C < WIDTH
    b_weight = tl.load(p_weight + b_column_1C, mask=b_inside_1C, other=0.0).to(tl.float32)
    seed = tl.load(p_seed) if DROPPING else 0
    b_dweight = tl.zeros((ROWS, COLUMNS), tl.float32)
    b_dbias = tl.zeros((ROWS, COLUMNS), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        b_row_R1 = (tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        b_inside_RC = (b_row_R1 < rows) & b_inside_1C
        b_y, b_x, b_open, b_factor = _tile(
            p_x, p_residual, p_gate, seed, b_row_R1, b_inside_RC, b_column_1C,
            x_stride, residual_stride, gate_stride, threshold, keep_scale, GATED, DROPPING,
        )  # fmt: skip
        b_dout = tl.load(p_dout + b_row_R1 * dout_stride + b_column_1C, mask=b_inside_RC, other=0.0).to(tl.float32)
        b_mean_R1 = tl.load(p_mean + b_row_R1, mask=b_row_R1 < rows, other=0.0)
        b_rstd_R1 = tl.load(p_rstd + b_row_R1, mask=b_row_R1 < rows, other=0.0)

        b_normed = tl.where(b_inside_1C, (b_y - b_mean_R1) * b_rstd_R1, 0.0)
        b_dweight += b_dout * b_normed
        b_dbias += b_dout
        b_dnormed = b_dout * b_weight
        b_along_R1 = tl.sum(b_dnormed * b_normed, axis=1, keep_dims=True) / WIDTH
        b_shift_R1 = tl.sum(b_dnormed, axis=1, keep_dims=True) / WIDTH
        b_dy = (b_dnormed - b_shift_R1 - b_along_R1 * b_normed) * b_rstd_R1

        b_offset = b_row_R1 * WIDTH + b_column_1C
        tl.store(p_dresidual + b_offset, b_dy.to(p_dresidual.dtype.element_ty), mask=b_inside_RC)
        if GATED or DROPPING:
            b_dx = b_dy * b_factor
            tl.store(p_dx + b_offset, b_dx.to(p_dx.dtype.element_ty), mask=b_inside_RC)
            if GATED:
                b_dgate = b_dx * b_x * (1 - b_open)
                tl.store(p_dgate + b_offset, b_dgate.to(p_dgate.dtype.element_ty), mask=b_inside_RC)

    p_partial = p_partials + tl.program_id(0) * 2 * WIDTH + b_column_1C
    tl.store(p_partial, tl.sum(b_dweight, axis=0, keep_dims=True), mask=b_inside_1C)
    tl.store(p_partial + WIDTH, tl.sum(b_dbias, axis=0, keep_dims=True), mask=b_inside_1C)


@triton.jit
def gated_norm_bwd_sum_kernel(
    p_partials, p_dweight, p_dbias, programs, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sum partials (programs, 2, WIDTH) over the programs, ROWS of them at a time, for COLUMNS columns."""
    b_column_1C = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    b_inside_1C = b_column_1C < WIDTH
    b_dweight = tl.zeros((ROWS, COLUMNS), tl.float32)
    b_dbias = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, programs, ROWS):
        b_row_R1 = (start + tl.arange(0, ROWS))[:, None]
        b_inside_RC = (b_row_R1 < programs) & b_inside_1C
        p_row = p_partials + b_row_R1 * 2 * WIDTH + b_column_1C
        b_dweight += tl.load(p_row, mask=b_inside_RC, other=0.0)
        b_dbias += tl.load(p_row + WIDTH, mask=b_inside_RC, other=0.0)
    b_dweight = tl.sum(b_dweight, axis=0, keep_dims=True)
    b_dbias = tl.sum(b_dbias, axis=0, keep_dims=True)
    tl.store(p_dweight + b_column_1C, b_dweight.to(p_dweight.dtype.element_ty), mask=b_inside_1C)
    tl.store(p_dbias + b_column_1C, b_dbias.to(p_dbias.dtype.element_ty), mask=b_inside_1C)


def _forward_tile(width: int, element_size: int, arch: int) -> tuple[int, int, int]:
    """Rows and columns of a tile, and warps: 64 bytes of each input a thread, or what spills no register.

    As many warps as hold a row once, 16 bytes a thread, where that is possible: weight and bias then lie in the threads
    that need them.
    """
    columns = max(triton.next_power_of_2(width), 8)
    warps = min(max(columns * element_size // 512, 1), 8)
    elements = warps * 32 * 64 // element_size
    if arch >= 100 and width == columns >= 512:
        elements //= 2
    return max(elements // columns, 1), columns, warps


def _backward_tile(width: int, arch: int) -> tuple[int, int, int]:
    """Rows and columns of a tile, and warps: eight elements a thread, for further tiles are under way as well.

    On 10.0 it is four: more spill registers at some widths.
    """
    columns = max(triton.next_power_of_2(width), 8)
    warps = min(max(columns // 256, 4), 16)
    return max(warps * 32 * (8 if arch < 100 else 4) // columns, 1), columns, warps


def _stages(width: int, columns: int, element_size: int, arch: int) -> int:
    """How many tiles are under way at a time, backward: as many as registers and shared memory hold.

    Rows that do not all begin at multiples of 16 elements take more addresses, and those of 16-bit elements cannot be
    copied past registers.
    """
    if columns >= 2048 and width % 16 != 0:
        return 1
    return 3 if columns * element_size <= (8192 if arch < 100 else 4096) else 2


def _programs(rows: int, tile_rows: int) -> int:
    return triton.cdiv(rows, max(_ROWS_A_PROGRAM, tile_rows))


def _most_backward_programs(device: torch.device, warps: int) -> int:
    """So many that 16 warps are on each multiprocessor."""
    arch = architecture(device)
    return _MULTIPROCESSORS[max(known for known in _MULTIPROCESSORS if known <= arch)] * (16 // warps)


def _as_rows(x: torch.Tensor) -> torch.Tensor:
    """(..., D) -> (M, D) with neighbouring columns side by side: a view wherever one can be had."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def forward(
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight_D: torch.Tensor,
    bias_D: torch.Tensor,
    eps: float,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output (..., D) and its rows' mean and 1 / sqrt(variance + eps), (M,) float32 each."""
    out, mean_M, rstd_M = _empty_outputs(x)
    x_MD, residual_MD = _as_rows(x), _as_rows(residual)
    gate_MD = None if gate_logits is None else _as_rows(gate_logits)
    rows, width = x_MD.shape
    tile_rows, columns, warps = _forward_tile(width, x.element_size(), architecture(x.device))
    launch(
        gated_norm_fwd_kernel, (_programs(rows, tile_rows),),
        x_MD, residual_MD, gate_MD, weight_D.contiguous(), bias_D.contiguous(), seed, out, mean_M, rstd_M,
        rows, x_MD.stride(0), residual_MD.stride(0), 0 if gate_MD is None else gate_MD.stride(0),
        eps, philox.threshold(dropout_p), philox.keep_scale(dropout_p),
        WIDTH=width, ROWS=tile_rows, COLUMNS=columns, GATED=gate_MD is not None, DROPPING=seed is not None,
        num_warps=warps, num_stages=1,
    )  # fmt: skip
    return out, mean_M, rstd_M


def backward(
    dout: torch.Tensor,
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight_D: torch.Tensor,
    bias_D: torch.Tensor,
    mean_M: torch.Tensor,
    rstd_M: torch.Tensor,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of x, residual, gate_logits, weight and bias, each of its input's type.

    What is not there is (0,): that of gate_logits without them, and x's where it equals the residual's, which is
    without gate and dropout.
    """
    dx, dresidual, dgate, dweight_D, dbias_D = _empty_gradients(
        dout, x, residual, gate_logits, weight_D, bias_D, mean_M, rstd_M, dropout_p, seed
    )
    dout_MD, x_MD, residual_MD = _as_rows(dout), _as_rows(x), _as_rows(residual)
    gate_MD = None if gate_logits is None else _as_rows(gate_logits)
    rows, width = x_MD.shape
    tile_rows, columns, warps = _backward_tile(width, architecture(x.device))
    programs = min(_programs(rows, tile_rows), _most_backward_programs(x.device, warps))
    partials_P2D = x.new_empty((programs, 2, width), dtype=torch.float32)
    launch(
        gated_norm_bwd_kernel, (programs,),
        dout_MD, x_MD, residual_MD, gate_MD, weight_D.contiguous(), seed, mean_M, rstd_M,
        dx, dresidual, dgate, partials_P2D,
        rows, dout_MD.stride(0), x_MD.stride(0), residual_MD.stride(0), 0 if gate_MD is None else gate_MD.stride(0),
        philox.threshold(dropout_p), philox.keep_scale(dropout_p),
        WIDTH=width, ROWS=tile_rows, COLUMNS=columns, GATED=gate_MD is not None, DROPPING=seed is not None,
        STAGES=_stages(width, columns, x.element_size(), architecture(x.device)), num_warps=warps, num_stages=1,
        # All that 16 warps can have: left to itself, the compiler may rather spill them for a second program.
        maxnreg=128 if warps == 16 else None,
    )  # fmt: skip
    launch(
        gated_norm_bwd_sum_kernel, (triton.cdiv(width, 8),), partials_P2D, dweight_D, dbias_D, programs,
        WIDTH=width, ROWS=256, COLUMNS=8, num_warps=8, num_stages=1,
    )  # fmt: skip
    return dx, dresidual, dgate, dweight_D, dbias_D


def _empty_outputs(x: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = x.shape[:-1].numel()
    mean_M, rstd_M = (x.new_empty((rows,), dtype=torch.float32) for _ in range(2))
    return x.new_empty(x.shape), mean_M, rstd_M


def _empty_gradients(
    _dout: torch.Tensor,
    x: torch.Tensor,
    _residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight_D: torch.Tensor,
    bias_D: torch.Tensor,
    *others: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    seed = others[-1]
    return (
        x.new_empty((0,) if gate_logits is None and seed is None else x.shape),
        x.new_empty(x.shape),
        x.new_empty((0,) if gate_logits is None else x.shape),
        weight_D.new_empty(weight_D.shape),
        bias_D.new_empty(bias_D.shape),
    )


def _no_matrix_products(*_: Any, **__: Any) -> int:
    return 0  # what torch counts for element-wise operators


_forward_op = registry.define(
    "gated_residual_norm(Tensor x, Tensor residual, Tensor? gate_logits, Tensor weight, Tensor bias, float eps, "
    "float dropout_p, Tensor? seed) -> (Tensor, Tensor, Tensor)",
    forward,
    _empty_outputs,
    _no_matrix_products,
)
_backward_op = registry.define(
    "gated_residual_norm_backward(Tensor dout, Tensor x, Tensor residual, Tensor? gate_logits, Tensor weight, "
    "Tensor bias, Tensor mean, Tensor rstd, float dropout_p, Tensor? seed) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    backward,
    _empty_gradients,
    _no_matrix_products,
)


class _GatedResidualNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        residual: torch.Tensor,
        gate_logits: torch.Tensor | None,
        weight_D: torch.Tensor,
        bias_D: torch.Tensor,
        eps: float,
        dropout_p: float,
        seed: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with registry.below_autograd():
            out, mean_M, rstd_M = _forward_op(x, residual, gate_logits, weight_D, bias_D, eps, dropout_p, seed)
        ctx.save_for_backward(x, residual, gate_logits, weight_D, bias_D, mean_M, rstd_M, seed)
        ctx.dropout_p = dropout_p
        ctx.mark_non_differentiable(mean_M, rstd_M)
        return out, mean_M, rstd_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: torch.Tensor, _mean: Any, _rstd: Any) -> tuple[torch.Tensor | None, ...]:
        x, residual, gate_logits, weight_D, bias_D, mean_M, rstd_M, seed = ctx.saved_tensors
        dx, dresidual, dgate, dweight_D, dbias_D = _backward_op(
            dout, x, residual, gate_logits, weight_D, bias_D, mean_M, rstd_M, ctx.dropout_p, seed
        )
        if gate_logits is None:
            dgate = None
            dx = dresidual if seed is None else dx
        return dx, dresidual, dgate, dweight_D, dbias_D, None, None, None


registry.differentiate(_forward_op, _GatedResidualNorm)


def gated_residual_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight_D: torch.Tensor,
    bias_D: torch.Tensor,
    eps: float,
    dropout_p: float,
    seed: int | torch.Tensor,
) -> torch.Tensor:
    """`kernels.gated_residual_norm` for rows of float16, bfloat16 or float32, of a width that fits."""
    seed_tensor = None
    if philox.threshold(dropout_p) > 0:
        # A tensor, so that a CUDA graph can be replayed with another seed.
        seed_tensor = (
            seed if isinstance(seed, torch.Tensor) else torch.full((), seed, dtype=torch.int64, device=x.device)
        )
    return _forward_op(x, residual, gate_logits, weight_D, bias_D, eps, dropout_p, seed_tensor)[0]
