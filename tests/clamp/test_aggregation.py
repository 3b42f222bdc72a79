"""AMA: the formula, its optimum, its bounds, and the weights that it is compared with."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builders import tiny_config

from clamp.aggregation import Aggregation
from clamp.config import TASKS, AggregationConfig

INITIAL = {"tagging": 0.5, "aspect": 1.0, "global": -0.5, "local": 2.0}
LOWEST = {"tagging": -4.0, "aspect": 0.25, "global": -1.0, "local": 2.0}


def made(mode: str, tasks: tuple[str, ...] = TASKS, **changes: Any) -> Aggregation:
    values = {"mode": mode, "initial": INITIAL, "lowest": LOWEST, **changes}
    config = tiny_config(**{f"model__aggregation__{name}": value for name, value in values.items()})
    return Aggregation(config.model.aggregation, tasks)  # type: ignore[arg-type]


LOSSES = {"tagging": 0.3, "aspect": 1.7, "global": 4.0, "local": 0.01}


def as_tensors(losses: dict[str, float]) -> dict[str, torch.Tensor]:
    return {task: torch.tensor(value, requires_grad=True) for task, value in losses.items()}


def fill(aggregation: Aggregation, value: float) -> None:
    for s in aggregation.s.values():
        s.data.fill_(value)


@pytest.mark.parametrize("mode", ["uncertainty", "unbounded"])
@pytest.mark.parametrize("present", [TASKS, ("tagging",), ("aspect", "local")])
def test_the_total_is_the_formula_over_the_tasks_present(mode: str, present: tuple[str, ...]) -> None:
    aggregation = made(mode)
    losses = as_tensors({task: LOSSES[task] for task in present})
    total = aggregation(losses)
    expected = sum(math.exp(-INITIAL[task]) / 2 * LOSSES[task] + INITIAL[task] / 2 for task in present)
    assert total.item() == pytest.approx(expected, abs=1e-6)
    total.backward()
    for task in TASKS:
        gradient = aggregation.s[task].grad
        if task in present:
            wanted = -math.exp(-INITIAL[task]) / 2 * LOSSES[task] + 0.5
            assert gradient.item() == pytest.approx(wanted, abs=1e-6), task
        else:
            assert gradient is None, task
    for task, loss in losses.items():
        assert loss.grad.item() == pytest.approx(math.exp(-INITIAL[task]) / 2)


@pytest.mark.parametrize(
    ("mode", "weight"), [("equal", dict.fromkeys(TASKS, 0.5)), ("fixed", {t: math.exp(-INITIAL[t]) / 2 for t in TASKS})]
)
def test_the_compared_weights_do_not_learn_and_have_no_constant_term(mode: str, weight: dict[str, float]) -> None:
    aggregation = made(mode)
    total = aggregation(as_tensors(LOSSES))
    assert total.item() == pytest.approx(sum(weight[task] * LOSSES[task] for task in TASKS))
    assert not aggregation.learned
    assert not any(s.requires_grad for s in aggregation.s.values())
    before = aggregation.values()
    aggregation.project()
    assert aggregation.values() == before


def test_the_free_optimum_is_the_log_of_the_loss() -> None:
    aggregation = made("unbounded", initial=dict.fromkeys(TASKS, 0.0))
    optimizer = torch.optim.AdamW(aggregation.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(600):
        optimizer.zero_grad()
        aggregation(as_tensors(LOSSES)).backward()
        optimizer.step()
        aggregation.project()
    for task, s in aggregation.values().items():
        assert s == pytest.approx(math.log(LOSSES[task]), abs=0.05), task


def test_bounds_hold_by_projection_and_let_s_go_again() -> None:
    aggregation = made("uncertainty")
    fill(aggregation, -9.0)
    aggregation.project()
    assert aggregation.values() == LOWEST
    assert aggregation.on_bound() == dict.fromkeys(TASKS, True)
    aggregation(as_tensors(dict.fromkeys(TASKS, 100.0))).backward()
    assert all(s.grad < 0 for s in aggregation.s.values())  # a step moves every s up: no bound is a trap
    fill(aggregation, max(LOWEST.values()) + 1.0)
    aggregation.project()
    assert aggregation.on_bound() == dict.fromkeys(TASKS, False)


def test_without_bounds_nothing_is_projected() -> None:
    aggregation = made("unbounded")
    fill(aggregation, -9.0)
    aggregation.project()
    assert aggregation.values() == dict.fromkeys(TASKS, -9.0)
    assert not any(aggregation.on_bound().values())


def test_fixed_weights_stay_even_below_the_bounds_of_ama() -> None:
    aggregation = made("fixed", initial=dict.fromkeys(TASKS, -6.0))
    aggregation.project()
    assert aggregation.values() == dict.fromkeys(TASKS, -6.0)


def test_only_the_tasks_of_the_model_have_an_s() -> None:
    aggregation = made("uncertainty", tasks=("tagging", "local"))
    assert aggregation.values() == {"tagging": INITIAL["tagging"], "local": INITIAL["local"]}
    total = aggregation(as_tensors({"local": 0.01}))
    assert total.item() == pytest.approx(math.exp(-2.0) / 2 * 0.01 + 1.0)


def test_a_total_may_be_negative() -> None:
    aggregation = made("unbounded", initial=dict.fromkeys(TASKS, -3.0))
    assert aggregation(as_tensors({"tagging": 1e-6})).item() < 0


def test_defaults_name_every_task() -> None:
    config = AggregationConfig()
    assert set(config.initial) == set(config.lowest) == set(TASKS)


def test_an_absent_task_stays_where_it_is_whatever_momentum_it_has() -> None:
    aggregation = made("unbounded")
    optimizer = torch.optim.AdamW(aggregation.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(5):
        optimizer.zero_grad()
        aggregation(as_tensors(LOSSES)).backward()
        optimizer.step()
    before = aggregation.values()
    optimizer.zero_grad()
    aggregation(as_tensors({"tagging": 1.0})).backward()
    optimizer.step()
    after = aggregation.values()
    assert after["tagging"] != before["tagging"]
    assert all(after[task] == before[task] for task in TASKS if task != "tagging")


def test_a_bound_that_float32_cannot_hold_is_still_seen() -> None:
    aggregation = made("uncertainty", lowest=dict.fromkeys(TASKS, 0.1))
    fill(aggregation, -9.0)
    aggregation.project()
    assert aggregation.on_bound() == dict.fromkeys(TASKS, True)
