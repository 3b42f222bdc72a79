"""A small grid of runs for the tests of the harness, trained by the functions of fake_training.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clamp.config import override
from clamp.data import data_manifest
from repro.plan import chosen
from repro.plan.profiles import Inputs, Run, plan
from repro.run.source_hash import source_hash
from repro.run.store import Job

# Runs are processes of their own, which import their training function by name.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "clamp"))  # its builders of tiny models

ROOT = Path(__file__).parents[2]
TINY = {"data": {"synthetic": {"train": 4, "dev": 2, "test": 2}}, "train": {"epochs": 3}}


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """A --config file for runs that are over at once."""
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(TINY))
    return file


@pytest.fixture
def make_run(tiny_config: Path) -> Callable[..., Run]:
    """One run of the synthetic profile, by its variant, with config fields changed."""

    def make(variant: str = "full", seed: int = 0, **changes: object) -> Run:
        run = plan("synthetic", only=[variant], seeds=seed + 1, config_file=tiny_config)[seed]
        dotted = {field.replace("__", "."): value for field, value in changes.items()}
        config = override(run.config, dotted, "test")
        return Run(run.profile, run.experiment, run.variant, run.seed, config)

    return make


@pytest.fixture
def make_job(make_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Job]:
    """The same as a job whose folder lies under tmp_path/runs; `sources` names them, if not today's."""

    def make(variant: str = "full", seed: int = 0, sources: str = "", **changes: object) -> Job:
        run = make_run(variant, seed, **changes)
        inputs = Inputs(data_manifest(run.config.data, None), None, sources or source_hash())
        return Job(run, inputs, tmp_path / "runs")

    return make


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m repro` with another training function, in tmp_path, as a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(train: str, *arguments: str) -> subprocess.Popen[str]:
        here = Path(__file__).parent
        command = [sys.executable, str(here / "drive.py"), train, *arguments]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{here}"}
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a shell starts its background jobs, this test run perhaps among them, with SIGINT ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def write_twitter() -> Callable[[Path], None]:
    """Writes a made-up twitter2015/ of three tweets a split, none with an image, under a folder."""

    def write(root: Path) -> None:
        folder = root / "twitter2015"
        folder.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            tweets = [
                {
                    "words": ["so", "proud", "of", "Ada", "Lovelace", "today"],
                    "image_id": f"{split}{number}.jpg",
                    "aspects": [{"from": 3, "to": 5, "polarity": "POS", "term": ["Ada", "Lovelace"]}],
                }
                for number in range(3)
            ]
            (folder / f"{split}.json").write_text(json.dumps(tweets))

    return write


@pytest.fixture(scope="session", autouse=True)
def _nothing_chosen() -> Iterator[None]:
    """Nothing that a session's fixtures make depends on what dev trials have chosen by now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen, "FILE", Path("no trials"))
        yield


@pytest.fixture(autouse=True)
def _choices_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a test, and what it chooses stays with it."""
    monkeypatch.setattr(chosen, "FILE", tmp_path / "chosen.json")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout, and no setting of the developer's reaches a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLAMP_DATA", raising=False)
