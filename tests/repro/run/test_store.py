"""A result is there whole or not at all, and one process at a time makes it."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_training
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamp.system.files import locked
from repro.run import store
from repro.run.store import Job, StoreError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record_of(job: Job, started: str = "2025-01-01T00:00:00+00:00") -> store.Record:
    run, inputs = job.run, job.inputs
    return {
        "schema": store.SCHEMA,
        "profile": run.profile,
        "experiment": run.experiment,
        "variant": run.variant,
        "seed": run.seed,
        "key": job.key,
        "config": run.config_dict(),
        "result": fake_training.result(run.config),
        "provenance": {
            "source_hash": inputs.source_hash,
            "data": inputs.data,
            "weights_revision": inputs.weights_revision,
            "started": started,
        },
    }


def finish(job: Job, started: str = "2025-01-01T00:00:00+00:00") -> str:
    text = store.record_text(record_of(job, started))
    store.write_atomically(job.result, text)
    return text


# --- writing ---


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "result.json"
    store.write_atomically(path, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if step == "write":
            patched.setattr(Path, "open", lambda _, mode: io.FileIO("/dev/full", mode))
        else:
            patched.setattr(os, step, full)
        with pytest.raises(StoreError) as error:
            store.write_atomically(path, "new")
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
    store.write_atomically(path, "old")
    with pytest.raises(StoreError, match="No space left on device"):
        store.write_atomically(path, "new" * 100_000)
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
    store.write_atomically(tmp_path / "deep" / "result.json", "new")
    assert steps == ["fsync", "replace", "fsync"]
    assert (tmp_path / "deep" / "result.json").stat().st_mode & 0o777 == 0o644


# --- reading ---


@settings(max_examples=30)
@given(st.dictionaries(st.text(), JSON, max_size=4), st.data())
def test_a_record_comes_back_whole_and_never_in_part(fields: dict[str, object], data: st.DataObject) -> None:
    needed = ("profile", "experiment", "variant", "seed", "key", "config", "result", "provenance")
    record = dict.fromkeys(needed) | fields | {"schema": store.SCHEMA}
    text = store.record_text(record)
    path = Path("record.json")
    path.write_text(text, encoding="utf-8")
    assert store.read_record(path) == record
    raw = text.encode()
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 2), label="bytes that survived")])
    with pytest.raises(StoreError, match=r"record\.json"):
        store.read_record(path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"schema": 99}', b'{"schema": 1}', b"\xff\xfe", b"{\x00"])
def test_what_is_no_record_is_refused_in_one_line(content: bytes) -> None:
    path = Path("record.json")
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        store.read_record(path)
    assert "record.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_nan_is_never_stored() -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.record_text({"schema": 1, "f1": float("nan")})


# --- the state of a run ---


def test_a_run_is_missing_then_running_then_failed_then_done(make_job: Callable[..., Job]) -> None:
    job = make_job()
    assert store.state(job) == ("missing", None)
    with locked(job.folder):
        assert store.state(job) == ("running", None)
    assert store.state(job) == ("missing", None)
    store.write_atomically(job.error, "ValueError")
    assert store.state(job) == ("failed", None)
    finish(job)
    assert store.state(job) == ("done", None)


def test_a_truncated_result_is_a_failed_run_with_a_line_that_says_so(make_job: Callable[..., Job]) -> None:
    job = make_job()
    job.folder.mkdir(parents=True)
    job.result.write_text('{"schema": 1, "res')
    state, problem = store.state(job)
    assert state == "failed"
    assert problem is not None
    assert str(job.result) in problem
    assert "\n" not in problem


def test_stale_is_the_same_run_by_other_sources_and_nothing_else(make_job: Callable[..., Job]) -> None:
    finish(make_job(sources="yesterday"))
    assert store.state(make_job())[0] == "stale"
    assert store.state(make_job(train__epochs=4))[0] == "missing"
    assert store.state(make_job(seed=1))[0] == "missing"
    finish(make_job())
    assert store.state(make_job())[0] == "done"


def test_the_newest_stale_result_counts(make_job: Callable[..., Job]) -> None:
    finish(make_job(sources="b"), started="2025-01-02T00:00:00+00:00")
    finish(make_job(sources="c"), started="2025-01-03T00:00:00+00:00")
    finish(make_job(sources="a"), started="2025-01-01T00:00:00+00:00")
    assert store.stale_result(make_job()) == make_job(sources="c").result


# --- published records ---


def test_publishing_fills_the_run_s_own_cell_only(make_job: Callable[..., Job], tmp_path: Path) -> None:
    results, job = tmp_path / "results", make_job("no_gate")
    other = store.cell(results, make_job("full").run)
    other.parent.mkdir(parents=True)
    other.write_text("untouched")
    store.publish(job, results)
    assert not store.cell(results, job.run).exists()
    text = finish(job)
    store.publish(job, results)
    assert (results / "synthetic/synthetic/no_gate/seed0.json").read_text() == text
    assert other.read_text() == "untouched"


def test_a_stale_record_fills_an_empty_cell_but_replaces_nothing(make_job: Callable[..., Job], tmp_path: Path) -> None:
    results, job = tmp_path / "results", make_job()
    stale = finish(make_job(sources="yesterday"))
    store.publish(job, results)
    assert store.cell(results, job.run).read_text() == stale
    store.cell(results, job.run).write_text("committed")
    store.publish(job, results)
    assert store.cell(results, job.run).read_text() == "committed"
    fresh = finish(job)
    store.publish(job, results)
    assert store.cell(results, job.run).read_text() == fresh


def test_a_corrupt_result_is_not_published(make_job: Callable[..., Job], tmp_path: Path) -> None:
    results, job = tmp_path / "results", make_job()
    text = finish(job)
    store.publish(job, results)
    job.result.write_text(text[:100])
    store.publish(job, results)
    assert store.cell(results, job.run).read_text() == text


def test_published_records_come_in_one_order(make_job: Callable[..., Job], tmp_path: Path) -> None:
    for variant, seed in (("no_gate", 0), ("full", 10), ("full", 2)):
        job = make_job(variant, seed)
        finish(job)
        store.publish(job, tmp_path / "results")
    found = [(r["variant"], r["seed"]) for r in store.published(tmp_path / "results")]
    assert found == [("full", 2), ("full", 10), ("no_gate", 0)]
    store.cell(tmp_path / "results", make_job("no_gate").run).write_text(json.dumps({"schema": 1})[:-1])
    with pytest.raises(StoreError, match=r"no_gate/seed0\.json"):
        store.published(tmp_path / "results")
