"""One training run over several processes, as torchrun starts them: the same result as one process with its batch.

Every process encodes its part of a batch; what the model says of the parts is gathered, and every process computes the
losses over the whole batch, so that a contrast sees all of its pairs and a mean is over all of its words. Gathering has
the gradient of the own part only, and DDP (Li et al., VLDB 2020) adds the parts up. Computing the losses everywhere
costs little beside the encoders, and needs no rule of its own for each loss.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clamp.config import Config, Task
from clamp.data.collate import Batch
from clamp.data.splits import Splits
from clamp.model import Tagger
from clamp.training.train import OnEpoch, Trainer

_T = TypeVar("_T")


def is_distributed() -> bool:
    """Whether torchrun, or something that sets the same variables, started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started: NCCL and a GPU each where there are GPUs, else gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """Each rank's rows (n, ...), one rank's after the other's.

    Every rank goes on to compute the same loss, whose gradient in a row is thus known where the row came from. DDP
    divides by the number of ranks, so it is multiplied by that here.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        if rows.dtype == torch.bool:  # which gloo does not know
            return _Gather.apply(rows.to(torch.uint8)).bool()
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return dist.get_world_size() * gradient.chunk(dist.get_world_size())[dist.get_rank()]


def _map_tensors(value: _T, function: Any) -> _T:
    """The same value with each tensor in it, however deep, replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list):
        return [_map_tensors(one, function) for one in value]  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map_tensors(getattr(value, f.name), function) for f in fields(value)})
    return value


def own_rows(size: int) -> list[int]:
    """The rows of a batch that this rank encodes: as many on every rank, the last row again where they do not go round.

    Gathered in the order of ranks they start with 0, 1, ..., size - 1.
    """
    each = -(-size // dist.get_world_size())
    first = dist.get_rank() * each
    return [min(row, size - 1) for row in range(first, first + each)]


def _part(batch: Batch, rows: list[int]) -> Batch:
    """Some of a batch's tweets, padded as the batch is. Gold spans stay behind: only losses read them."""
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    chosen: dict[str, Any] = {
        name: value[rows] for name, value in tensors.items() if isinstance(value, Tensor) and name != "aspect_spans_N3"
    }
    return replace(batch, tweets=[batch.tweets[row] for row in rows], **chosen)


class _Losses(nn.Module):
    """What DDP wraps: a batch's losses and their total, of a model that reads this rank's part of it."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[dict[Task, Tensor], Tensor]:
        size = len(batch.tweets)
        output = self.model(_part(batch, own_rows(size)))
        losses = self.model.losses(_map_tensors(output, lambda rows: _Gather.apply(rows)[:size]), batch)
        return losses, self.model.total(losses)


class DistributedTrainer(Trainer):
    """A trainer in each process. Rank 0's folder is the run's; the others write nothing that stays."""

    def __init__(self, config: Config, splits: Splits, folder: Path) -> None:
        super().__init__(config, splits, folder)
        # a batch without images leaves parameters without a gradient, on every rank alike
        self._losses_of = DistributedDataParallel(_Losses(self.model), find_unused_parameters=True)

    def fit(self, on_epoch: OnEpoch | None = None) -> None:
        """As of one process; every rank resumes from rank 0's checkpoint."""
        checkpoint = [self._checkpoint.read_bytes() if dist.get_rank() == 0 and self._checkpoint.exists() else None]
        dist.broadcast_object_list(checkpoint)
        if checkpoint[0] is not None and dist.get_rank() > 0:
            self._checkpoint.write_bytes(checkpoint[0])
        super().fit(on_epoch)

    def _epoch(self) -> None:
        # parts of a batch that dropped the same units would not be independent
        seed = np.random.SeedSequence((self.config.seed, self.course.epochs_done, dist.get_rank()))
        torch.manual_seed(int(seed.generate_state(1)[0]))
        super()._epoch()

    def _losses(self, batch: Batch) -> tuple[dict[Task, Tensor], Tensor]:
        losses, total = self._losses_of(batch)
        return {task: losses[task] for task in self.model.tasks if task in losses}, total  # DDP may have sorted them

    def _whole(self, gradient: Tensor) -> Tensor:
        dist.all_reduce(gradient)
        return gradient / dist.get_world_size()


def train_distributed(
    config: Config, splits: Splits, folder: Path, on_epoch: OnEpoch | None = None
) -> dict[str, Any] | None:
    """`train` by every process of the default group; `config.train.batch_size` is of all of them together.

    Rank 0 gets the result, and calls `on_epoch`; its `folder` holds the checkpoints. The others get None. Only rank 0
    needs `folder`, which need not be on a disk that the others see.
    """
    if dist.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        trainer = DistributedTrainer(config, splits, folder)
        trainer.fit(on_epoch)
        return trainer.result()
    with tempfile.TemporaryDirectory() as scratch:
        DistributedTrainer(config, splits, Path(scratch)).fit()
    return None
