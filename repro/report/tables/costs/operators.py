"""The operators' table: each target with what `python -m kernels.bench` measured of it, or that nothing was."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kernels.bench import targets
from repro.evidence.evidence import Evidence
from repro.records.measurements import OperatorReport
from repro.report.table import BLOCK, Table
from repro.report.wording import NOT_MEASURED

_TARGETS = {"gpu": targets.TARGETS, "cpu": targets.CPU_TARGETS}
_BLOCKS = {"gpu": "On a GPU", "cpu": "PyTorch implementations on a CPU"}
_MET = {True: "yes", False: "no", None: ""}


def operators(evidence: Evidence) -> Table:
    """Every target with what was measured."""
    rows, footer = [], []
    for kind in _TARGETS:
        rows += [_row(_BLOCKS[kind], verdict) for verdict in _verdicts(evidence, kind)]
        if kind in evidence.operators:
            report, label = evidence.operators[kind], kind.upper()
            footer.append(f"{label}: {_made_on(report)}")
            footer += [f"{label}, {line}" for line in _unfinished(report)]
    return Table(
        name="kernels",
        title="Operators: targets and what was measured",
        findings=findings(evidence),
        frame=pd.DataFrame(rows),
        footer=(
            *footer,
            "Targets are ours: ratios within one run, medians, forward and backward unless they say otherwise.",
        ),
    )


def findings(evidence: Evidence) -> tuple[str, ...]:
    """How many targets are met on each kind of device; its figures say no more."""
    return tuple(_finding(evidence, kind) for kind in _TARGETS)


def _finding(evidence: Evidence, kind: str) -> str:
    if kind not in evidence.operators:
        return f"{kind.upper()}: {NOT_MEASURED}."
    verdicts = _verdicts(evidence, kind)
    judged = [verdict["met"] for verdict in verdicts if verdict["met"] is not None]
    missing = len(verdicts) - len(judged)
    return f"{kind.upper()}: {judged.count(True)} of {len(judged)} targets met, {missing} {NOT_MEASURED}."


def _verdicts(evidence: Evidence, kind: str) -> list[dict[str, Any]]:
    rows = evidence.operators[kind].rows if kind in evidence.operators else []
    return targets.judge(rows, _TARGETS[kind])


def _row(block: str, verdict: dict[str, Any]) -> dict[str, str]:
    value = NOT_MEASURED if verdict["value"] is None else f"{verdict['value']:.3g}"
    against = f" ({verdict['against']})" if verdict["against"] else ""
    return {
        BLOCK: block,
        "work": verdict["work"],
        "measure": verdict["measure"] + against,
        "target": verdict["target"],
        "measured": value,
        "met": _MET[verdict["met"]],
    }


def _made_on(report: OperatorReport) -> str:
    """Machine and software in one line."""
    made = report.provenance
    machine = made.gpu or f"{made.cores} x {made.cpu}"
    driver = f", driver {made.driver}" if made.driver else ""
    software = ", ".join(f"{name} {version}" for name, version in made.packages.items())
    on_threads = f", {made.threads} threads" if made.threads is not None else ""
    ceilings = {row["work"]: row["rate"] for row in report.rows if "rate" in row}
    measured = "".join(f"; {work} {rate / 1e12:.3g} T/s" for work, rate in ceilings.items())
    return f"{machine}{driver}{on_threads}; {software}; sources of kernels/ {made.kernels_hash}{measured}."


def _unfinished(report: OperatorReport) -> list[str]:
    """What the report itself says it could not do or found wrong."""
    lines = [f"section {name}: {it['error']}" for name, it in report.sections.items() if "error" in it]
    for row in report.rows:
        if "check" in row and not row.get("right"):
            lines.append(f"{row['variant']} not right: {row['work']}, {row.get('dtype', '')}, {row['check']}")
        elif "error" in row:
            lines.append(f"{row['work']}, {row['variant']}: {row['error']}")
    return lines
