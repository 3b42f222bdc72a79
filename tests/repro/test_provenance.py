"""What changes a source hash and what does not; and that a record tells nothing of whose machine made it."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from repro import provenance
from repro.experiments import Inputs, Run
from repro.provenance import Invocation, portable, syntax

SOURCE = '''
def f(x: int = 1) -> int:
    """Says what."""
    return [x, "a"][0]
class C:
    """Says why."""
    y = None
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Says what.", "Says more."),
        ('    """Says why."""\n', ""),
        ("[0]", "[0]  # the first"),
        ('return [x, "a"][0]', "return (\n        [x, 'a']\n        [0]\n    )"),
        ("\ndef", '\n"""Module."""\ndef'),
    ],
)
def test_words_and_layout_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert syntax(SOURCE.replace(old, new)) == syntax(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 1", "= 2"),
        ("= 1", "= True"),
        ("[0]", "[-0]"),
        ("[x,", "(x,)  + (x,"),
        ('"a"', '"b"'),
        ('"a"', 'b"a"'),
        ("y = None", "y = ..."),
        ("y = None", "y: None"),
        ("x: int", "x"),
        ("def f", "async def f"),
        ("return", '"""Not a docstring."""; return'),
    ],
)
def test_code_counts(old: str, new: str) -> None:
    changed = SOURCE.replace(old, new).replace('(x,)  + (x, "a"]', '(x, "a")')
    assert syntax(changed) != syntax(SOURCE)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small packages in place of the real ones; the hash is computed anew each time."""
    for package in ("clamp/data", "kernels", "repro"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "_package_folder", lambda package: tmp_path / package)
    monkeypatch.setattr(provenance, "source_hash", provenance.source_hash.__wrapped__)
    return tmp_path


def test_source_hash_covers_clamp_and_kernels_without_benchmarks(sources: Path) -> None:
    before = provenance.source_hash()
    for harmless in ("kernels/bench.py", "kernels/bench_attention.py", "repro/b.py", "clamp/notes.md"):
        (sources / harmless).write_text("y = 2\n")
        assert provenance.source_hash() == before
    seen = {before}
    for file, content in (("clamp/data/a.py", "x = 2\n"), ("kernels/b.py", ""), ("clamp/bench.py", "z = 1\n")):
        (sources / file).write_text(content)
        assert provenance.source_hash() not in seen
        seen.add(provenance.source_hash())
    (sources / "kernels/b.py").rename(sources / "kernels/c.py")
    assert provenance.source_hash() not in seen


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


def test_an_invocation_names_the_commit_and_whether_sources_differ_from_it(sources: Path) -> None:
    def git(*command: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(
            ["git", "-C", str(sources), *identity, *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert Invocation.start([]) == Invocation((), None, None)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    (sources / "paper_tables").mkdir()
    (sources / "paper_tables/t.md").write_text("results change with every run\n")
    assert Invocation.start([]) == Invocation((), git("rev-parse", "HEAD"), False)
    (sources / "clamp/a.py").write_text("x = 3\n")
    assert Invocation.start([]).git_dirty is True


def test_collected_facts_are_complete_and_tell_nothing_of_the_owner(tmp_path: Path) -> None:
    inputs = Inputs({"train.json": "00"}, "w", "s")
    facts = provenance.collect(Invocation(("python",), None, None), inputs, 3, datetime(2025, 1, 2, tzinfo=UTC))
    text = json.dumps(facts)
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
