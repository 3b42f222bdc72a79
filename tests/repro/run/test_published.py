"""Published records: one file for all seeds of a variant, filled by its own runs alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from finished import evaluation_of, finish, write_evaluation

from repro.records.files import StoreError, cell_text, read_cell
from repro.run.published import cell, publish, published, published_trials
from repro.run.store import Job, state


def test_publishing_fills_the_run_s_own_place_only(make_job: Callable[..., Job], tmp_path: Path) -> None:
    results, job = tmp_path / "results", make_job("no_gate")
    other = cell(results, make_job("full").run)
    other.parent.mkdir(parents=True)
    other.write_text("untouched")
    publish(job, results)
    assert not cell(results, job.run).exists()
    record = finish(job)
    publish(job, results)
    assert (results / "synthetic/synthetic/no_gate.json").read_text() == cell_text([record], [])
    assert other.read_text() == "untouched"


def test_seeds_share_a_file_and_leave_one_another_alone(make_job: Callable[..., Job], tmp_path: Path) -> None:
    jobs = [make_job(seed=seed) for seed in (1, 0)]
    records = [finish(job) for job in jobs]
    write_evaluation(jobs[0])
    for job in jobs:
        publish(job, tmp_path)
    assert read_cell(cell(tmp_path, jobs[0].run)) == ([records[1], records[0]], [evaluation_of(jobs[0])])
    again = finish(jobs[1], started="2026-01-01T00:00:00+00:00")
    publish(jobs[1], tmp_path)
    assert read_cell(cell(tmp_path, jobs[0].run)) == ([again, records[0]], [evaluation_of(jobs[0])])


def test_an_evaluation_never_outlives_its_run(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job()
    finish(job)
    write_evaluation(job)
    publish(job, tmp_path)
    assert published(tmp_path)[1] == [evaluation_of(job)]
    job.evaluation.unlink()
    publish(job, tmp_path)
    runs, evaluations = published(tmp_path)
    assert (len(runs), evaluations) == (1, [])


def test_a_stale_record_fills_an_empty_place_but_replaces_nothing(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job()
    stale = finish(make_job(sources="yesterday"))
    publish(job, tmp_path)
    assert published(tmp_path)[0] == [stale]
    finish(make_job(sources="the day before"), started="2026-01-01T00:00:00+00:00")
    publish(job, tmp_path)
    assert published(tmp_path)[0] == [stale]
    fresh = finish(job)
    publish(job, tmp_path)
    assert published(tmp_path)[0] == [fresh]


def test_a_corrupt_result_is_not_published(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job()
    record = finish(job)
    publish(job, tmp_path)
    job.result.write_text(job.result.read_text()[:100])
    publish(job, tmp_path)
    assert published(tmp_path)[0] == [record]


def test_published_records_come_in_one_order(make_job: Callable[..., Job], tmp_path: Path) -> None:
    for variant, seed in (("no_gate", 0), ("full", 10), ("full", 2)):
        job = make_job(variant, seed)
        finish(job)
        publish(job, tmp_path)
    assert [(r.variant, r.seed) for r in published(tmp_path)[0]] == [("full", 2), ("full", 10), ("no_gate", 0)]
    cell(tmp_path, make_job("no_gate").run).write_text('[{"schema_version": 2')
    with pytest.raises(StoreError, match=r"no_gate\.json: truncated"):
        published(tmp_path)


def test_trials_lie_apart_by_point_and_seed_and_are_no_main_runs(make_job: Callable[..., Job], tmp_path: Path) -> None:
    main = make_job()
    trials = [replace(main, run=replace(make_job(seed=s).run, trial=t)) for t, s in ((1, 0), (0, 1), (0, 0))]
    assert trials[2].key == main.key  # the same config, in a folder of its own
    assert trials[2].folder != main.folder
    records = [finish(job) for job in trials]
    assert state(main)[0] == "missing"
    finish(main)
    for job in (*trials, main):
        publish(job, tmp_path)
    assert [(r.trial, r.seed) for r in published_trials(tmp_path)] == [(0, 0), (0, 1), (1, 0)]
    again = finish(trials[0], started="2026-01-01T00:00:00+00:00")
    publish(trials[0], tmp_path)
    assert published_trials(tmp_path) == [records[2], records[1], again]
    assert [r.trial for r in published(tmp_path)[0]] == [None]
    assert published(tmp_path)[0][0].name == "synthetic synthetic full seed 0"
