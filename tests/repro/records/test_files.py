"""A record is there whole or not at all, and what is no whole record is refused in one line."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from finished import evaluation_of, record_of
from hypothesis import given, settings
from hypothesis import strategies as st

from clamp.config import ModelConfig
from clamp.inference.model_card import model_card
from repro.records.files import (
    StoreError,
    cell_text,
    read_cell,
    read_evaluation,
    read_run,
    record_text,
    write_atomically,
    write_record,
)
from repro.run.store import Job


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if step == "write":
            patched.setattr(Path, "open", lambda _, mode: io.FileIO("/dev/full", mode))
        else:
            patched.setattr(os, step, full)
        with pytest.raises(StoreError) as error:
            write_atomically(path, "new")
    assert str(error.value) == f"cannot write {path}: No space left on device; what was there before is unchanged"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    path = small_disk / "result.json"
    write_atomically(path, "old")
    with pytest.raises(StoreError, match="No space left on device"):
        write_atomically(path, "new" * 100_000)
    assert path.read_text() == "old"
    assert os.listdir(small_disk) == ["result.json"]


def test_the_name_appears_only_after_the_bytes_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def spy(*arguments: object, _name: str = name, _real: Callable[..., object] = real) -> object:
            steps.append(_name)
            return _real(*arguments)

        monkeypatch.setattr(os, name, spy)
    write_atomically(tmp_path / "deep" / "result.json", "new")
    assert steps == ["fsync", "replace", "fsync"]
    assert (tmp_path / "deep" / "result.json").stat().st_mode & 0o777 == 0o644


# --- reading ---


def test_a_record_comes_back_as_it_was(make_job: Callable[..., Job]) -> None:
    run, evaluation = record_of(make_job()), evaluation_of(make_job(), conditions=("no_image",))
    write_record(Path("run.json"), run)
    write_record(Path("evaluation.json"), evaluation)
    assert read_run(Path("run.json")) == run
    assert read_evaluation(Path("evaluation.json")) == evaluation


def test_a_cell_holds_every_seed_with_its_evaluation(make_job: Callable[..., Job]) -> None:
    runs = [record_of(make_job(seed=seed)) for seed in (10, 2)]
    evaluations = [evaluation_of(make_job(seed=10))]
    Path("cell.json").write_text(cell_text(runs, evaluations))
    assert read_cell(Path("cell.json")) == ([runs[1], runs[0]], evaluations)
    assert cell_text(reversed(runs), evaluations) == Path("cell.json").read_text()


def test_a_record_that_is_cut_off_is_refused(make_job: Callable[..., Job]) -> None:
    raw = record_text(record_of(make_job())).encode()
    path = Path("record.json")

    @settings(max_examples=30)
    @given(survived=st.integers(0, len(raw) - 2))
    def cut_off(survived: int) -> None:
        path.write_bytes(raw[:survived])
        with pytest.raises(StoreError, match=r"^record\.json: truncated or corrupt"):
            read_run(path)

    cut_off()


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"schema_version": 99}', b'{"schema_version": 2}', b"\xff\xfe", b"{\x00"]
)
def test_what_is_no_record_is_refused_in_one_line(content: bytes) -> None:
    path = Path("record.json")
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        read_run(path)
    assert "record.json" in str(error.value)
    assert "\n" not in str(error.value)


def without_tp(record: dict[str, Any]) -> None:
    del record["result"]["metrics"]["test"]["joint"]


def more(record: dict[str, Any]) -> None:
    record["result"]["luck"] = 7


def packed_garbage(record: dict[str, Any]) -> None:
    record["result"]["per_tweet"]["test"] = "AAAA"


def a_bomb(record: dict[str, Any]) -> None:
    import base64
    import zlib

    record["result"]["per_tweet"]["test"] = base64.b64encode(zlib.compress(b" " * 2**25)).decode()


def not_finite(record: dict[str, Any]) -> None:
    record["result"]["curve"][0]["dev_f1"] = float("inf")


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (without_tp, r"result\.metrics\.test\.joint: Field required"),
        (more, r"result\.luck: Extra inputs are not permitted"),
        (packed_garbage, r"result\.per_tweet\.test: .*not a packed series"),
        (a_bomb, r"result\.per_tweet\.test: .*larger than any series is"),
        (not_finite, r"result\.curve\.0\.dev_f1: Input should be a finite number"),
    ],
)
def test_what_a_record_must_not_hold_or_lack_is_named(
    make_job: Callable[..., Job], spoil: Callable[[dict[str, Any]], None], where: str
) -> None:
    values = json.loads(record_text(record_of(make_job())))
    spoil(values)
    Path("record.json").write_text(json.dumps(values))
    with pytest.raises(StoreError, match=rf"^record\.json: not a whole record: {where}") as error:
        read_run(Path("record.json"))
    assert "\n" not in str(error.value)


def test_a_models_card_reads_the_record_of_its_run(make_job: Callable[..., Job]) -> None:
    """The record lies beside the model, packed as it is stored."""
    job = make_job()
    record = record_of(job)
    write_record(job.result, record)
    card = model_card(ModelConfig(), json.loads(job.result.read_text()))
    joint, masc = record.result.metrics["test"].joint, record.result.metrics["test"].masc
    assert f"| test | {100 * joint.precision:.1f} | {100 * joint.recall:.1f} | {100 * joint.f1:.1f} |" in card
    assert f"| {100 * masc.accuracy:.1f} | {100 * masc.macro_f1:.1f} |" in card
    assert "not recorded" not in card.partition("## Scores")[2]
