"""Finished runs on disk: one folder a run, whose `result.json` is there if and only if the run is done."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clamp.system.files import is_locked
from repro.plan.profiles import Inputs, Run
from repro.records.evaluation import EvaluationRecord
from repro.records.files import StoreError, read_evaluation, read_run
from repro.run.other_data_set import OTHER_DATA_SET, is_there_another

State = Literal["done", "stale", "failed", "running", "missing"]


@dataclass(frozen=True)
class Job:
    """A run, what it depends on, and the folder that is its own."""

    run: Run
    inputs: Inputs
    runs: Path

    @property
    def key(self) -> str:
        return self.run.key(self.inputs)

    @property
    def variant_folder(self) -> Path:
        place = self.runs / f"{self.run.profile}-{self.run.experiment}"
        # a trial leaves no checkpoint to evaluate, so that it is never a main run of the same config
        return (place if self.run.trial is None else place / "trials") / self.run.variant

    @property
    def folder(self) -> Path:
        return self.variant_folder / f"seed{self.run.seed}-{self.key}"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def features(self) -> Path:
        """What frozen encoders say of the images, for all runs of the store; it may be deleted at any time."""
        return self.runs / "features"

    @property
    def error(self) -> Path:
        return self.folder / "error.txt"


def state(job: Job) -> tuple[State, str | None]:
    """Where a run stands, and one line on a result that is there but cannot be read: such a run counts as failed."""
    try:
        read_run(job.result)
        return "done", None
    except StoreError as error:
        unreadable = str(error) if job.result.exists() else None
    if is_locked(job.folder):
        return "running", None
    if unreadable or job.error.exists():
        return "failed", unreadable
    return ("stale" if stale_result(job) else "missing"), None


def needs_evaluation(job: Job, evaluation_hash: str, data_root: Path | None) -> bool:
    """Whether a finished run has a checkpoint that nobody evaluated as it is done today, on all that there is today."""
    if not job.model.is_dir() or job.run.trial is not None:
        return False
    try:
        record = read_evaluation(job.evaluation)
    except StoreError:
        return True
    return record.evaluation_hash != evaluation_hash or _can_be_tested_elsewhere(job, record, data_root)


def _can_be_tested_elsewhere(job: Job, evaluation: EvaluationRecord, data_root: Path | None) -> bool:
    """Whether the other real data set, which had not been there, has come."""
    data = job.run.config.data
    if data.name == "synthetic" or OTHER_DATA_SET in evaluation.evaluation.conditions:
        return False
    return is_there_another(data, data_root)


def stale_result(job: Job) -> Path | None:
    """The newest result with the same config, data and weights; of other sources, where the run itself has none."""
    same = {"config": job.run.config_dict(), "data": job.inputs.data, "weights": job.inputs.weights_revision}
    found = []
    for path in job.variant_folder.glob(f"seed{job.run.seed}-*/result.json"):
        with contextlib.suppress(StoreError):
            record = read_run(path)
            made_by = record.provenance
            identity = {"config": record.config, "data": made_by.data, "weights": made_by.weights_revision}
            if identity == same:
                found.append((made_by.started, path))
    return max(found)[1] if found else None
