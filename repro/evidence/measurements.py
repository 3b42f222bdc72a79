"""What was measured of costs and of the operators: the reports beside the runs' records, and the rows in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.records.measurements import CostReport, Measurement, OperatorReport, read_reports

Costs = Mapping[str, CostReport]  # kind of device -> its report
Operators = Mapping[str, OperatorReport]

OWN = {"cpu": "clamp_torch", "gpu": "clamp_triton"}  # CLAMP as a run takes it on that device


def read_efficiency(folder: Path) -> Costs:
    """What `python -m repro efficiency` wrote there, by kind. Raises StoreError, naming a file that is no report."""
    return read_reports(CostReport, folder)


def read_operators(folder: Path) -> Operators:
    """What `python -m kernels.bench` wrote there, by kind. Raises StoreError, naming a file that is no report."""
    return read_reports(OperatorReport, folder)


def rows_of(report: CostReport, section: str, **facts: Any) -> list[Measurement]:
    """The rows of a section that have these facts."""
    return [r for r in report.rows if r["section"] == section and all(r.get(k) == v for k, v in facts.items())]


def one_row(report: CostReport, section: str, **facts: Any) -> Measurement | None:
    """The first of them, or None where it was not measured."""
    return next(iter(rows_of(report, section, **facts)), None)


def threads(report: CostReport) -> str:
    """How many threads it was measured with, in words."""
    number = report.provenance.threads
    return "one thread" if number == 1 else f"{number} threads"
