"""The published copies of records, one file for all seeds of a variant: what tables are made from."""

from __future__ import annotations

from pathlib import Path

from clamp.system.files import locked
from repro.plan.profiles import Run
from repro.records.evaluation import EvaluationRecord
from repro.records.files import cell_text, read_cell, read_evaluation, read_run, write_atomically
from repro.records.run import RunRecord
from repro.run.store import Job, stale_result, state


def cell(results: Path, run: Run) -> Path:
    """The file of a run's variant."""
    return results / run.profile / run.experiment / f"{run.variant}.json"


def publish(job: Job, results: Path) -> None:
    """Copy a finished run's record and evaluation to their cell; a run of other sources fills an empty place only.

    Other seeds of the cell stay as they are. Raises StoreError.
    """
    source = job.result if state(job)[0] == "done" else stale_result(job)
    if source is None:
        return
    target = cell(results, job.run)
    with locked(results):  # two commands may publish seeds of one cell
        runs, evaluations = read_cell(target) if target.exists() else ([], [])
        seed = job.run.seed
        if source != job.result and any(run.seed == seed for run in runs):
            return
        runs = [*(run for run in runs if run.seed != seed), read_run(source)]
        evaluations = [evaluation for evaluation in evaluations if evaluation.seed != seed]
        evaluated = source.with_name(job.evaluation.name)
        if evaluated.exists():
            evaluations.append(read_evaluation(evaluated))
        text = cell_text(runs, evaluations)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_atomically(target, text)


def published(results: Path) -> tuple[list[RunRecord], list[EvaluationRecord]]:
    """Every published record and evaluation, in an order of its own; StoreError on the first that cannot be read."""
    runs: list[RunRecord] = []
    evaluations: list[EvaluationRecord] = []
    for path in sorted(results.glob("*/*/*.json")):
        of_runs, of_evaluations = read_cell(path)
        runs += of_runs
        evaluations += of_evaluations
    return sorted(runs, key=_place), sorted(evaluations, key=_place)


def _place(record: RunRecord | EvaluationRecord) -> tuple[str, str, str, int]:
    return record.profile, record.experiment, record.variant, record.seed
