"""A record tells what made it, and nothing of whose machine that was."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from repro.plan.profiles import Inputs, Run
from repro.run import provenance
from repro.run.provenance import Invocation, portable


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three packages of one module each in place of the real ones."""
    for package in ("clamp", "kernels", "repro"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "package_folder", lambda package: tmp_path / package)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["--data", "/srv/ada/tweets"], ["--data", "DIR"]),
        (["--data=../tweets"], ["--data=DIR"]),
        (["--out", "{cwd}/tables/x"], ["--out", "tables/x"]),
        (["--out=/srv/ada/tables"], ["--out=tables"]),
        (["--config", "../ada/fast.json"], ["--config", "fast.json"]),
        (["--config", "~/fast.json"], ["--config", "fast.json"]),
        (["--only", "full", "text_only", "--seeds", "3"], ["--only", "full", "text_only", "--seeds", "3"]),
    ],
)
def test_arguments_lose_their_paths(typed: list[str], kept: list[str], tmp_path: Path) -> None:
    assert portable([argument.replace("{cwd}", str(tmp_path)) for argument in typed]) == tuple(kept)


def test_an_invocation_names_the_commit_and_whether_sources_differ_from_it(repository: Path) -> None:
    def git(*command: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(
            ["git", "-C", str(repository), *identity, *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert Invocation.start([]) == Invocation((), None, None)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    (repository / "paper_tables").mkdir()
    (repository / "paper_tables/t.md").write_text("results change with every run\n")
    assert Invocation.start([]) == Invocation((), git("rev-parse", "HEAD"), False)
    (repository / "clamp/a.py").write_text("x = 3\n")
    assert Invocation.start([]).git_dirty is True


def test_collected_facts_are_complete_and_tell_nothing_of_the_owner(tmp_path: Path) -> None:
    inputs = Inputs({"train.json": "00"}, "w", "s")
    made_by = provenance.collect(Invocation(("python",), None, None), inputs, 3, datetime(2025, 1, 2, tzinfo=UTC))
    text = made_by.model_dump_json()
    facts = json.loads(text)
    wanted = (
        "git_sha git_dirty source_hash packages python cpu cores gpu driver threads determinism data weights_revision "
        "argv started hardware"
    )
    assert sorted(facts) == sorted(wanted.split())
    assert facts["started"] == "2025-01-02T00:00:00+00:00"
    assert facts["threads"] == 3
    assert facts["determinism"]["deterministic_algorithms"] is True  # as the tests set it
    assert {"torch", "numpy", "transformers"} <= facts["packages"].keys()
    for private in (str(tmp_path), str(Path.home()), f'"{socket.gethostname()}"', f'"{getpass.getuser()}"'):
        assert private not in text


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("model name\t: Intel(R) Xeon(R) CPU @ 2.20GHz", "Intel Xeon"),
        ("model name\t: AMD EPYC 7B13 64-Core Processor", "AMD EPYC 7B13 64-Core"),
        ("model name : Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", "Intel Core i7-8550U"),
    ],
)
def test_cpu_name_is_short(line: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nflags\t: fpu\n")
    monkeypatch.setattr(provenance, "_CPUINFO", tmp_path / "cpuinfo")
    assert provenance.cpu_name() == name
    assert provenance.hardware_label(2, name, None) == f"2 x {name} (no GPU)"
    assert provenance.hardware_label(16, name, "NVIDIA H200") == f"NVIDIA H200 (16 x {name})"


def test_driver_version_is_read_from_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_NVIDIA_DRIVER", tmp_path / "version")
    assert provenance.gpu_driver() is None
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (x@y)\nGCC version: gcc"
    (tmp_path / "version").write_text(text)
    assert provenance.gpu_driver() == "570.86.15"


def test_inputs_follow_the_data_and_the_weights(make_run: Callable[..., Run], tmp_path: Path) -> None:
    one, two = (provenance.inputs_of(make_run(data__synthetic__seed=seed).config, None) for seed in (1, 2))
    assert one.data != two.data
    assert one.weights_revision is None
    revisions = set()
    for content in (b"some", b"others"):
        folder = tmp_path / content.decode()
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
        run = make_run(model__text__weights=str(folder))
        revisions.add(provenance.inputs_of(run.config, None).weights_revision)
        with_vision = make_run(model__vision={"kind": "transformer", "encoder": {"weights": str(folder)}})
        revisions.add(provenance.inputs_of(with_vision.config, None).weights_revision)
    assert len(revisions) == 2  # text and vision weights alike, by their bytes
    assert None not in revisions
