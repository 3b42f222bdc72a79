"""How far each operator is from its target, on a GPU."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kernels.bench import targets
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.style import BLACK, BLUE, COLUMN, ORANGE
from repro.report.tables.costs.operators import findings


def _judged(evidence: Evidence) -> list[dict[str, Any]]:
    """The verdicts of the targets of which something was measured that a ratio can be taken of."""
    rows = evidence.operators["gpu"].rows if "gpu" in evidence.operators else []
    return [v for v in targets.judge(rows) if v["value"] is not None and v["value"] > 0 and v["bound"] > 0]


def _suffices(evidence: Evidence) -> bool:
    return bool(_judged(evidence))


def _draw(evidence: Evidence) -> Figure:
    """How much better than its target each value is: more than 1 where the target is met, whichever way it points."""
    judged = _judged(evidence)
    figure = Figure(figsize=(2 * COLUMN, 0.7 + 0.24 * len(judged)), dpi=200, layout="constrained")
    axis = figure.subplots()
    for place, verdict in enumerate(judged):
        ratio = verdict["value"] / verdict["bound"]
        reached = 1 / ratio if verdict["at_most"] else ratio
        color, hatch = (BLUE, None) if verdict["met"] else (ORANGE, "////")
        axis.barh(place, reached - 1, left=1, color=color, hatch=hatch, edgecolor="white", linewidth=0.3, height=0.7)
    axis.axvline(1, color=BLACK, linewidth=0.8)
    axis.set_yticks(range(len(judged)), [f"{v['work']}: {_short(v['measure'])}" for v in judged], fontsize=6.5)
    axis.set_ylim(len(judged) - 0.5, -0.5)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.margins(x=0.1)
    values = axis.secondary_yaxis("right")
    values.set_yticks(range(len(judged)), [f"{v['value']:.3g} ({v['target']})" for v in judged], fontsize=6.5)
    values.spines["right"].set_visible(False)
    values.tick_params(length=0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("times better than its target (hatched: not met)")
    return figure


def _short(measure: str) -> str:
    return measure.replace(" whose gradients are right", "").replace("times faster than", "faster than")


FIGURE = ReportFigure(
    "kernel_targets",
    "Targets on a GPU: what was measured, relative to each target",
    _suffices,
    _draw,
    findings,
)
