"""Do the tasks pull the shared parameters apart? The cosine between their gradients, seen while training.

A negative cosine means that a step along one task's gradient raises the other's loss (Yu et al., "Gradient surgery for
multi-task learning", NeurIPS 2020). It does not depend on the weights that the losses are summed with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from clamp.config import Task


def gradient_cosines(
    losses: Mapping[Task, Tensor], shared: Sequence[nn.Parameter], whole: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """{"tagging~aspect": cosine in -1..1, ...} for every pair of `losses`, over all `shared` parameters as one vector.

    A task whose gradient there is zero has the cosine 0 with any other. The graph is kept for the step to come. `whole`
    makes the whole batch's gradient of this process's: the same one where there are no others.
    """
    gradients = {task: whole(_flat_gradient(loss, shared)) for task, loss in losses.items()}
    return {
        f"{one}~{other}": nn.functional.cosine_similarity(gradients[one], gradients[other], dim=0).item()
        for one, other in itertools.combinations(gradients, 2)
    }


def _flat_gradient(loss: Tensor, shared: Sequence[nn.Parameter]) -> Tensor:
    parts = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if part is None else part).flatten() for p, part in zip(shared, parts, strict=True)]
    )
