"""Where a run stands, by what is in its folder."""

from __future__ import annotations

from collections.abc import Callable

from finished import finish

from clamp.system.files import locked
from repro.records.files import write_atomically
from repro.run import store
from repro.run.store import Job


def test_a_run_is_missing_then_running_then_failed_then_done(make_job: Callable[..., Job]) -> None:
    job = make_job()
    assert store.state(job) == ("missing", None)
    with locked(job.folder):
        assert store.state(job) == ("running", None)
    assert store.state(job) == ("missing", None)
    write_atomically(job.error, "ValueError")
    assert store.state(job) == ("failed", None)
    finish(job)
    assert store.state(job) == ("done", None)


def test_a_truncated_result_is_a_failed_run_with_a_line_that_says_so(make_job: Callable[..., Job]) -> None:
    job = make_job()
    job.folder.mkdir(parents=True)
    job.result.write_text('{"schema_version": 2, "res')
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
