"""`run` killed at random points: nothing that was finished is lost, and the tables are the same in the end."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.run.local_engine import TRAIN

Drive = Callable[..., "subprocess.Popen[str]"]


def finished() -> dict[str, str]:
    return {str(path): path.read_text() for path in Path("runs").rglob("result.json")}


def under_way() -> bool:
    """Whether a run has done an epoch and is not finished."""
    return any(not (path.parent / "result.json").exists() for path in Path("runs").rglob("checkpoint.json"))


def processes_in(folder: Path) -> dict[int, str]:
    """The command line of every process that works in `folder`, as all those of a command started there do."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and (process / "cwd").readlink() == folder:
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has just ended, or is another user's
    return found


def left_over(folder: Path, own: dict[int, str]) -> dict[int, str]:
    """Processes that are still there after a time in which one that was importing torch must have noticed."""
    end = time.monotonic() + 60
    while (left := processes_in(folder).items() - own.items()) and time.monotonic() < end:
        time.sleep(0.05)
    return dict(left)


def tables(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(out).iterdir() if path.is_file()}


def check_interruptions(drive: Drive, command: tuple[str, ...], kills: int, seed: int, tmp_path: Path) -> None:
    own = processes_in(tmp_path)
    started = time.monotonic()
    assert drive(*command, "--runs", "undisturbed", "--out", "expected").wait(600) == 0
    whole = time.monotonic() - started
    draw = random.Random(seed)
    for _ in range(kills):
        before = finished()
        launcher = drive(*command)
        time.sleep(draw.uniform(0.0, whole / 2))
        launcher.kill()
        launcher.wait()
        assert left_over(tmp_path, own) == {}
        after = finished()
        assert before.items() <= after.items()
        for text in after.values():
            json.loads(text)
    assert drive(*command).wait(600) == 0
    undisturbed = {path.parts[-3:-1]: json.loads(path.read_text()) for path in Path("undisturbed").rglob("result.json")}
    results = {path.parts[-3:-1]: json.loads(path.read_text()) for path in Path("runs").rglob("result.json")}
    assert results.keys() == undisturbed.keys()
    for cell, record in results.items():
        assert record["result"]["metrics"] == undisturbed[cell]["result"]["metrics"]
    assert tables("paper_tables") == tables("expected")


def test_three_kills_lose_nothing(drive: Drive, tiny_config: Path, tmp_path: Path) -> None:
    command = (
        "fake_training:train",
        "run",
        "--config",
        str(tiny_config),
        "--only",
        "main",
        "ablations",
        "--processes",
        "2",
    )
    check_interruptions(drive, command, kills=3, seed=0, tmp_path=tmp_path)


@pytest.mark.slow
def test_ten_kills_of_the_real_training_lose_nothing(drive: Drive, tiny_config: Path, tmp_path: Path) -> None:
    tiny_config.write_text(json.dumps({"data.synthetic": {"train": 200, "dev": 20, "test": 20}, "train.epochs": 3}))
    only = ("--only", "full", "no_mcl", "text_only", "--seeds", "2")
    command = (TRAIN, "run", "--config", str(tiny_config), *only)
    check_interruptions(drive, command, kills=10, seed=1, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow)],
)
def test_what_is_told_to_stop_says_what_is_done_and_goes_on_next_time(
    drive: Drive, tiny_config: Path, tmp_path: Path, sent: signal.Signals, code: int, word: str
) -> None:
    own = processes_in(tmp_path)
    tiny_config.write_text(json.dumps(json.loads(tiny_config.read_text()) | {"train.epochs": 40}))
    command = ("fake_training:train", "run", "--config", str(tiny_config), "--only", "main", "--processes", "1")
    launcher = drive(*command)
    end = time.monotonic() + 120
    while not (finished() and under_way()) and time.monotonic() < end:
        time.sleep(0.02)
    launcher.send_signal(sent)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == code
    done = len(finished())
    assert done > 0
    assert f"{done} of " in said
    assert "runs are done; 1 were begun and go on from their last epoch" in said
    assert f"{word}; what is done stays; give the same command again to go on where it stopped" in said
    assert "Traceback" not in said
    assert left_over(tmp_path, own) == {}
