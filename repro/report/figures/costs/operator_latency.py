"""How long the fusion stack takes on a GPU, launched kernel by kernel and as a CUDA graph."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kernels.bench.works import fusion
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.style import BLUE, COLUMN, ORANGE
from repro.report.tables.costs.operators import findings

_LAUNCHES = {"eager": ("launched one by one", ORANGE, "////"), "graph": ("CUDA graph", BLUE, None)}
_WORKS = {
    fusion.TRAINING: "training step, B 256",
    fusion.TRAINING_SMALL: "training step, B 16",
    fusion.INFERENCE: "inference, B 1",
}
Timed = dict[tuple[str, str, str], dict[str, Any]]
"""Work, variant and launch -> its percentiles in ms."""


def _timed(evidence: Evidence) -> Timed:
    rows = evidence.operators["gpu"].rows if "gpu" in evidence.operators else []
    shown = [row for row in rows if row.get("work") in _WORKS and "ms" in row and row["variant"] != fusion.PRODUCTS]
    return {(row["work"], row["variant"], row["launch"]): row["ms"] for row in shown}


def _suffices(evidence: Evidence) -> bool:
    return bool(_timed(evidence))


def _draw(evidence: Evidence) -> Figure:
    timed = _timed(evidence)
    works = [work for work in _WORKS if any(key[0] == work for key in timed)]
    figure = Figure(figsize=(COLUMN, 1.35 * len(works) + 0.6), dpi=200, layout="constrained")
    for axis, work in zip(figure.subplots(len(works), 1, squeeze=False)[:, 0], works, strict=True):
        _draw_work(axis, work, timed)
    figure.axes[-1].set_xlabel("ms (median; line: 10th to 90th percentile)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_work(axis: Axes, work: str, timed: Timed) -> None:
    variants = list(dict.fromkeys(key[1] for key in timed if key[0] == work))
    for offset, (launch, (name, color, hatch)) in enumerate(_LAUNCHES.items()):
        for place, variant in enumerate(variants):
            ms = timed.get((work, variant, launch))
            if ms is not None:
                spread = [[ms["p50"] - ms["p10"]], [ms["p90"] - ms["p50"]]]
                axis.barh(
                    place + 0.36 * offset - 0.18, ms["p50"], xerr=spread, height=0.34, color=color, hatch=hatch,
                    edgecolor="white", linewidth=0.3, error_kw={"elinewidth": 0.8},
                    label=name if place == 0 else None,
                )  # fmt: skip
    axis.set_yticks(range(len(variants)), variants)
    axis.invert_yaxis()
    axis.set_title(_WORKS[work])
    axis.grid(axis="y", visible=False)


FIGURE = ReportFigure(
    "kernel_latency",
    "Latency of the fusion stack on a GPU",
    _suffices,
    _draw,
    findings,
)
