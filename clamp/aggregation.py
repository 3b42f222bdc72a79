"""AMA: the tasks' losses as one, weighted by learned uncertainty (Kendall, Gal and Cipolla, CVPR 2018).

    L = sum over the tasks present of  exp(-s_i)/2 L_i + s_i/2,      s_i = log sigma_i^2

At its free optimum s_i = log L_i, so the weight is 1 / (2 L_i): a solved task weighs most. Lower bounds on s keep that
from running away; they are applied by projection after the optimiser's step, because a clamp inside the graph has no
gradient beyond its bound and would trap s there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from clamp.config import AggregationConfig, Task

EQUAL_WEIGHT = 0.5  # exp(-s)/2 at s = 0: what every task would weigh without AMA


class Aggregation(nn.Module):
    """Weighs the losses of `tasks`. Its `s` belongs in an optimiser group of its own, without decay or clipping.

    Every task's s is a parameter of its own, so that the optimiser leaves the s of an absent task, which has no
    gradient, where it is; in a vector, the momentum of earlier batches would move it on.
    """

    def __init__(self, config: AggregationConfig, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.mode = config.mode
        self.tasks = tuple(tasks)
        self.learned = config.mode in ("uncertainty", "unbounded")  # whether s moves in training
        self.lowest = {task: config.lowest[task] if self.mode == "uncertainty" else -math.inf for task in self.tasks}
        self.s = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(config.initial[task]), requires_grad=self.learned) for task in self.tasks}
        )

    def forward(self, losses: Mapping[Task, Tensor]) -> Tensor:
        """One scalar from the scalars present; an absent task contributes neither its loss nor its s.

        The result may be negative.
        """
        terms = []
        for task, loss in losses.items():
            s = self.s[task]
            weight = EQUAL_WEIGHT if self.mode == "equal" else torch.exp(-s) / 2
            terms.append(weight * loss + (s / 2 if self.learned else 0.0))
        return torch.stack(terms).sum()

    @torch.no_grad()
    def project(self) -> None:
        """Move s back into its range; call after every optimiser step."""
        for task in self.tasks:
            self.s[task].clamp_(min=self.lowest[task])

    def values(self) -> dict[Task, float]:
        """Every task's s now."""
        return {task: self.s[task].item() for task in self.tasks}

    def on_bound(self) -> dict[Task, bool]:
        """Which tasks' s lie on their lower bound now."""
        return {task: bool(self.s[task] <= self.lowest[task]) for task in self.tasks}
