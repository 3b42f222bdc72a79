"""InfoNCE in Triton on one rectangular block of the logits, which are never stored as such.

A block is scale * a_MD b_KD^T. A batch on one GPU, its chunks and the shards of a ring are all sequences of blocks:
`fold_statistics` takes each into the running logsumexps, `gradient_block` turns each into the loss's derivative, and
`add_products` adds that up to both gradients. Each kernel computes one tile of the product in float32 registers and
reduces it there. Every reduction has a fixed order, so that results repeat bit for bit.

What the arguments share: a (M, D) and b (K, D) are contiguous and of one type; scale is a 0-dim float32 tensor; the
masks (M,) and (K,) are bool, False where a pair is dropped (None: nowhere), and dropped rows of a and b hold finite
numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from kernels.infonce.blocks import Statistics
from kernels.infonce.kernels import (
    info_nce_fold_kernel,
    info_nce_gradient_kernel,
    info_nce_restore_kernel,
    info_nce_statistics_kernel,
)
from kernels.infonce.plan import Footprint
from kernels.launch import architecture, launch

SMALL = 2048  # up to here there are too few large tiles to occupy a GPU
RESIDENT_WIDTH = 512  # the widest rows whose gradient stays in registers

# Most probabilities of a large batch are subnormal in float16. Gradients of logits lie in [-2, 2]: this factor leaves
# them below its largest number, 65504.
_HALF_FACTOR = 2.0**14
_NO_PAIR = -(2**30)  # an offset that takes every row past the left edge


class Saved(NamedTuple):
    """What a block keeps for the backward pass: E_ij = exp(S_ij - min(row_i, column_j)) in the inputs' type.

    row_i is the maximum of row i in its tile of edge x edge logits, column_j likewise: relative to the row's alone, the
    largest logit of a column could underflow. In float16 E carries `_HALF_FACTOR`.
    """

    exponential_MK: Tensor
    row_maximum_PM: Tensor  # P: the tiles abreast
    column_maximum_PK: Tensor  # P: the tiles above each other
    edge: int

    def block(self, rows: slice, columns: slice) -> Saved:
        """A rectangle that begins with a tile."""
        row_tiles = slice(rows.start // self.edge, triton.cdiv(rows.stop, self.edge))
        column_tiles = slice(columns.start // self.edge, triton.cdiv(columns.stop, self.edge))
        return Saved(
            self.exponential_MK[rows, columns],
            self.row_maximum_PM[column_tiles, rows],
            self.column_maximum_PK[row_tiles, columns],
            self.edge,
        )


def footprint(width: int, dtype: torch.dtype) -> Footprint:
    """Kept are E, padded, and in float32 the maximum of each row and column of a tile; of a block, its gradient.

    In the forward pass a block has, instead, a maximum and a sum of these rows and columns: 32 MiB in the largest.
    """
    edge = saved_edge(SMALL + 1, width, dtype)
    return Footprint(
        saved_bytes=dtype.itemsize * (1 + 1 / 128) + 2 * 4 / 64,
        block_bytes=dtype.itemsize * (1 + 1 / 128),
        row_block=64 * edge,
        column_block=32768,
        resident=width <= RESIDENT_WIDTH,
    )


def factor(dtype: torch.dtype) -> float:
    """What numbers that are kept in this type were multiplied with."""
    return _HALF_FACTOR if dtype == torch.float16 else 1.0


def gradient_factor(dtype: torch.dtype) -> float:
    """What to multiply products with gradient blocks with."""
    return 1 / factor(dtype)


def padded(columns: int) -> int:
    """Room for a row of a large block: unless it begins on 16 bytes, cuBLAS is slow and kernels need more registers."""
    return triton.cdiv(columns, 16) * 16 if columns > SMALL else columns


def saved_edge(count: int, width: int, dtype: torch.dtype) -> int:
    """Of the tiles that the logits of count pairs of this width are saved in."""
    return 128 if _large(count, width, dtype) else 64


def fold_statistics(
    a_MD: Tensor,
    b_KD: Tensor,
    scale: Tensor,
    row_mask_M: Tensor | None,
    column_mask_K: Tensor | None,
    row_statistics: Statistics,
    column_statistics: Statistics,
    saved: Saved | None = None,
) -> None:
    """Take the block into the running sums of its rows and of its columns, in place; and fill `saved`, if given."""
    rows, columns, width = len(a_MD), len(b_KD), a_MD.shape[1]
    tiles = _tiles(a_MD, b_KD, saved)
    row_tiles, column_tiles = triton.cdiv(rows, tiles.BLOCK_M), triton.cdiv(columns, tiles.BLOCK_K)
    device = a_MD.device
    row_sum_PM, column_sum_PK = (
        torch.empty(shape, device=device) for shape in ((column_tiles, rows), (row_tiles, columns))
    )
    if saved is None:
        exponential_MK, row_PM, column_PK = None, torch.empty_like(row_sum_PM), torch.empty_like(column_sum_PK)
    else:
        exponential_MK, row_PM, column_PK, _ = saved
    whole = rows % tiles.BLOCK_M == 0 and columns % tiles.BLOCK_K == 0
    launch(
        info_nce_statistics_kernel,
        (row_tiles * column_tiles,),
        a_MD,
        b_KD,
        scale,
        row_mask_M,
        column_mask_K,
        row_PM,
        row_sum_PM,
        column_PK,
        column_sum_PK,
        exponential_MK,
        rows,
        columns,
        width,
        row_PM.stride(0),
        column_PK.stride(0),
        0 if exponential_MK is None else exponential_MK.stride(0),
        FACTOR=factor(a_MD.dtype),
        WHOLE=whole and row_mask_M is None and column_mask_K is None,
        EVEN_STEPS=width % tiles.STEP == 0,
        **tiles._asdict(),
    )
    block = 64
    launch(
        info_nce_fold_kernel,
        (triton.cdiv(rows, block) + triton.cdiv(columns, block),),
        *row_statistics,
        row_PM,
        row_sum_PM,
        *column_statistics,
        column_PK,
        column_sum_PK,
        rows,
        columns,
        row_tiles,
        column_tiles,
        row_PM.stride(0),
        column_PK.stride(0),
        BLOCK=block,
        TILES=32,
        num_warps=4,
        num_stages=2,
    )


def gradient_block(
    a_MD: Tensor,
    b_KD: Tensor,
    scale: Tensor,
    row_mask_M: Tensor | None,
    column_mask_K: Tensor | None,
    row_lse_M: Tensor,
    column_lse_K: Tensor,
    offset: int | None,
) -> Tensor:
    """-> G (M, K) in the inputs' type; gradient_factor * G_ij = softmax_j S_ij + softmax_i S_ij - 2 [j = i + offset].

    It is 0 where the row or the column is dropped. offset None: no row of a is paired with one of b here.
    """
    rows, columns, width = len(a_MD), len(b_KD), a_MD.shape[1]
    tiles = _tiles(a_MD, b_KD)
    gradient_MK = _empty_block(rows, columns, a_MD)
    launch(
        info_nce_gradient_kernel,
        (triton.cdiv(rows, tiles.BLOCK_M) * triton.cdiv(columns, tiles.BLOCK_K),),
        a_MD,
        b_KD,
        scale,
        row_mask_M,
        column_mask_K,
        row_lse_M,
        column_lse_K,
        gradient_MK,
        rows,
        columns,
        width,
        _NO_PAIR if offset is None else offset,
        gradient_MK.stride(0),
        FACTOR=factor(a_MD.dtype),
        EVEN_STEPS=width % tiles.STEP == 0,
        **tiles._asdict(),
    )
    return gradient_MK


def restored_block(
    saved: Saved, row_mask_M: Tensor | None, row_lse_M: Tensor, column_lse_K: Tensor, offset: int
) -> Tensor:
    """`gradient_block` of what `fold_statistics` saved, without a product."""
    rows, columns = saved.exponential_MK.shape
    gradient_MK = _empty_block(rows, columns, saved.exponential_MK)
    block_m, block_k = 32, saved.edge
    launch(
        info_nce_restore_kernel,
        (triton.cdiv(rows, block_m) * triton.cdiv(columns, block_k),),
        *saved[:3],
        row_mask_M,
        row_lse_M,
        column_lse_K,
        gradient_MK,
        rows,
        columns,
        offset,
        saved.exponential_MK.stride(0),
        saved.row_maximum_PM.stride(0),
        saved.column_maximum_PK.stride(0),
        gradient_MK.stride(0),
        FACTOR=factor(gradient_MK.dtype),
        EDGE=saved.edge,
        BLOCK_M=block_m,
        BLOCK_K=block_k,
        num_warps=4,
        num_stages=2,
    )
    return gradient_MK


def add_products(
    gradient_MK: Tensor, a_MD: Tensor, b_KD: Tensor, a_gradient_MD: Tensor | None, b_gradient_KD: Tensor | None
) -> None:
    """a_gradient += G b and b_gradient += G^T a, of those that are given, float32, in place."""
    if a_gradient_MD is not None:
        _add_product(a_gradient_MD, gradient_MK, b_KD)
    if b_gradient_KD is not None:
        _add_product(b_gradient_KD, gradient_MK.T, a_MD)


def _add_product(sum_MD: Tensor, x_MK: Tensor, y_KD: Tensor) -> None:
    if x_MK.dtype == torch.float32:
        sum_MD.addmm_(x_MK, y_KD)
    elif x_MK.is_cuda:
        torch.addmm(sum_MD, x_MK, y_KD, out_dtype=torch.float32, out=sum_MD)
    else:  # a CPU, which has no product of 16-bit matrices with a float32 sum
        sum_MD.addmm_(x_MK.float(), y_KD.float())


class _Tiles(NamedTuple):
    """How a kernel cuts a block of logits, and its inner dimension into steps of STEP."""

    BLOCK_M: int
    BLOCK_K: int
    STEP: int
    num_warps: int
    num_stages: int
    GROUP: int = 8


def _large(extent: int, width: int, dtype: torch.dtype) -> bool:
    """Whether large tiles pay. They would spill registers in float32, and where rows do not divide into steps."""
    return extent > SMALL and dtype != torch.float32 and width % 32 == 0


def _tiles(a_MD: Tensor, b_KD: Tensor, saved: Saved | None = None) -> _Tiles:
    """The largest tiles that spill no register; which are fastest was not measured."""
    width, dtype = a_MD.shape[1], a_MD.dtype
    step = 128 // dtype.itemsize
    step_d = step if width % step == 0 else step // 2
    large = _large(max(len(a_MD), len(b_KD)), width, dtype) if saved is None else saved.edge == 128
    if not large:
        return _Tiles(64, 64, step_d, 4, 3)
    if saved is None and architecture(a_MD.device) == 90:
        return _Tiles(256, 128, step_d, 8, 4)  # 128 x 256 would spill registers in some versions of Triton
    return _Tiles(128, 128, step_d, 8, 4)


def _empty_block(rows: int, columns: int, like: Tensor) -> Tensor:
    return torch.empty(rows, padded(columns), dtype=like.dtype, device=like.device)[:, :columns]
