"""Records as files: read whole or refused in one line, and written in one step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from clamp.system.files import written
from repro.records.evaluation import EvaluationRecord
from repro.records.part import Part
from repro.records.run import SCHEMA, Head, RunRecord

_Record = TypeVar("_Record", bound=Part)


class StoreError(Exception):
    """A file of the store that cannot be written or read; its text is one line that names it."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step that survives a crash; on StoreError what was there before is untouched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written(path) as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; what was there before is unchanged") from error


def record_text(record: Head) -> str:
    """A record as strict JSON, one line for each top-level field so that two of them can be compared.

    Fields that hold what they hold by default are left out, but for the schema.
    """
    values = {"schema_version": record.schema_version} | record.model_dump(mode="json", exclude_defaults=True)
    fields = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in values.items()]
    return "{\n" + ",\n".join(fields) + "\n}"


def write_record(path: Path, record: Head) -> None:
    """Raises StoreError."""
    write_atomically(path, record_text(record) + "\n")


def read_run(path: Path) -> RunRecord:
    """Raises StoreError, naming the file and what is wrong, when it is not a whole record of a run."""
    return _as_record(RunRecord, _read_json(path), path)


def read_evaluation(path: Path) -> EvaluationRecord:
    """The same for the record of an evaluation."""
    return _as_record(EvaluationRecord, _read_json(path), path)


def read_cell(path: Path) -> tuple[list[RunRecord], list[EvaluationRecord]]:
    """The records of all seeds of one variant, and of their evaluations; StoreError as above."""
    values = _read_json(path)
    if not isinstance(values, list):
        raise StoreError(f"{path}: not a list of records")
    runs, evaluations = [], []
    for value in values:
        if isinstance(value, dict) and "evaluation" in value:
            evaluations.append(_as_record(EvaluationRecord, value, path))
        else:
            runs.append(_as_record(RunRecord, value, path))
    return runs, evaluations


def cell_text(runs: Iterable[RunRecord], evaluations: Iterable[EvaluationRecord]) -> str:
    """What `read_cell` reads, by point of trials and seed, each run before its evaluation."""
    records: Sequence[Head] = sorted(
        [*runs, *evaluations],
        key=lambda record: (record.trial or 0, record.seed, type(record).__name__ != "RunRecord"),
    )
    return "[\n" + ",\n".join(map(record_text, records)) + "\n]\n"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path}: truncated or corrupt: {error}") from None


def _as_record(kind: type[_Record], value: Any, path: Path) -> _Record:
    if not isinstance(value, dict) or value.get("schema_version") != SCHEMA:
        raise StoreError(f"{path}: not a record of schema {SCHEMA}")
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: not a whole record: {where}: {first['msg']}") from None
