"""Dev trials: as many for every system, within a budget, and what they choose for main runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from clamp.config import ConfigError
from repro.plan import chosen
from repro.plan.chosen import Choice, read_choices, write_choices
from repro.plan.grid import GRIDS, SEEDS, TRIED, system_of
from repro.plan.profiles import PROFILES, plan
from repro.plan.trials import best_point, choose, plan_trials
from repro.plan.variants import GROUPS, VARIANTS, means_something


@pytest.mark.parametrize("profile", PROFILES)
def test_every_system_has_the_same_number_of_trials(profile: str) -> None:
    trials, grid = plan_trials(profile), GRIDS[profile]
    number = {(dataset, system): len(grid.points) * SEEDS for dataset in grid.datasets for system in TRIED}
    assert Counter((run.experiment, run.variant) for run in trials) == number
    assert {system: len(grid.of(system)) for system in TRIED} == dict.fromkeys(TRIED, len(grid.points))
    assert {"full", "no_ama", "fixed_weights", *GROUPS["baselines"]} == set(TRIED)
    configs = [json.dumps(run.config_dict(), sort_keys=True) for run in trials]
    assert len(set(configs)) == len(configs)  # no point is another one's, nor undone by what makes the system
    assert set(grid.decides) == set(PROFILES[profile].seeds)


def test_the_grid_of_the_paper_covers_the_ranges_of_rates() -> None:
    rates = {(run.config.train.lr_encoder, run.config.train.lr_head) for run in plan_trials("paper", only=["cmmt"])}
    assert {(encoder, head) for encoder in (2e-5, 5e-5) for head in (1e-4, 1e-3)} <= rates


@pytest.mark.parametrize(("budget", "points"), [(18, 1), (35, 1), (36, 2), (71, 3), (72, 4), (1000, 4)])
def test_a_budget_is_spent_equally_on_the_first_points(budget: int, points: int) -> None:
    trials = plan_trials("synthetic", budget=budget)
    assert len(trials) <= budget
    for system in TRIED:
        assert [run.trial for run in trials if run.variant == system] == [
            p for p in range(points) for _ in range(SEEDS)
        ]


def test_a_budget_that_is_too_small_for_all_says_what_it_takes() -> None:
    with pytest.raises(ConfigError, match="budget 17: one point of every system takes 18 runs"):
        plan_trials("synthetic", budget=17)
    with pytest.raises(ConfigError, match="nothing to try: no_gate"):
        plan_trials("synthetic", only=["no_gate"])


def test_the_best_mean_is_taken_and_the_earlier_point_on_ties() -> None:
    assert best_point({0: (0.5, 0.7), 1: (0.9, 0.1), 2: (0.6, 0.61)}) == 2  # not the best single seed
    assert best_point({2: (0.6, 0.8), 1: (0.8, 0.6), 0: (0.1, 0.2)}) == 1
    choice = choose("synthetic", "synthetic", "cmmt", {0: (0.5, 0.5), 1: (0.75, 0.5)})
    assert choice == Choice("synthetic", "synthetic", "cmmt", dict(GRIDS["synthetic"].points[1]), 0.625, 4, 2)


@pytest.mark.parametrize(
    ("variant", "system"),
    [
        ("no_gate", "full"), ("no_paf", "full"), ("text_only", "text_only"), ("no_ama", "no_ama"),
        ("long_description", "full"), ("twice_the_epochs", "full"),
        ("no_ama_distractors_4", "no_ama"), ("no_mcl_distractors_4", "full"),
    ],
)  # fmt: skip
def test_every_variant_follows_a_system_that_had_trials(variant: str, system: str) -> None:
    assert system_of(variant) == system
    assert {system_of(v) for v in VARIANTS} == set(TRIED)


def test_main_runs_take_what_was_chosen_and_a_file_has_the_last_word(tmp_path: Path) -> None:
    before = {
        run.variant: run.config for run in plan("offline", datasets=["twitter2017"], seeds=1, only=["main", "no_gate"])
    }
    changes = {"train.lr_head": 0.25, "train.epochs": 3}
    write_choices([Choice("offline", "twitter2015", "full", changes, 0.5, 8, 2)])
    after = {
        run.variant: run.config for run in plan("offline", datasets=["twitter2017"], seeds=1, only=["main", "no_gate"])
    }
    changed = {variant for variant in before if before[variant] != after[variant]}
    assert changed == {"full", "no_gate"}
    assert (after["full"].train.lr_head, after["full"].train.epochs) == (0.25, 3)
    file = tmp_path / "rates.json"
    file.write_text('{"train.lr_head": 0.125}')
    (run,) = plan("offline", datasets=["twitter2017"], seeds=1, only=["full"], config_file=file)
    assert (run.config.train.lr_head, run.config.train.epochs) == (0.125, 3)
    assert plan("paper", only=["full"])[0].config.train.lr_head != 0.25


def test_choices_are_kept_sorted_and_replaced_by_system() -> None:
    one = Choice("synthetic", "synthetic", "full", {"train.epochs": 3}, 0.5, 8, 2)
    other = Choice("offline", "twitter2015", "cmmt", {}, 0.5, 8, 2)
    write_choices([one])
    write_choices([other])
    assert list(read_choices().values()) == [other, one]
    write_choices([Choice("synthetic", "synthetic", "full", {}, 0.75, 8, 2)])
    assert [c.dev_f1 for c in read_choices().values()] == [0.5, 0.75]


def test_a_damaged_file_of_choices_is_named() -> None:
    chosen.FILE.write_text('[{"profile": "offline"}]')
    with pytest.raises(ConfigError, match=r"chosen\.json: not a list of choices: 0\.dataset"):
        plan("synthetic")


def test_the_shipped_choices_are_of_systems_and_points_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "FILE", Path(chosen.__file__).with_name("chosen.json"))
    for (profile, dataset, variant), choice in read_choices().items():
        assert choice.changes in [dict(point) for point in GRIDS[profile].of(variant)]
        assert dataset in GRIDS[profile].datasets
        assert means_something(variant, profile, dataset)
