"""What one rank of a process group does with InfoNCE: the other half of test_infonce_distributed.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import kernels

WORLD = 3
Outcome = dict[str, torch.Tensor | None]


@dataclass(frozen=True)
class Case:
    """A batch, and how it lies on ranks that begin with `first`: by default on rank 0 and those after it."""

    counts: tuple[int, ...]
    width: int = 5
    dtype: torch.dtype = torch.float64
    mode: str = "auto"
    impl: str = "torch"
    masked: bool = False
    first: int = 0
    needed: tuple[tuple[bool, bool, bool], ...] | None = None  # a, b, scale of each rank; None = all

    @property
    def ranks(self) -> list[int]:
        return list(range(self.first, self.first + len(self.counts)))

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The whole batch and its mask, the same on every rank; dropped rows are NaN."""
        generator = torch.Generator().manual_seed(sum(self.counts))
        total = sum(self.counts)
        a_ND, b_ND = torch.randn(2, total, self.width, generator=generator, dtype=torch.float64).to(self.dtype)
        scale = torch.tensor(1.5, dtype=torch.promote_types(self.dtype, torch.float32))
        if not self.masked:
            return a_ND, b_ND, scale, None
        mask_N = torch.rand(total, generator=generator) < 0.7
        return (
            a_ND.masked_fill(~mask_N[:, None], torch.nan),
            b_ND.masked_fill(~mask_N[:, None], torch.nan),
            scale,
            mask_N,
        )

    def shard(self, index: int) -> slice:
        """The rows of the group's rank `index`."""
        start = sum(self.counts[:index])
        return slice(start, start + self.counts[index])


CASES = {
    "one rank": Case((9,)),
    "two ranks": Case((5, 8)),
    "three ranks": Case((5, 3, 4)),
    "ranks that are not the first": Case((6, 4), first=1),
    "an empty shard": Case((7, 0, 2)),
    "empty shards and one row": Case((0, 6, 1), masked=True),
    "one pair in all": Case((0, 1, 0), width=300, dtype=torch.float32),
    "no pair at all": Case((0, 0, 0)),
    "masks": Case((9, 14, 6), masked=True),
    "many blocks": Case((150, 131, 270), mode="resident", masked=True),
    "float32": Case((40, 61, 33), dtype=torch.float32),
    "float32, masks": Case((40, 61, 33), dtype=torch.float32, masked=True),
    "bfloat16": Case((20, 31, 13), dtype=torch.bfloat16),
    "Triton, float32": Case((5, 0, 9), dtype=torch.float32, impl="triton", masked=True),
    "Triton, float16": Case((7, 5), dtype=torch.float16, impl="triton"),
    "a alone": Case((5, 3, 4), needed=((True, False, False),) * 3),
    "b alone": Case((5, 3, 4), needed=((False, True, False),) * 3),
    "scale alone": Case((5, 3, 4), needed=((False, False, True),) * 3),
    "another on each rank": Case((5, 3, 4), needed=((True, False, False), (False, True, False), (False, False, True))),
}


def run(rank: int, folder: Path, threads: int) -> None:
    """Every case that has this rank, into folder/<rank>.pt: name -> outcome of each of two runs."""
    torch.set_num_threads(threads)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    groups = {tuple(ranks): dist.new_group(ranks) for ranks in ([0], [0, 1], [1, 2], [0, 1, 2])}
    outcomes: dict[str, list[Outcome]] = {}
    for name, case in CASES.items():
        if rank in case.ranks:
            group = groups[tuple(case.ranks)]
            outcomes[name] = [_step(case, group, autocast) for autocast in (False, True)]
    torch.save(outcomes, folder / f"{rank}.pt")
    dist.destroy_process_group()


def _step(case: Case, group: dist.ProcessGroup, autocast: bool) -> Outcome:
    """The loss, and the gradients of twice the loss, of this rank."""
    index = dist.get_rank(group)
    a_ND, b_ND, scale, mask_N = case.batch()
    here = case.shard(index)
    leaves = [tensor.clone() for tensor in (a_ND[here], b_ND[here], scale)]
    for leaf, needed in zip(leaves, case.needed[index] if case.needed else (True, True, True), strict=True):
        leaf.requires_grad_(needed)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = kernels.info_nce(
            *leaves, row_mask=None if mask_N is None else mask_N[here], mode=case.mode, group=group, impl=case.impl
        )
        (2 * loss).backward()
    return {"loss": loss.detach(), **{name: leaf.grad for name, leaf in zip(("a", "b", "scale"), leaves, strict=True)}}
