"""InfoNCE of a batch that lies on the ranks of a process group: a ring, which never holds more than a few shards.

Every rank keeps its rows of a, and the shards of b go round. Forward, a shard's column statistics travel with it and
collect from each rank; backward, its gradient does. So each rank forms only the logits of its own rows, sums are taken
in the order of the ring, and nothing grows with the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels import registry
from kernels.dispatch import Mode
from kernels.infonce.blocks import (
    Blocks,
    TorchBlocks,
    add_rectangle_gradients,
    fold_rectangle,
    logsumexp,
    statistics,
    torch_footprint,
)
from kernels.infonce.plan import plan


def _info_nce(
    a_ND: Tensor,
    b_ND: Tensor,
    scale: Tensor,
    row_mask_N: Tensor | None,
    mode: Mode,
    workspace_bytes: int,
    group: dist.ProcessGroup,
    triton: bool,
) -> Tensor:
    if mode == "save":
        raise ValueError("mode='save' is for one process; over a group the choices are 'auto', 'chunked', 'resident'")
    return _RingInfoNCE.apply(a_ND, b_ND, scale, row_mask_N, mode, workspace_bytes, group, triton)


def _reference(*_: Any) -> Tensor:
    raise ValueError("impl='reference' is for one process; over a group the choices are 'auto', 'triton', 'torch'")


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "triton": partial(_info_nce, triton=True),
    "torch": partial(_info_nce, triton=False),
    "reference": _reference,
}


@dataclass(frozen=True)
class _Ring:
    """On hop h, rank r has the shard of rank r - h."""

    group: dist.ProcessGroup
    counts: list[int]  # of each rank's rows

    def visits(self, *shard: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """These tensors of every rank, its own first; each shard is fetched while the one before it is in use."""
        for hop in range(len(self.counts) - 1):
            next_shard = self.pass_on(hop, *shard)
            yield shard
            shard = next_shard()
        yield shard

    def pass_on(self, hop: int, *shard: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """Start to send tensors of the shard that is here on this hop; the result waits for those of the next one."""
        rank, world = dist.get_rank(self.group), len(self.counts)
        if world == 1:
            return lambda: shard
        count = self.counts[(rank - hop - 1) % world]
        arriving = tuple(x.new_empty(count, *x.shape[1:]) for x in shard)
        after, before = (dist.get_global_rank(self.group, (rank + step) % world) for step in (1, -1))
        operations = [dist.P2POp(dist.isend, x, after, self.group) for x in shard if x.numel()]
        operations += [dist.P2POp(dist.irecv, x, before, self.group) for x in arriving if x.numel()]
        requests = dist.batch_isend_irecv(operations) if operations else []

        def wait() -> tuple[Tensor, ...]:
            for request in requests:
                request.wait()
            operations.clear()  # which kept what was sent alive
            return arriving

        return wait


class _RingInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_ND: Tensor,
        b_ND: Tensor,
        scale: Tensor,
        row_mask_N: Tensor | None,
        mode: Mode,
        workspace_bytes: int,
        group: dist.ProcessGroup,
        triton: bool,
    ) -> Tensor:
        # M: the valid rows here. Dropped ones need not travel.
        a_MD, b_MD = (x.contiguous() if row_mask_N is None else x[row_mask_N] for x in (a_ND, b_ND))
        count, dtype, device = len(a_MD), scale.dtype, scale.device
        sizes = _gather(torch.tensor([count, ctx.needs_input_grad[1]], device=device), group).tolist()
        ring = _Ring(group, [size for size, _ in sizes])
        ctx.blocks = partial(_blocks, triton, max(ring.counts), a_MD.shape[1], a_MD.dtype, scale, mode, workspace_bytes)
        blocks, shape = ctx.blocks()

        row, column = statistics(count, dtype, device), statistics(count, dtype, device)
        for hop, (b_KD,) in enumerate(ring.visits(b_MD)):
            fold_rectangle(blocks, shape, a_MD, b_KD, scale, None, None, row, column)
            reference_K, total_K = ring.pass_on(hop, *column)()
            column = reference_K, total_K
        row_lse_M, column_lse_M = logsumexp(row), logsumexp(column)

        pairs = sum(ring.counts)
        ctx.weight = 1 / pairs if pairs >= 2 else 0.0
        ctx.ring, ctx.some_need_b = ring, any(needs_b for _, needs_b in sizes)
        ctx.save_for_backward(a_MD, b_MD, scale, row_mask_N, row_lse_M, column_lse_M)
        loss_M = (row_lse_M + column_lse_M) / 2 - torch.linalg.vecdot(a_MD.to(dtype) * scale, b_MD.to(dtype))
        return _gather(loss_M.sum(), group).sum() * ctx.weight

    @staticmethod
    @registry.differentiable_once
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(loss_gradient.device.type, enabled=False):
            return *_ring_backward(ctx, loss_gradient), None, None, None, None, None


def _ring_backward(ctx: Any, loss_gradient: Tensor) -> list[Tensor | None]:
    a_MD, b_MD, scale, row_mask_N, row_lse_M, column_lse_M = ctx.saved_tensors
    needs_a, needs_b, needs_scale = ctx.needs_input_grad[:3]
    ring: _Ring = ctx.ring
    blocks, shape = ctx.blocks()

    a_sum_MD = torch.zeros_like(a_MD, dtype=scale.dtype) if needs_a or needs_scale else None
    b_sum_KD, arriving = None, None
    for hop, (b_KD, column_lse_K) in enumerate(ring.visits(b_MD, column_lse_M)):
        if ctx.some_need_b:
            b_sum_KD = torch.zeros_like(b_KD, dtype=scale.dtype)
        add_rectangle_gradients(
            blocks, shape, a_MD, b_KD, scale, None, None, row_lse_M, column_lse_K, hop == 0, a_sum_MD, b_sum_KD
        )
        if b_sum_KD is not None:
            if arriving is not None:
                b_sum_KD += arriving()[0]
            arriving = ring.pass_on(hop, b_sum_KD)
    b_sum_MD = None if arriving is None else arriving()[0]

    weight = loss_gradient * (ctx.weight / 2 * blocks.gradient_factor(a_MD.dtype))
    gradients: list[Tensor | None] = [None, None, None]
    if needs_scale and a_sum_MD is not None:
        gradients[2] = torch.linalg.vecdot(a_sum_MD, a_MD.to(scale.dtype)).sum() * weight
    for index, needed, sum_MD, x_MD in ((0, needs_a, a_sum_MD, a_MD), (1, needs_b, b_sum_MD, b_MD)):
        if needed and sum_MD is not None:
            gradients[index] = _in_all_rows(sum_MD.mul_(weight * scale).to(x_MD.dtype), row_mask_N)
    return gradients


def _blocks(
    triton: bool, count: int, width: int, dtype: torch.dtype, scale: Tensor, mode: Mode, workspace_bytes: int
) -> tuple[Blocks, tuple[int, int]]:
    """What works on the logits of shards of up to `count` rows, and the largest block it takes."""
    if triton:
        from kernels.infonce import tiles

        chosen = plan(count, mode, workspace_bytes, False, tiles.footprint(width, dtype))
        return tiles, (chosen.row_block, chosen.column_block)
    chosen = plan(count, mode, workspace_bytes, False, torch_footprint(scale.dtype))
    largest = min(count, chosen.row_block) * min(count, chosen.column_block)
    return TorchBlocks(largest, scale.dtype, scale.device), (chosen.row_block, chosen.column_block)


def _gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """(...) of each rank -> (ranks, ...)."""
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x, group)
    return torch.stack(parts)


def _in_all_rows(x_MD: Tensor, row_mask_N: Tensor | None) -> Tensor:
    if row_mask_N is None:
        return x_MD
    x_ND = x_MD.new_zeros(len(row_mask_N), x_MD.shape[1])
    x_ND[row_mask_N] = x_MD
    return x_ND
