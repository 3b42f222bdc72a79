"""What was measured of costs and of the operators: the reports beside the runs' records, and the rows in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernels.bench.report import SCHEMA as OPERATORS_SCHEMA
from repro.efficiency.names import SCHEMA as EFFICIENCY_SCHEMA
from repro.run.store import read_measurements

Report = dict[str, Any]
Measurement = dict[str, Any]  # one row of a report
Reports = Mapping[str, Report]  # kind -> its report

KINDS = ("cpu", "gpu")
OWN = {"cpu": "clamp_torch", "gpu": "clamp_triton"}  # CLAMP as a run takes it on that device


def read_efficiency(folder: Path) -> Reports:
    """What `python -m repro efficiency` wrote there, by kind. Raises StoreError, naming a file that is no report."""
    return read_measurements(folder, KINDS, EFFICIENCY_SCHEMA)


def read_operators(folder: Path) -> Reports:
    """What `python -m kernels.bench` wrote there, by kind. Raises StoreError, naming a file that is no report."""
    return read_measurements(folder, KINDS, OPERATORS_SCHEMA)


def rows_of(report: Report, section: str, **facts: Any) -> list[Measurement]:
    """The rows of a section that have these facts."""
    return [r for r in report["rows"] if r["section"] == section and all(r.get(k) == v for k, v in facts.items())]


def one_row(report: Report, section: str, **facts: Any) -> Measurement | None:
    """The first of them, or None where it was not measured."""
    return next(iter(rows_of(report, section, **facts)), None)


def threads(report: Report) -> str:
    """How many threads it was measured with, in words."""
    number = report["provenance"]["threads"]
    return "one thread" if number == 1 else f"{number} threads"
