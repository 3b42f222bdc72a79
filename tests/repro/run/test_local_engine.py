"""Runs in processes of their own: whatever ends one, the others go on; whatever ends the launcher ends them all."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from repro.records.files import StoreError, read_run
from repro.run import store
from repro.run.local_engine import Setting, launch
from repro.run.progress import Progress
from repro.run.provenance import Invocation
from repro.run.store import Job

MakeJob = Callable[..., Job]
Drive = Callable[..., "subprocess.Popen[str]"]


def setting(function: str = "train") -> Setting:
    return Setting(Invocation(("python",), None, None), None, f"fake_training:{function}")


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_every_run_leaves_a_whole_record(make_job: MakeJob) -> None:
    jobs = [make_job(seed=0), make_job(seed=1, train__threads=2), make_job("no_gate")]
    assert launch(jobs, 2, setting()) == []
    for job in jobs:
        record = read_run(job.result)
        assert (record.variant, record.seed, record.key) == (job.run.variant, job.run.seed, job.key)
        assert record.config == job.run.config_dict()
        assert record.provenance.threads == job.run.config.train.threads == record.result.cost.parameters
        assert (job.folder / "course.txt").read_text() == "from 0: 1 2 3"
        assert not job.error.exists()


def test_runs_that_fail_or_are_killed_leave_a_reason_and_the_others_go_on(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    raises, killed, fine = (make_job(variant) for variant in ("no_gate", "no_focus", "full"))
    failures = launch([raises, killed, fine], 1, setting("train_but_some_fail"))
    assert [failure.job for failure in failures] == [raises, killed]
    assert failures[0].reason == "ValueError: loss is NaN at step 7"
    assert "Traceback" in raises.error.read_text()
    assert "SIGKILL" in failures[1].reason
    assert "SIGKILL" in killed.error.read_text()
    assert store.state(fine)[0] == "done"
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "[1/3] synthetic no_gate seed 0",
        "[2/3] synthetic no_focus seed 0",
        "[3/3] synthetic full seed 0",
    ]
    assert "left" in lines[0]
    assert "test F1 66.0" in lines[2]
    assert launch([raises], 1, setting()) == []  # mended: the old error goes
    assert store.state(raises)[0] == "done"
    assert not raises.error.exists()


def test_a_run_planned_for_other_sources_is_not_trained(make_job: MakeJob) -> None:
    job = make_job(sources="yesterday")
    failures = launch([job], 1, setting())
    assert "clamp/ or kernels/ changed since this command began" in failures[0].reason
    assert not job.result.exists()


@pytest.mark.parametrize("function", ["train_onto_a_full_disk", "train_onto_a_full_disk_in_rust"])
def test_a_full_disk_stops_everything_at_once(make_job: MakeJob, function: str) -> None:
    jobs = [make_job(seed=seed) for seed in range(3)]
    with pytest.raises(StoreError, match=r"cannot write to .*: the disk is full"):
        launch(jobs, 1, setting(function))
    assert store.state(jobs[0])[0] == "failed"
    assert not jobs[1].folder.exists()


def test_a_run_goes_on_where_it_was(make_job: MakeJob) -> None:
    job = make_job()
    job.folder.mkdir(parents=True)
    (job.folder / "checkpoint.json").write_text("2")
    assert launch([job], 1, setting()) == []
    assert (job.folder / "course.txt").read_text() == "from 2: 3"


def test_two_launchers_never_train_one_run_twice(drive: Drive, tiny_config: Path) -> None:
    command = ("fake_training:train", "run", "--config", str(tiny_config), "--only", "full", "no_gate", "--seeds", "1")
    launchers = [drive(*command) for _ in range(2)]
    assert [launcher.wait(60) for launcher in launchers] == [0, 0]
    courses = [file.read_text() for file in Path("runs").rglob("course.txt")]
    assert courses == ["from 0: 1 2 3"] * 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_no_run_outlives_its_launcher(drive: Drive, tiny_config: Path, number: int, code: int) -> None:
    command = ("fake_training:train_for_ever", "run", "--config", str(tiny_config), "--only", "full", "--seeds", "2")
    launcher = drive(*command, "--processes", "2")
    wait_for(lambda: len(list(Path("runs").rglob("pid.txt"))) == 2)
    pids = [int(file.read_text() or 0) for file in Path("runs").rglob("pid.txt")]
    assert all(alive(pid) for pid in pids)
    if number == signal.SIGINT:
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.5)
        assert all(alive(pid) for pid in pids)  # a run leaves Ctrl-C to the launcher
        os.killpg(launcher.pid, number)  # as a terminal does: to every process of the command
    else:
        launcher.send_signal(number)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == code
    wait_for(lambda: not any(alive(pid) for pid in pids))
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert "same command again" in errors


def test_bars_on_a_terminal_show_epochs_and_dev_f1() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    progress = Progress(3, 2, terminal)
    progress.start("a", 4)
    progress.start("b", 4)
    progress.epoch("a", 1, 0.5)
    progress.end("a", "dev F1 51.0")
    progress.start("c", 4)  # takes the line that a has left
    progress.epoch("c", 2, 0.25)
    progress.close()
    shown = terminal.getvalue()
    for part in ("runs", "dev F1 50.0", "1/4", "[1/3] a: dev F1 51.0", "dev F1 25.0", "2/4"):
        assert part in shown


def test_a_run_of_files_that_changed_meanwhile_is_no_run_of_theirs(make_job: MakeJob) -> None:
    job = make_job()
    other = replace(job, inputs=replace(job.inputs, data={"synthetic/train": "0" * 64}))
    (failure,) = launch([other], 1, setting("train"))
    assert "the files of synthetic changed since this command began" in failure.reason
    assert not other.result.exists()
