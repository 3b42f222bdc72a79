"""The published copies of records, one file for all seeds of a variant: what tables are made from."""

from __future__ import annotations

from pathlib import Path

from clamp.system.files import locked
from repro.plan.profiles import Run
from repro.records.evaluation import EvaluationRecord
from repro.records.files import cell_text, read_cell, read_evaluation, read_run, write_atomically
from repro.records.run import RunRecord
from repro.run.store import Job, stale_result, state

_TRIALS = "trials"  # a folder beside the cells


def cell(results: Path, run: Run) -> Path:
    """The file of a run's variant; trials have one of their own."""
    place = results / run.profile / run.experiment
    return (place if run.trial is None else place / _TRIALS) / f"{run.variant}.json"


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
        own = (job.run.seed, job.run.trial)
        if source != job.result and any((run.seed, run.trial) == own for run in runs):
            return
        record = read_run(source).model_copy(update={"trial": job.run.trial})  # its number in today's grid
        runs = [*(run for run in runs if (run.seed, run.trial) != own), record]
        evaluations = [evaluation for evaluation in evaluations if (evaluation.seed, evaluation.trial) != own]
        evaluated = source.with_name(job.evaluation.name)
        if evaluated.exists():
            evaluations.append(read_evaluation(evaluated))
        text = cell_text(runs, evaluations)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_atomically(target, text)


def is_published(job: Job, results: Path, evaluation_hash: str) -> bool:
    """Whether its cell holds this very run, of the same config, data and sources, evaluated as today if it is no trial.

    StoreError where the cell cannot be read.
    """
    place = cell(results, job.run)
    runs, evaluations = read_cell(place) if place.exists() else ([], [])
    is_there = any((run.key, run.trial) == (job.key, job.run.trial) for run in runs)
    return is_there and (
        job.run.trial is not None
        or (job.key, evaluation_hash) in {(one.key, one.evaluation_hash) for one in evaluations}
    )


def published(results: Path) -> tuple[list[RunRecord], list[EvaluationRecord]]:
    """Every published record and evaluation of main runs, in an order of its own.

    StoreError on the first that cannot be read.
    """
    runs: list[RunRecord] = []
    evaluations: list[EvaluationRecord] = []
    for path in sorted(results.glob("*/*/*.json")):
        of_runs, of_evaluations = read_cell(path)
        runs += of_runs
        evaluations += of_evaluations
    return sorted(runs, key=_place), sorted(evaluations, key=_place)


def published_trials(results: Path) -> list[RunRecord]:
    """Every published record of a dev trial, as above."""
    paths = sorted(results.glob(f"*/*/{_TRIALS}/*.json"))
    return sorted((run for path in paths for run in read_cell(path)[0]), key=_place)


def _place(record: RunRecord | EvaluationRecord) -> tuple[str, str, str, int, int]:
    return record.profile, record.experiment, record.variant, record.trial or 0, record.seed
