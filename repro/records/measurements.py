"""The reports of measurements: what systems cost (`repro.efficiency`) and how fast operators are (`kernels.bench`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from repro.records.files import StoreError
from repro.records.part import Part
from repro.records.run import Provenance

KINDS = ("cpu", "gpu")
Measurement = dict[str, Any]  # a measurement; its columns are its section's


class _Report(Part):
    kind: Literal["cpu", "gpu"]
    sections: dict[str, dict[str, Any]]  # section -> seconds, or error where it could not be done
    rows: list[Measurement]


class CostReport(_Report):
    """What the systems cost on one device."""

    schema_version: Literal[3] = Field(3, alias="schema")
    quick: bool  # a rehearsal: no result
    provenance: Provenance
    setting: dict[str, int]  # tokens, regions, width


class BenchProvenance(Part):
    """What made a report on the operators."""

    started: str
    gpu: str | None
    driver: str | None
    cuda: str | None
    cudnn: str | int | None
    packages: dict[str, str]
    python: str
    cpu: str
    cores: int
    git_sha: str | None
    git_dirty: bool | None
    kernels_hash: str
    threads: int | None = None


class OperatorReport(_Report):
    """How fast the operators are on one device, and whether they are right there."""

    schema_version: Literal[1] = Field(1, alias="schema")
    complete: bool
    provenance: BenchProvenance
    targets: list[Measurement]


_R = TypeVar("_R", CostReport, OperatorReport)


def read_reports(kind: type[_R], folder: Path, devices: Iterable[str] = KINDS) -> dict[str, _R]:
    """What folder/DEVICE.json hold, by device, of those that are there.

    Raises StoreError, naming the file, for one that is no such report.
    """
    found = {}
    for device in devices:
        path = folder / f"{device}.json"
        if path.exists():
            found[device] = _read(kind, path)
    return found


def _read(kind: type[_R], path: Path) -> _R:
    try:
        report = kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise StoreError(f"{path}: not such a report: {said}") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path}: truncated or corrupt: {error}") from None
    if report.kind != path.stem:
        raise StoreError(f"{path}: a report of kind {report.kind!r}")
    return report
