"""AMA: the tasks' losses as one, each weighted by what is known of its uncertainty. With s_i = log sigma_i^2 learned,

    kendall          sum of  exp(-s_i)/2 L_i + s_i/2             Kendall, Gal and Cipolla, CVPR 2018
    map              the same + lambda (s_i - mu_i)^2            with a Gaussian prior on s: maximum a posteriori
    liebel_koerner   sum of  exp(-s_i)/2 L_i + log(1 + sigma_i^2)    Liebel and Koerner, arXiv 1805.06334

over the tasks present in a batch. Kendall's free optimum is s_i = log L_i: a task weighs 1 / (2 L_i), so that a solved
one weighs most and, at L_i -> 0, infinitely much. The prior ends that without a bound: there "map" rests at
mu_i - 1 / (4 lambda). Without learning,

    softmax          sum of  w_i L_i,  w = softmax(1 / (T L))    Kirchdorfer et al., arXiv 2408.07985; no gradient in w
    fixed            sum of  exp(-s_i)/2 L_i                     s as it was set
    equal            sum of  L_i / 2

No mode bounds anything. Dividing a loss by a constant, such as its chance level, moves s and mu by that constant's
logarithm and changes nothing else in the first two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clamp.config import AggregationConfig, Task

LEARNED = ("map", "kendall", "liebel_koerner")  # the modes whose s moves by its gradient


class Aggregation(nn.Module):
    """Weighs the losses of `tasks`. Its `s` belongs in an optimiser group of its own, without decay or clipping.

    Every task's s is a parameter of its own, so that the optimiser leaves the s of an absent task, which has no
    gradient, where it is; in a vector, the momentum of earlier batches would move it on.
    """

    def __init__(self, config: AggregationConfig, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.config, self.tasks = config, tuple(tasks)
        self.learned = config.mode in LEARNED
        start = {task: 0.0 if config.mode == "equal" else config.initial[task] for task in self.tasks}
        self.s = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(start[task]), requires_grad=self.learned) for task in self.tasks}
        )

    def forward(self, losses: Mapping[Task, Tensor]) -> Tensor:
        """One scalar from the scalars present; an absent task contributes neither its loss nor its s.

        The result may be negative.
        """
        if self.config.mode == "softmax":
            self._follow(losses)
        terms = [torch.exp(-self.s[task]) / 2 * loss + self._penalty(task) for task, loss in losses.items()]
        return torch.stack(terms).sum()

    def _penalty(self, task: Task) -> Tensor | float:
        """What keeps s from growing."""
        s = self.s[task]
        if not self.learned:
            return 0.0
        if self.config.mode == "liebel_koerner":
            return F.softplus(s)  # log(1 + exp(s))
        if self.config.mode == "kendall":
            return s / 2
        return s / 2 + self.config.prior_strength * (s - self.config.prior_mean[task]) ** 2

    @torch.no_grad()
    def _follow(self, losses: Mapping[Task, Tensor]) -> None:
        """Set s to what the losses of this batch say: exp(-s)/2 is then the softmax of their inverses."""
        inverse_N = torch.stack([loss.detach().float() for loss in losses.values()]).clamp(min=1e-6).reciprocal()
        log_weight_N = (inverse_N / self.config.temperature).log_softmax(dim=0)
        for task, log_weight in zip(losses, log_weight_N, strict=True):
            self.s[task].copy_(-log_weight - math.log(2.0))

    def values(self) -> dict[Task, float]:
        """Every task's s now: it weighs exp(-s)/2."""
        return {task: self.s[task].item() for task in self.tasks}
