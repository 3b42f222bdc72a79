"""AMA: every mode's formula and gradient, where each rests, and that an absent task is left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builders import tiny_config

from clamp.aggregation import LEARNED, Aggregation
from clamp.config import TASKS, AggregationConfig

INITIAL = {"tagging": 0.5, "aspect": 1.0, "global": -0.5, "local": 2.0}
MEAN = {"tagging": -2.0, "aspect": 3.0, "global": 1.0, "local": 0.0}
STRENGTH = 0.4
LOSSES = {"tagging": 0.3, "aspect": 1.7, "global": 4.0, "local": 0.01}


def made(mode: str, tasks: tuple[str, ...] = TASKS, **changes: Any) -> Aggregation:
    values = {"mode": mode, "initial": INITIAL, "prior_mean": MEAN, "prior_strength": STRENGTH, **changes}
    config = tiny_config(**{f"model__aggregation__{name}": value for name, value in values.items()})
    return Aggregation(config.model.aggregation, tasks)  # type: ignore[arg-type]


def as_tensors(losses: dict[str, float]) -> dict[str, torch.Tensor]:
    return {task: torch.tensor(value, requires_grad=True) for task, value in losses.items()}


def steps(aggregation: Aggregation, losses: dict[str, float], count: int) -> dict[str, float]:
    """s after so many steps over the same losses."""
    optimizer = torch.optim.AdamW(aggregation.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(count):
        optimizer.zero_grad()
        aggregation(as_tensors(losses)).backward()
        optimizer.step()
    return aggregation.values()


def penalty(mode: str, s: float, mean: float) -> tuple[float, float]:
    """What a mode adds for an s, and its derivative."""
    if mode == "liebel_koerner":
        return math.log(1 + math.exp(s)), math.exp(s) / (1 + math.exp(s))
    prior = STRENGTH if mode == "map" else 0.0
    return s / 2 + prior * (s - mean) ** 2, 0.5 + 2 * prior * (s - mean)


@pytest.mark.parametrize("mode", LEARNED)
@pytest.mark.parametrize("present", [TASKS, ("tagging",), ("aspect", "local")])
def test_a_learned_total_is_its_formula_over_the_tasks_present(mode: str, present: tuple[str, ...]) -> None:
    aggregation = made(mode)
    losses = as_tensors({task: LOSSES[task] for task in present})
    total = aggregation(losses)
    expected = sum(
        math.exp(-INITIAL[task]) / 2 * LOSSES[task] + penalty(mode, INITIAL[task], MEAN[task])[0] for task in present
    )
    assert total.item() == pytest.approx(expected, abs=1e-5)
    total.backward()
    for task in TASKS:
        gradient = aggregation.s[task].grad
        if task in present:
            wanted = -math.exp(-INITIAL[task]) / 2 * LOSSES[task] + penalty(mode, INITIAL[task], MEAN[task])[1]
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
    assert {task: math.exp(-s) / 2 for task, s in aggregation.values().items()} == pytest.approx(weight)


@pytest.mark.parametrize("present", [TASKS, ("aspect", "global")])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softmax_weighs_by_the_inverse_losses_and_passes_no_gradient_through_the_weights(
    present: tuple[str, ...], temperature: float
) -> None:
    aggregation = made("softmax", temperature=temperature)
    losses = as_tensors({task: LOSSES[task] for task in present})
    inverse = {task: 1 / (temperature * LOSSES[task]) for task in present}
    highest = max(inverse.values())
    raised = {task: math.exp(value - highest) for task, value in inverse.items()}
    weight = {task: value / sum(raised.values()) for task, value in raised.items()}
    total = aggregation(losses)
    assert total.item() == pytest.approx(sum(weight[task] * LOSSES[task] for task in present), rel=1e-5)
    total.backward()
    for task, loss in losses.items():
        assert loss.grad.item() == pytest.approx(weight[task], rel=1e-4)
    assert {t: math.exp(-s) / 2 for t, s in aggregation.values().items() if t in present} == pytest.approx(weight)
    assert all(aggregation.values()[task] == INITIAL[task] for task in TASKS if task not in present)


def test_softmax_is_finite_when_a_task_is_solved() -> None:
    losses = as_tensors({"tagging": 0.0, "local": 2.0})
    total = made("softmax")(losses)
    total.backward()
    assert total.item() == pytest.approx(0.0)
    assert losses["tagging"].grad.item() == pytest.approx(1.0)


def test_the_free_optimum_is_the_log_of_the_loss() -> None:
    found = steps(made("kendall", initial=dict.fromkeys(TASKS, 0.0)), LOSSES, 600)
    for task, s in found.items():
        assert s == pytest.approx(math.log(LOSSES[task]), abs=0.05), task


def test_with_a_prior_a_solved_task_rests_a_quarter_of_its_strength_below_the_mean() -> None:
    found = steps(made("map"), dict.fromkeys(TASKS, 0.0), 800)
    for task, s in found.items():
        assert s == pytest.approx(MEAN[task] - 1 / (4 * STRENGTH), abs=1e-3), task


def test_without_a_prior_a_solved_task_does_not_rest() -> None:
    for mode in ("kendall", "liebel_koerner"):
        assert all(s < -3 for s in steps(made(mode), dict.fromkeys(TASKS, 0.0), 800).values())


def test_a_loss_over_its_chance_level_only_moves_s_and_its_mean() -> None:
    chance = {"tagging": math.log(7), "aspect": math.log(3), "global": math.log(32), "local": math.log(48)}
    moved_mean = {task: MEAN[task] - math.log(chance[task]) for task in TASKS}
    moved_start = {task: INITIAL[task] - math.log(chance[task]) for task in TASKS}
    plain = steps(made("map"), LOSSES, 30)
    over_chance = {task: LOSSES[task] / chance[task] for task in TASKS}
    moved = steps(made("map", prior_mean=moved_mean, initial=moved_start), over_chance, 30)
    for task in TASKS:
        assert moved[task] == pytest.approx(plain[task] - math.log(chance[task]), abs=1e-4)


def test_only_the_tasks_of_the_model_have_an_s() -> None:
    aggregation = made("kendall", tasks=("tagging", "local"))
    assert aggregation.values() == {"tagging": INITIAL["tagging"], "local": INITIAL["local"]}
    total = aggregation(as_tensors({"local": 0.01}))
    assert total.item() == pytest.approx(math.exp(-2.0) / 2 * 0.01 + 1.0)


def test_a_total_may_be_negative() -> None:
    assert made("kendall", initial=dict.fromkeys(TASKS, -3.0))(as_tensors({"tagging": 1e-6})).item() < 0


def test_the_default_weights_name_every_task_and_start_above_where_a_solved_one_rests() -> None:
    config = AggregationConfig()
    assert set(config.initial) == set(config.prior_mean) == set(TASKS)
    rests = {task: mean - 1 / (4 * config.prior_strength) for task, mean in config.prior_mean.items()}
    assert rests == {"tagging": -3.0, "aspect": 2.0, "global": 2.0, "local": 2.0}
    assert all(config.initial[task] > rest for task, rest in rests.items())


@pytest.mark.parametrize("mode", LEARNED)
def test_an_absent_task_stays_where_it_is_whatever_momentum_it_has(mode: str) -> None:
    aggregation = made(mode)
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
