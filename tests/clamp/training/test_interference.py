"""The cosines between tasks' gradients, on losses whose gradients are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from clamp.training.interference import gradient_cosines


def test_cosines_are_those_of_the_known_gradients_over_all_parameters_together() -> None:
    a, b = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([[3.0]]))
    losses = {
        "tagging": a[0] + 2 * b.sum(),  # gradient (1, 0, 2)
        "aspect": -3 * a[0] - 6 * b.sum(),  # (-3, 0, -6)
        "global": a[1] + 0.0,  # (0, 1, 0)
        "local": a.sum() + b.sum(),  # (1, 1, 1)
    }
    cosines = gradient_cosines(losses, [a, b], lambda gradient: gradient)
    assert cosines["tagging~aspect"] == pytest.approx(-1)
    assert cosines["tagging~global"] == pytest.approx(0)
    assert cosines["tagging~local"] == pytest.approx(3 / math.sqrt(15))
    assert cosines["global~local"] == pytest.approx(1 / math.sqrt(3))
    assert len(cosines) == 6
    sum(losses.values()).backward()  # the graph is still there
    assert a.grad is not None


def test_a_task_without_a_gradient_there_has_cosine_zero_and_one_task_has_no_pair() -> None:
    shared, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    losses = {"tagging": shared.sum(), "local": other.sum()}
    assert gradient_cosines(losses, [shared], lambda gradient: gradient) == {"tagging~local": 0.0}
    assert gradient_cosines({"tagging": shared.sum()}, [shared], lambda gradient: gradient) == {}
