"""InfoNCE's time and extra memory against the number of pairs: one figure for each kind of device."""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from repro.evidence.evidence import Evidence
from repro.records.measurements import Measurement
from repro.report.figures.costs.growth import DEVICES
from repro.report.figures.figure import ReportFigure
from repro.report.figures.style import BLACK, BLUE, COLUMN, GREEN, ORANGE, PURPLE, SKY, VERMILION
from repro.report.tables.costs.operators import findings

# variant -> (colour, line style, marker)
_CURVES = {
    "kernels": (BLACK, "-", "o"),
    "torch, chunked": (BLACK, "-", "o"),
    "torch, auto": (SKY, (0, (3, 1)), "v"),
    "eager": (VERMILION, "--", "s"),
    "eager, one product": (ORANGE, "-.", "D"),
    "reference": (PURPLE, ":", "x"),
    "torch.compile": (BLUE, (0, (5, 1, 1, 1)), "^"),
    "siglip-kernel": (GREEN, ":", "P"),
    "Inf-CL": (PURPLE, (0, (1, 1)), "X"),
}


def _timed(kind: str, evidence: Evidence) -> list[Measurement]:
    rows = evidence.operators[kind].rows if kind in evidence.operators else []
    return [row for row in rows if "pairs" in row and "ms" in row]


def _suffices(kind: str, evidence: Evidence) -> bool:
    return bool(_timed(kind, evidence))


def _draw(kind: str, evidence: Evidence) -> Figure:
    timed = _timed(kind, evidence)
    figure = Figure(figsize=(COLUMN, 4.6), dpi=200, layout="constrained")
    time_axis, memory_axis = figure.subplots(2, 1, sharex=True)
    for variant, (color, line, marker) in _CURVES.items():
        points = sorted((row for row in timed if row["variant"] == variant), key=lambda row: row["pairs"])
        style: Any = {"color": color, "linestyle": line, "marker": marker, "markersize": 3.5, "label": variant}
        if points:
            time_axis.plot([p["pairs"] for p in points], [p["ms"]["p50"] for p in points], **style)
        held = [p for p in points if p.get("extra_bytes")]
        if held:
            memory_axis.plot([p["pairs"] for p in held], [p["extra_bytes"] / 2**20 for p in held], **style)
    for axis in (time_axis, memory_axis):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
    memory_axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    memory_axis.tick_params(axis="x", rotation=30)
    time_axis.set_ylabel("forward + backward (ms)")
    memory_axis.set_ylabel("extra peak memory (MiB)")
    memory_axis.set_xlabel("pairs N")
    handles, labels = time_axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=3)
    return figure


def _on(kind: str) -> ReportFigure:
    return ReportFigure(
        f"infonce_{kind}",
        f"InfoNCE on a {DEVICES[kind]}: time and extra memory against the number of pairs",
        partial(_suffices, kind),
        partial(_draw, kind),
        findings,
    )


ON_A_GPU, ON_A_CPU = _on("gpu"), _on("cpu")
