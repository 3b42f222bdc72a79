"""`gated_residual_norm` as registered operators: the tiles of its kernels, and the derivative of one as the other."""

from __future__ import annotations

from typing import Any

import torch
import triton

from kernels import philox, registry
from kernels.gated_norm.kernels import gated_norm_bwd_kernel, gated_norm_bwd_sum_kernel, gated_norm_fwd_kernel
from kernels.launch import architecture, launch

_ROWS_A_PROGRAM = 8  # at least: reading weight and bias, and writing their gradients, is then small beside the rows
# Multiprocessors of each architecture's largest GPU. Never counted on the GPU at hand: the number of programs decides
# in which order the gradients of weight and bias are summed.
_MULTIPROCESSORS = {80: 108, 90: 132, 100: 148}


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
    @registry.differentiable_once
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
    seed_tensor = philox.seed_tensor(dropout_p, seed, x.device)
    return _forward_op(x, residual, gate_logits, weight_D, bias_D, eps, dropout_p, seed_tensor)[0]
