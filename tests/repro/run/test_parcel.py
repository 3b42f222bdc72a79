"""A run's folder, packed and unpacked: all that counts, nothing half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clamp.system.files import is_locked, locked
from repro.records.files import StoreError, write_atomically
from repro.run.parcel import pack, unpack
from repro.run.store import Job

MakeJob = Callable[..., Job]


@pytest.fixture
def job(make_job: MakeJob) -> Job:
    """A finished run."""
    job = make_job()
    (job.folder / "model").mkdir(parents=True)
    (job.folder / "model" / "weights.bin").write_bytes(bytes(range(256)))
    job.evaluation.write_text("evaluated")
    job.result.write_text("found")
    return job


def test_what_is_unpacked_is_what_was_packed(job: Job, tmp_path: Path) -> None:
    (job.folder / ".result.json.half").write_text("being written")
    with locked(job.folder):
        parcel = pack(job.folder)
    assert sorted(parcel) == ["evaluation.json", "model/weights.bin", "result.json"]
    there = replace(job, runs=tmp_path / "there")
    unpack(parcel, there)
    assert pack(there.folder) == parcel
    assert pack(tmp_path / "nowhere") == {}


def test_the_result_comes_last(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = replace(job, runs=tmp_path / "there")
    write, written = write_atomically, []

    def write_all_but_one(path: Path, content: str | bytes) -> None:
        if len(written) == 2:
            raise StoreError("the disk is full")
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr("repro.run.parcel.write_atomically", write_all_but_one)
    with pytest.raises(StoreError, match="full"):
        unpack(pack(job.folder), there)
    assert written == ["evaluation.json", "weights.bin"]
    assert not there.result.exists()


def test_who_does_not_wait_is_told_that_a_run_is_held(job: Job) -> None:
    with locked(job.folder):
        with pytest.raises(BlockingIOError), locked(job.folder, wait=False):
            pass
        assert is_locked(job.folder)
    with locked(job.folder, wait=False):
        assert is_locked(job.folder)
