"""AMA: the tasks' losses as one, weighted by learned uncertainty (Kendall, Gal and Cipolla, CVPR 2018).

    L = sum over the tasks present of  exp(-s_i)/2 L_i + s_i/2,      s_i = log sigma_i^2

At its free optimum s_i = log L_i, so the weight is 1 / (2 L_i): a solved task weighs most. Lower bounds on s keep that
from running away; they are applied by projection after the optimiser's step, because a clamp inside the graph has no
gradient beyond its bound and would trap s there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from clamp.config import AggregationConfig, Task

EQUAL_WEIGHT = 0.5  # exp(-s)/2 at s = 0: what every task would weigh without AMA


class Aggregation(nn.Module):
    """Weighs the losses of `tasks`. Its `s` belongs in an optimiser group of its own, without decay or clipping."""

    lowest: Tensor

    def __init__(self, config: AggregationConfig, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.mode = config.mode
        self.tasks = tuple(tasks)
        initial = [config.initial[task] for task in self.tasks]
        lowest = [config.lowest[task] if config.mode == "uncertainty" else -torch.inf for task in self.tasks]
        self.s = nn.Parameter(torch.tensor(initial), requires_grad=config.mode in ("uncertainty", "unbounded"))
        self.register_buffer("lowest", torch.tensor(lowest), persistent=False)

    @property
    def learned(self) -> bool:
        """Whether s moves in training."""
        return self.s.requires_grad

    def forward(self, losses: Mapping[Task, Tensor]) -> Tensor:
        """One scalar from the scalars present; an absent task contributes neither its loss nor its s.

        The result may be negative.
        """
        total = torch.zeros((), device=self.s.device)
        for task, loss in losses.items():
            s = self.s[self.tasks.index(task)]
            weight = EQUAL_WEIGHT if self.mode == "equal" else torch.exp(-s) / 2
            total = total + weight * loss + (s / 2 if self.learned else 0.0)
        return total

    @torch.no_grad()
    def project(self) -> None:
        """Move s back into its range; call after every optimiser step."""
        self.s.clamp_(min=self.lowest)

    def on_bound(self) -> dict[Task, bool]:
        """Which tasks' s lie on their lower bound now."""
        return dict(zip(self.tasks, (self.s <= self.lowest).tolist(), strict=True))
