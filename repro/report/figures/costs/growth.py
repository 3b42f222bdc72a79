"""What the figures of growing cost share: CLAMP beside the two encoders alone, on each device that was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from repro.evidence.evidence import Evidence
from repro.evidence.measurements import OWN, rows_of
from repro.records.measurements import CostReport, Measurement
from repro.report.figures.style import BLACK, BLUE

DEVICES = {"cpu": "CPU", "gpu": "GPU"}
_CURVES: dict[str, tuple[str, Any, str]] = {  # name -> (colour, line style, marker)
    "CLAMP": (BLACK, "-", "o"),
    "encoders and a linear head": (BLUE, "--", "s"),
}


def with_rows(evidence: Evidence, section: str) -> dict[str, CostReport]:
    """Kind -> its report, of those in which this section was measured."""
    return {kind: report for kind, report in evidence.efficiency.items() if rows_of(report, section)}


def curves_of(kind: str) -> dict[str, str]:
    """What a curve is called -> the system that it is of."""
    return dict(zip(_CURVES, (OWN[kind], "encoders"), strict=True))


def draw_curve(axis: Axes, name: str, rows: list[Measurement], x: str, y: Callable[[Measurement, str], float]) -> None:
    """The median of `y` against `x`, with its 10th to 90th percentile."""
    color, line, marker = _CURVES[name]
    rows = sorted(rows, key=lambda row: row[x])
    places = [row[x] for row in rows]
    axis.fill_between(places, [y(r, "p10") for r in rows], [y(r, "p90") for r in rows], color=color, alpha=0.15, lw=0)
    axis.plot(
        places, [y(r, "p50") for r in rows], color=color, linestyle=line, marker=marker, markersize=3.5, label=name
    )


def set_ticks(axis: Axes, places: Sequence[int]) -> None:
    """A logarithmic axis with a tick at each place."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(set(places)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
