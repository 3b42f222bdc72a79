"""The table of dev trials: what every point reached, what was taken, and that numbers were equal."""

from __future__ import annotations

from typing import Any

from made_up import equal_trials, evidence_of, record, runs_of

from repro.evidence.trials import Trials, trials_of
from repro.plan.chosen import Choice
from repro.plan.grid import GRIDS, TRIED
from repro.report.tables.results.trials import trials
from repro.report.wording import mean_and_sd

PLACE = ("synthetic", "synthetic", "cmmt")


def trial(point: int, seed: int, **train: Any) -> dict[str, Any]:
    """A made-up trial of the baseline CMMT, with what its point sets or `train` says."""
    made = record("cmmt", seed, f1=0.6 + 0.05 * point)
    made["config"]["train"] |= {k.rpartition(".")[2]: v for k, v in GRIDS["synthetic"].points[point].items()} | train
    return made | {"trial": point}


def test_a_row_has_its_points_mean_and_what_was_taken():
    made = runs_of([trial(point, seed) for point in (1, 0) for seed in range(2)])
    point = dict(GRIDS["synthetic"].points[1])
    had = trials_of(made, {PLACE: Choice(*PLACE, point, 0.5, 4, 2)})
    frame = trials(evidence_of([], trials=had)).frame
    rows = frame[(frame.block == "Generated tweets, profile synthetic") & (frame.system == "CMMT baseline, simplified")]
    assert rows.n.tolist() == ["2", "2", "0", "0"]
    assert rows.taken.tolist() == ["-", "yes", "-", "-"]
    assert rows["settings"].tolist()[:2] == ["the profile's", "lr_encoder 0.0015, lr_head 0.00075"]
    scores = [run.f1("dev") for run in made if run.trial == 1]
    assert rows["dev F1"].tolist()[1:3] == [mean_and_sd(scores), "not run"]
    assert len(frame) == sum(len(g.points) * len(g.datasets) * len(TRIED) for g in GRIDS.values())


def test_a_trial_that_is_not_of_its_point_any_more_does_not_count():
    kept, of_another_grid = trial(1, 0), trial(1, 1, lr_head=0.5)
    no_such_point = trial(0, 0) | {"trial": 99}
    main = record("cmmt")
    had = trials_of(runs_of([kept, of_another_grid, no_such_point, main]), {})
    assert {system: list(points) for system, points in had.dev_f1.items()} == {PLACE: [1]}
    assert had.number(("synthetic", "synthetic"), "cmmt") == 1


def test_the_finding_says_whether_all_had_as_many():
    said = trials(evidence_of([], trials=equal_trials())).findings[0]
    assert said == f"Generated tweets, profile synthetic: every one of {len(TRIED)} systems had 1 trials."
    unequal = Trials({PLACE: {0: (0.5, 0.5)}})
    assert "not the same number for every system: CLAMP 0," in trials(evidence_of([], trials=unequal)).findings[0]
    assert "not run" in trials(evidence_of([], trials=Trials())).findings[0]
