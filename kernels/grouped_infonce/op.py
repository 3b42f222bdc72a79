"""`grouped_info_nce` as registered operators: the tiles of its kernels, and the derivative of one as the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton

from kernels import registry
from kernels.grouped_infonce.kernels import (
    grouped_infonce_bwd_kernel,
    grouped_infonce_bwd_sum_kernel,
    grouped_infonce_fwd_kernel,
    grouped_infonce_fwd_mean_kernel,
)
from kernels.launch import architecture, launch


class Config(NamedTuple):
    """Rows of a and columns of the width at a time. Products of 16-bit inputs have one precision, whatever it says."""

    rows: int
    step: int
    warps: int
    stages: int
    precision: str = "tf32x3"


# What compiles without spilling registers, which hold all N x N logits. Elements that are not loaded 16 bytes at a time
# take registers for their addresses, one by one: a step has half as many then.


def _forward_config(rows: int, width: int, dtype: torch.dtype, arch: int) -> Config:
    tile, share = _tile_rows(rows), 1 if width % 16 == 0 else 2
    if dtype == torch.float32:
        if tile == 128:
            # Of fewer warps Triton 3.7.1 makes, for sm_100, a product in plain TF32.
            return Config(tile, 16, 16, 1, "ieee")
        return Config(tile, 16, 8, 2) if tile == 64 else Config(tile, 32 // share, 4, 2)
    if tile == 128 and arch >= 100:
        # Out of sm_100's tensor memory, which 16 warps do not use, a thread has a row, and spills the columns' sums.
        return Config(tile, 16, 16, 3)
    return Config(tile, 64 // share, 4 if tile < (64 if arch >= 100 else 128) else 8, 3)


def _backward_config(rows: int, width: int, dtype: torch.dtype, arch: int) -> Config:
    """With half the rows, four programs share a group."""
    tile, share = _tile_rows(rows), 1 if width % 16 == 0 else 2
    if dtype == torch.float32:
        if tile == 128:
            return Config(64, 16, 8, 2)
        if tile == 64:
            return Config(tile, 16, 8, 2, "ieee" if arch < 90 else "tf32x3")
        return Config(tile, 32 // share, 4, 2)
    if tile == 128:
        # Whole groups on 10.0, and steps of 32 or three stages on 9.0, spill in one version of Triton or another.
        if arch >= 100:
            return Config(64, 16, 8, 3)
        return Config(tile, 16, 8, 2) if arch == 90 else Config(tile, 32 // share, 8, 3)
    return Config(tile, 64 // share, 4, 3)


def _tile_rows(rows: int) -> int:
    return max(triton.next_power_of_2(rows), 16)


def forward(
    a_GND: torch.Tensor,
    b_GND: torch.Tensor,
    scale: torch.Tensor,
    mask_GN: torch.Tensor | None,
    weights_GN: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss, and what backward needs, all float32.

    That is each row's weight within its group (G, N), its row's and its column's logsumexp in bits (G, N), and 1 / the
    number of groups that take part. Where a row does not, its weight is 0 and its logsumexps are +inf.
    """
    loss, share_GN, row_GN, column_GN, part = _empty_outputs(a_GND)
    a_GND, b_GND = _addressable(a_GND), _addressable(b_GND)
    groups, rows, width = a_GND.shape
    loss_G, active_G = (a_GND.new_empty((groups,), dtype=torch.float32) for _ in range(2))
    config = _forward_config(rows, width, a_GND.dtype, architecture(a_GND.device))
    launch(
        grouped_infonce_fwd_kernel, (groups,),
        a_GND, b_GND, scale, None if mask_GN is None else mask_GN.contiguous(),
        None if weights_GN is None else weights_GN.contiguous(), share_GN, row_GN, column_GN, loss_G, active_G,
        rows, width, a_GND.stride(0), a_GND.stride(1), b_GND.stride(0), b_GND.stride(1),
        ROWS=config.rows, STEP=config.step, PRECISION=config.precision,
        MASKED=mask_GN is not None, WEIGHTED=weights_GN is not None,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    launch(
        grouped_infonce_fwd_mean_kernel, (1,), loss_G, active_G, loss, part, groups, BLOCK=1024,
        num_warps=4, num_stages=1,
    )  # fmt: skip
    return loss, share_GN, row_GN, column_GN, part


def backward(
    dloss: torch.Tensor,
    a_GND: torch.Tensor,
    b_GND: torch.Tensor,
    scale: torch.Tensor,
    share_GN: torch.Tensor,
    row_GN: torch.Tensor,
    column_GN: torch.Tensor,
    part: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of a, b and scale, each of its input's shape and type."""
    da_GND, db_GND, dscale = _empty_gradients(dloss, a_GND, b_GND, scale)
    a_GND, b_GND = _addressable(a_GND), _addressable(b_GND)
    groups, rows, width = a_GND.shape
    config = _backward_config(rows, width, a_GND.dtype, architecture(a_GND.device))
    parts = 1 if config.rows >= rows else 4
    partials = a_GND.new_empty((groups * max(parts // 2, 1),), dtype=torch.float32)
    launch(
        grouped_infonce_bwd_kernel, (groups * parts,),
        dloss, a_GND, b_GND, scale, share_GN, row_GN, column_GN, part, da_GND, db_GND, partials,
        rows, width, a_GND.stride(0), a_GND.stride(1), b_GND.stride(0), b_GND.stride(1),
        ROWS=config.rows, COLUMNS=config.rows * (2 if parts == 4 else 1), STEP=config.step, PRECISION=config.precision,
        PARTS=parts,
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    launch(
        grouped_infonce_bwd_sum_kernel, (1,), partials, dscale, partials.numel(), BLOCK=1024, num_warps=4, num_stages=1
    )
    return da_GND, db_GND, dscale


def _addressable(x_GND: torch.Tensor) -> torch.Tensor:
    """As the kernels need it: rows without gaps, and 32-bit offsets within a group."""
    _, rows, width = x_GND.shape
    return x_GND if x_GND.stride(2) == 1 and rows * x_GND.stride(1) + width < 2**31 else x_GND.contiguous()


def _empty_outputs(
    a_GND: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    shapes = ((), a_GND.shape[:2], a_GND.shape[:2], a_GND.shape[:2], ())
    loss, share_GN, row_GN, column_GN, part = (a_GND.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return loss, share_GN, row_GN, column_GN, part


def _empty_gradients(
    _dloss: torch.Tensor, a_GND: torch.Tensor, b_GND: torch.Tensor, scale: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return a_GND.new_empty(a_GND.shape), b_GND.new_empty(b_GND.shape), scale.new_empty(scale.shape)


def _forward_flops(a_shape: torch.Size, *_: Any, **__: Any) -> int:
    groups, rows, width = a_shape
    return 2 * groups * rows * rows * width


def _backward_flops(_dloss_shape: torch.Size, a_shape: torch.Size, *_: Any, **__: Any) -> int:
    return 3 * _forward_flops(a_shape)


_forward_op = registry.define(
    "grouped_info_nce(Tensor a, Tensor b, Tensor scale, Tensor? mask, Tensor? weights) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    forward,
    _empty_outputs,
    _forward_flops,
)
_backward_op = registry.define(
    "grouped_info_nce_backward(Tensor dloss, Tensor a, Tensor b, Tensor scale, Tensor share, Tensor row, "
    "Tensor column, Tensor part) -> (Tensor, Tensor, Tensor)",
    backward,
    _empty_gradients,
    _backward_flops,
)


class _GroupedInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_GND: torch.Tensor,
        b_GND: torch.Tensor,
        scale: torch.Tensor,
        mask_GN: torch.Tensor | None,
        weights_GN: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        with registry.below_autograd():
            loss, *saved = _forward_op(a_GND, b_GND, scale, mask_GN, weights_GN)
        ctx.save_for_backward(a_GND, b_GND, scale, *saved)
        ctx.mark_non_differentiable(*saved)
        return loss, *saved

    @staticmethod
    @registry.differentiable_once
    def backward(ctx: Any, dloss: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        return *_backward_op(dloss, *ctx.saved_tensors), None, None


registry.differentiate(_forward_op, _GroupedInfoNCE)


def grouped_info_nce(
    a_GND: torch.Tensor,
    b_GND: torch.Tensor,
    scale: float | torch.Tensor,
    mask_GN: torch.Tensor | None,
    weights_GN: torch.Tensor | None,
) -> torch.Tensor:
    """`kernels.grouped_info_nce` for groups of float16, bfloat16 or float32 rows that fit a program."""
    if not isinstance(scale, torch.Tensor):
        scale = torch.full((), scale, dtype=torch.float32, device=a_GND.device)
    return _forward_op(a_GND, b_GND, scale, mask_GN, weights_GN)[0]
