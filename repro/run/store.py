"""Finished runs on disk: one folder a run, whose `result.json` is there if and only if the run is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clamp.system.files import is_locked, written
from repro.plan.profiles import Inputs, Run
from repro.run.other_data_set import OTHER_DATA_SET, is_there_another

SCHEMA = 1
State = Literal["done", "stale", "failed", "running", "missing"]
Record = dict[str, Any]

_OF_EVERY_RECORD = {"profile", "experiment", "variant", "seed", "key"}
_OF_SOME = ({"config", "result", "provenance"}, {"evaluation_hash", "evaluation"})  # of a run, of an evaluation


class StoreError(Exception):
    """A file of the store that cannot be written or read; its text is one line that names it."""


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
        return self.runs / f"{self.run.profile}-{self.run.experiment}" / self.run.variant

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
    def error(self) -> Path:
        return self.folder / "error.txt"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step that survives a crash; on StoreError what was there before is untouched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written(path) as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; what was there before is unchanged") from error


def record_text(record: Record) -> str:
    """A record as strict JSON, one line for each top-level field so that two of them can be compared."""
    fields = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in record.items()]
    return "{\n" + ",\n".join(fields) + "\n}\n"


def read_record(path: Path) -> Record:
    """Raises StoreError, naming the file, when it is not a whole record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path}: truncated or corrupt: {error}") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StoreError(f"{path}: not a record of schema {SCHEMA}")
    if not any(record.keys() >= _OF_EVERY_RECORD | fields for fields in _OF_SOME):
        raise StoreError(f"{path}: not a whole record")
    return record


def state(job: Job) -> tuple[State, str | None]:
    """Where a run stands, and one line on a result that is there but cannot be read: such a run counts as failed."""
    try:
        read_record(job.result)
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
    if not job.model.is_dir():
        return False
    try:
        record = read_record(job.evaluation)
    except StoreError:
        return True
    return record["evaluation_hash"] != evaluation_hash or _can_be_tested_elsewhere(job, record, data_root)


def _can_be_tested_elsewhere(job: Job, evaluation: Record, data_root: Path | None) -> bool:
    """Whether the other real data set, which had not been there, has come."""
    data = job.run.config.data
    if data.name == "synthetic" or OTHER_DATA_SET in evaluation["evaluation"]["conditions"]:
        return False
    return is_there_another(data, data_root)


def stale_result(job: Job) -> Path | None:
    """The newest result with the same config, data and weights; of other sources, where the run itself has none."""
    same = {"config": job.run.config_dict(), "data": job.inputs.data, "weights": job.inputs.weights_revision}
    found = []
    for path in job.variant_folder.glob(f"seed{job.run.seed}-*/result.json"):
        with contextlib.suppress(StoreError):
            record = read_record(path)
            made_by = record["provenance"]
            identity = {"config": record["config"], "data": made_by["data"], "weights": made_by["weights_revision"]}
            if identity == same:
                found.append((made_by["started"], path))
    return max(found)[1] if found else None


def cell(results: Path, run: Run) -> Path:
    """The published copy of a run's record, from which tables are made."""
    return results / run.profile / run.experiment / run.variant / f"seed{run.seed}.json"


def evaluation_cell(results: Path, run: Run) -> Path:
    """The published copy of what a run's checkpoint did under other conditions."""
    return cell(results, run).with_name(f"evaluation-seed{run.seed}.json")


def publish(job: Job, results: Path) -> None:
    """Copy a finished run's record and evaluation to their cells; one of other sources fills an empty cell only."""
    target = cell(results, job.run)
    source = job.result if state(job)[0] == "done" else stale_result(job)
    if source is None or (source != job.result and target.exists()):
        return
    _copy(source, target)
    evaluation, target = source.with_name(job.evaluation.name), evaluation_cell(results, job.run)
    if evaluation.exists():
        _copy(evaluation, target)
    else:
        target.unlink(missing_ok=True)  # it would speak of another run


def _copy(source: Path, target: Path) -> None:
    text = source.read_text(encoding="utf-8")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        write_atomically(target, text)


def published(results: Path) -> list[Record]:
    """Every published record, in an order of its own; StoreError on the first that cannot be read."""
    return _read_all(results, "*/*/*/seed*.json")


def published_evaluations(results: Path) -> list[Record]:
    """Every published evaluation, as `published`."""
    return _read_all(results, "*/*/*/evaluation-seed*.json")


def _read_all(results: Path, pattern: str) -> list[Record]:
    records = [read_record(path) for path in sorted(results.glob(pattern))]
    return sorted(records, key=lambda r: (r["profile"], r["experiment"], r["variant"], r["seed"]))


def read_measurements(folder: Path, kinds: Iterable[str], schema: int) -> dict[str, dict[str, Any]]:
    """What folder/KIND.json hold, by kind, of those that are there.

    Raises StoreError, naming the file, for one that is no such report.
    """
    found = {}
    for kind in kinds:
        path = folder / f"{kind}.json"
        if path.exists():
            try:
                report = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise StoreError(f"{path}: truncated or corrupt: {error}") from None
            if not isinstance(report, dict) or (report.get("schema"), report.get("kind")) != (schema, kind):
                raise StoreError(f"{path}: not a report of kind {kind!r} and schema {schema}")
            found[kind] = report
    return found
