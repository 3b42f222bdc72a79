"""`python -m repro tune`: trials as runs, killed and given again, and what becomes of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from fake_training import result

from repro.__main__ import main
from repro.plan.grid import GRIDS, SEEDS
from repro.plan.profiles import plan
from repro.run import step_cost
from repro.run.published import published, published_trials

SYSTEMS = ("full", "cmmt", "text_only")
TRIALS = 2 * SEEDS * len(SYSTEMS)  # two points of each
Drive = Callable[..., "subprocess.Popen[str]"]


def finished() -> dict[str, str]:
    return {str(path): path.read_text() for path in Path("runs").rglob("result.json")}


def tune(tiny_config: Path) -> tuple[str, ...]:
    return ("tune", "--config", str(tiny_config), "--only", *SYSTEMS, "--budget", str(TRIALS), "--processes", "2")


def test_killed_and_given_again_it_goes_on(drive: Drive, tiny_config: Path) -> None:
    launcher = drive("fake_training:train", *tune(tiny_config))
    end = time.monotonic() + 100
    while len(finished()) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    launcher.kill()
    launcher.wait()
    before = finished()
    assert 3 <= len(before) < TRIALS
    again = drive("fake_training:train", *tune(tiny_config))
    _, said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    after = finished()
    assert before.items() <= after.items()
    assert len(after) == TRIALS
    trials = published_trials(Path("paper_tables/results"))
    assert {(r.variant, r.trial, r.seed) for r in trials} == {
        (system, point, seed) for system in SYSTEMS for point in range(2) for seed in range(SEEDS)
    }
    assert published(Path("paper_tables/results")) == ([], [])
    assert (Path("paper_tables/results/synthetic/synthetic/trials/full.json")).exists()
    choices = json.loads(Path("chosen.json").read_text())
    assert [choice["variant"] for choice in choices] == sorted(SYSTEMS)
    # the scores of the stand-in do not depend on rates: a tie, so that the earlier point is taken
    assert {(json.dumps(c["changes"]), c["trials"], c["seeds"]) for c in choices} == {("{}", 2 * SEEDS, SEEDS)}
    table = Path("paper_tables/trials.md").read_text()
    assert "profile synthetic: not the same number for every system: CLAMP 4, no adaptive weighting" in table
    main_table = pd.read_csv("paper_tables/main_synthetic.csv", dtype=str)
    assert set(main_table[main_table.block == "Profile synthetic"]["MABSA F1"]) == {"not run"}


def test_a_dry_run_of_the_paper_needs_no_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_cost, "cpu_flops", lambda threads: 2e9 * threads)
    assert main(["tune", "--profile", "paper", "--dry-run", "--only", "text_only"]) == 0
    said = capsys.readouterr().out
    each = len(GRIDS["paper"].points) * SEEDS * 2
    assert f"paper: {each} trials, {each} of each of 1 systems: text_only" in said
    assert "twitter2017 text_only point 5: rates 5e-05 and 0.001, 20 epochs" in said
    assert "estimate: training 20 runs takes about" in said
    assert "sustains 40 TFLOP/s" in said
    assert "without data and weights" in said
    assert not Path("runs").exists()
    assert not Path("paper_tables").exists()


def test_a_trial_and_a_main_run_of_one_config_are_two_runs(drive: Drive, tiny_config: Path) -> None:
    only = ("--only", "text_only", "--config", str(tiny_config))
    assert drive("fake_training:train", "tune", *only, "--budget", "2").wait(100) == 0
    assert drive("fake_training:train", "run", *only, "--seeds", "1").wait(100) == 0
    runs, _ = published(Path("paper_tables/results"))
    assert [(run.variant, run.trial) for run in runs] == [("text_only", None)]
    trial = published_trials(Path("paper_tables/results"))[0]
    assert trial.key == runs[0].key
    assert len(finished()) == 3
    assert trial.f1("dev") == result(plan("synthetic", only=["text_only"])[0].config)["metrics"]["dev"]["joint"]["f1"]


def test_a_trial_leaves_no_checkpoint_and_is_not_evaluated(
    drive: Drive, tiny_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NODE_LOG", str(tmp_path / "log.txt"))
    monkeypatch.setenv("NODE", "here")
    only = ("--only", "text_only", "--config", str(tiny_config), "--budget", "2")
    assert drive("fake_training:train_a_model_on_a_node", "tune", *only).wait(200) == 0
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2
    assert len(finished()) == 2
    assert not list(Path("runs").rglob("weights.bin"))
    assert not list(Path("runs").rglob("evaluation.json"))
