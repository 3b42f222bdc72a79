"""Whole records of jobs that nobody trained, for the tests of the harness."""

from __future__ import annotations

import json
from typing import Any

import fake_training

from repro.records.evaluation import EvaluationRecord
from repro.records.files import write_record
from repro.records.run import RunRecord
from repro.run.store import Job

STARTED = "2025-01-01T00:00:00+00:00"


def head_of(job: Job) -> dict[str, Any]:
    run = job.run
    names = {"profile": run.profile, "experiment": run.experiment, "variant": run.variant, "seed": run.seed}
    return {**names, "key": job.key, "trial": run.trial}


def record_of(job: Job, started: str = STARTED, **provenance: object) -> RunRecord:
    inputs = job.inputs
    made_by = {
        "git_sha": None, "git_dirty": None, "source_hash": inputs.source_hash, "packages": {}, "python": "3.11.9",
        "cpu": "Some CPU", "cores": 2, "gpu": None, "driver": None, "threads": 1, "determinism": {},
        "data": inputs.data, "weights_revision": inputs.weights_revision, "argv": [], "started": started,
        "hardware": "2 x Some CPU (no GPU)",
    }  # fmt: skip
    result, config = fake_training.result(job.run.config), json.loads(json.dumps(job.run.config_dict()))
    record = RunRecord.model_validate(
        {**head_of(job), "config": config, "result": result, "provenance": {**made_by, **provenance}}
    )
    return RunRecord.model_validate_json(record.model_dump_json())  # rounded, as it is on disk


def finish(job: Job, started: str = STARTED) -> RunRecord:
    """Leave a job's record where training would."""
    record = record_of(job, started)
    write_record(job.result, record)
    return record


def evaluation_of(job: Job, evaluation_hash: str = "now", conditions: tuple[str, ...] = ()) -> EvaluationRecord:
    scores = {"joint": [1, 2, 3], "mate": [1, 2, 3], "masc_accuracy": 0.5}
    evaluation = {
        "clean": scores,
        "conditions": dict.fromkeys(conditions, scores),
        "rules": {"joint": {}, "masc": {}},
    }
    return EvaluationRecord.model_validate(
        {**head_of(job), "evaluation_hash": evaluation_hash, "evaluation": evaluation}
    )


def write_evaluation(job: Job, **changes: Any) -> None:
    write_record(job.evaluation, evaluation_of(job, **changes))
