"""One rectangle of InfoNCE's logits at a time: what the loss on one device and the ring over several are built from.

With S_ij = scale * a_i . b_j, a row's (and a column's) log-sum-exp is kept as a running pair (reference, sum) with
sum = sum_j exp(S_ij - reference_i) over the columns seen so far. The reference is the running maximum: the largest term
of every row and of every column is 1, so that nothing overflows and nothing that matters underflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from kernels.infonce.plan import Footprint

Statistics = tuple[Tensor, Tensor]  # (reference_N, sum_N)


class Blocks(Protocol):
    """The work on a block of M rows and K columns. A mask's rows or columns (True = kept, None = all) must hold finite
    numbers in a and b where it drops them."""

    def fold_statistics(
        self,
        a_MD: Tensor,
        b_KD: Tensor,
        scale: Tensor,
        row_mask_M: Tensor | None,
        column_mask_K: Tensor | None,
        row_statistics: Statistics,
        column_statistics: Statistics,
    ) -> None:
        """Take the block into the running statistics of its rows and of its columns, in place."""

    def gradient_block(
        self,
        a_MD: Tensor,
        b_KD: Tensor,
        scale: Tensor,
        row_mask_M: Tensor | None,
        column_mask_K: Tensor | None,
        row_lse_M: Tensor,
        column_lse_K: Tensor,
        offset: int | None,
    ) -> Tensor:
        """G_ij = exp(S_ij - row_lse_i) + exp(S_ij - column_lse_j) - 2 [j = i + offset], valid until the next call.

        It is 2 n times the loss's derivative by S over n pairs, over `gradient_factor`. offset None: no pair in here.
        """

    def add_products(
        self,
        gradient_MK: Tensor,
        a_MD: Tensor,
        b_KD: Tensor,
        a_gradient_MD: Tensor | None,
        b_gradient_KD: Tensor | None,
    ) -> None:
        """a_gradient += G b and b_gradient += G^T a, of those that are asked for, in place."""

    def gradient_factor(self, dtype: torch.dtype) -> float:
        """What to multiply the products with, for inputs of this type."""


class TorchBlocks:
    """The blocks in PyTorch, computed in `dtype`, in two buffers of `largest_block` logits that all of them share.

    Fresh memory for each block would cost more in page faults than the exponentials do.
    """

    def __init__(self, largest_block: int, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.buffers = torch.empty(2, largest_block, dtype=dtype, device=device)

    def _logits(
        self,
        a_MD: Tensor,
        b_KD: Tensor,
        scale: Tensor,
        row_mask_M: Tensor | None,
        column_mask_K: Tensor | None,
    ) -> Tensor:
        """S, less a number in dropped rows and columns that takes them out of every other one's sums.

        It is finite, so that a row that loses all its columns stays finite too.
        """
        logits_MK = self._buffer(0, len(a_MD), len(b_KD))
        torch.mm(a_MD.to(self.dtype) * scale, b_KD.to(self.dtype).T, out=logits_MK)
        if row_mask_M is not None:
            logits_MK += self._bias(row_mask_M)[:, None]
        if column_mask_K is not None:
            logits_MK += self._bias(column_mask_K)
        return logits_MK

    def fold_statistics(
        self,
        a_MD: Tensor,
        b_KD: Tensor,
        scale: Tensor,
        row_mask_M: Tensor | None,
        column_mask_K: Tensor | None,
        row_statistics: Statistics,
        column_statistics: Statistics,
    ) -> None:
        logits_MK = self._logits(a_MD, b_KD, scale, row_mask_M, column_mask_K)
        for dim, (reference, total) in ((1, row_statistics), (0, column_statistics)):
            raised = torch.maximum(reference, logits_MK.amax(dim))
            total.mul_(reference.sub_(raised).exp_())
            terms_MK = torch.sub(logits_MK, raised.unsqueeze(dim), out=self._buffer(1, *logits_MK.shape)).exp_()
            total.add_(terms_MK.sum(dim))
            reference.copy_(raised)

    def gradient_block(
        self,
        a_MD: Tensor,
        b_KD: Tensor,
        scale: Tensor,
        row_mask_M: Tensor | None,
        column_mask_K: Tensor | None,
        row_lse_M: Tensor,
        column_lse_K: Tensor,
        offset: int | None,
    ) -> Tensor:
        logits_MK = self._logits(a_MD, b_KD, scale, row_mask_M, column_mask_K)
        by_column_MK = torch.sub(logits_MK, column_lse_K, out=self._buffer(1, *logits_MK.shape)).exp_()
        gradient_MK = logits_MK.sub_(row_lse_M[:, None]).exp_().add_(by_column_MK)
        if offset is not None and -len(a_MD) < offset < len(b_KD):
            gradient_MK.diagonal(offset).sub_(2)
        return gradient_MK

    def add_products(
        self,
        gradient_MK: Tensor,
        a_MD: Tensor,
        b_KD: Tensor,
        a_gradient_MD: Tensor | None,
        b_gradient_KD: Tensor | None,
    ) -> None:
        if a_gradient_MD is not None:
            a_gradient_MD.addmm_(gradient_MK, b_KD.to(self.dtype))
        if b_gradient_KD is not None:
            b_gradient_KD.addmm_(gradient_MK.T, a_MD.to(self.dtype))

    def gradient_factor(self, dtype: torch.dtype) -> float:
        return 1.0

    def _bias(self, mask_N: Tensor) -> Tensor:
        return self.buffers.new_zeros(len(mask_N)).masked_fill_(~mask_N, torch.finfo(self.dtype).min / 4)

    def _buffer(self, index: int, rows: int, columns: int) -> Tensor:
        return self.buffers[index, : rows * columns].view(rows, columns)


def torch_footprint(dtype: torch.dtype) -> Footprint:
    """Of the PyTorch path in `dtype`.

    With the logits kept by autograd, the backward pass holds up to 5.3 matrices of their size. Above 1024 pairs on a
    CPU core that is also the slower way. 1024 x 1024 is the fastest block there of those between 512 x 512 and
    2048 x 1024, by a few percent.
    """
    size = dtype.itemsize
    return Footprint(saved_bytes=5.5 * size, block_bytes=2 * size, row_block=1024, column_block=1024, save_up_to=1024)


def statistics(count: int, dtype: torch.dtype, device: torch.device) -> Statistics:
    """Of `count` rows that have seen no column. The first reference is finite: minus infinity less itself is not 0."""
    reference_N = torch.full((count,), torch.finfo(dtype).min, dtype=dtype, device=device)
    return reference_N, torch.zeros(count, dtype=dtype, device=device)


def logsumexp(statistics_N: Statistics) -> Tensor:
    reference_N, total_N = statistics_N
    return reference_N + total_N.log()


def fold_rectangle(
    blocks: Blocks,
    shape: tuple[int, int],
    a_MD: Tensor,
    b_KD: Tensor,
    scale: Tensor,
    row_mask_M: Tensor | None,
    column_mask_K: Tensor | None,
    row_statistics: Statistics,
    column_statistics: Statistics,
) -> None:
    """`fold_statistics` of any rectangle, in blocks of at most `shape`."""
    for m, k in _tiles(len(a_MD), len(b_KD), shape):
        row = row_statistics[0][m], row_statistics[1][m]
        column = column_statistics[0][k], column_statistics[1][k]
        blocks.fold_statistics(a_MD[m], b_KD[k], scale, _rows(row_mask_M, m), _rows(column_mask_K, k), row, column)


def add_rectangle_gradients(
    blocks: Blocks,
    shape: tuple[int, int],
    a_MD: Tensor,
    b_KD: Tensor,
    scale: Tensor,
    row_mask_M: Tensor | None,
    column_mask_K: Tensor | None,
    row_lse_M: Tensor,
    column_lse_K: Tensor,
    paired: bool,
    a_gradient_MD: Tensor | None,
    b_gradient_KD: Tensor | None,
) -> None:
    """Add G b and G^T a of any rectangle, in blocks of at most `shape`.

    paired: whether row i and column i are a pair; otherwise the rectangle has none.
    """
    for m, k in _tiles(len(a_MD), len(b_KD), shape):
        offset = m.start - k.start if paired else None
        gradient = blocks.gradient_block(
            a_MD[m],
            b_KD[k],
            scale,
            _rows(row_mask_M, m),
            _rows(column_mask_K, k),
            row_lse_M[m],
            column_lse_K[k],
            offset,
        )
        blocks.add_products(gradient, a_MD[m], b_KD[k], _rows(a_gradient_MD, m), _rows(b_gradient_KD, k))


def without_dropped(x: Tensor, row_mask_N: Tensor | None) -> Tensor:
    """x (N,) or (N, D) with zeros in the rows that the mask drops, NaN or not."""
    if row_mask_N is None:
        return x
    return x.masked_fill(~row_mask_N.view(-1, *[1] * (x.ndim - 1)), 0)


def _tiles(rows: int, columns: int, shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    row_block, column_block = shape
    for row in range(0, rows, row_block):
        for column in range(0, columns, column_block):
            yield slice(row, min(row + row_block, rows)), slice(column, min(column + column_block, columns))


def _rows(x: Tensor | None, part: slice) -> Tensor | None:
    return None if x is None else x[part]
