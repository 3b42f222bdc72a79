"""Reliability: accuracy against confidence, with the expected calibration error."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from repro.evaluate.calibration import calibration_error, pooled
from repro.evidence.by_seed import measured
from repro.evidence.cells import Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import Panels, panel_title
from repro.report.figures.style import COLUMN, CURVES
from repro.report.table_rows import place_title
from repro.report.wording import mean_and_sd, seeds

_FEWEST = 10  # predictions in a bin that is drawn: fewer say little of an accuracy
_MARKERS = dict(zip(CURVES, "osD^vP", strict=True))


def _panels(evidence: Evidence) -> Panels:
    shown = {
        place: {v: block[v] for v in CURVES if v in block and measured(block[v], "calibration")}
        for place, block in evidence.grouped.items()
    }
    return {place: block for place, block in shown.items() if block}


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def _draw(evidence: Evidence) -> Figure:
    panels = _panels(evidence)
    figure = Figure(figsize=(1.6 * COLUMN, 2.7 * len(panels)), dpi=200, layout="constrained")
    axes = list(figure.subplots(len(panels), 1, squeeze=False)[:, 0])
    for axis, (place, block) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 100], [0, 100], color="#999999", linewidth=0.8, zorder=1)
        for variant, cell in block.items():
            name, color, line = CURVES[variant]
            bins = pooled(measured(cell, "calibration"))
            count, right = np.array(bins.count), np.array(bins.right)
            kept = count >= _FEWEST
            x, y = 100 * np.array(bins.confidence)[kept], 100 * right[kept] / count[kept]
            axis.plot(x, y, color=color, linestyle=line, zorder=2)
            sizes = 8 + 60 * count[kept] / count.sum()
            axis.scatter(x, y, s=sizes, color=color, marker=_MARKERS[variant], linewidths=0, zorder=3)
            label = f"{name}: ECE {_ece(cell)}"
            axis.plot([], [], color=color, linestyle=line, marker=_MARKERS[variant], markersize=4, label=label)
        axis.set_title(panel_title(evidence, place, block))
        axis.set_xlabel("probability of the predicted polarity (%)")
        axis.set_ylabel("of them right (%)")
        axis.set_xlim(30, 101)
        axis.set_ylim(0, 102)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.6)
    return figure


def errors(cell: Cell) -> list[float]:
    """The expected calibration error of each evaluated seed, in 0..1."""
    return [calibration_error(bins) for bins in measured(cell, "calibration")]


def _ece(cell: Cell) -> str:
    return mean_and_sd(errors(cell))


def _sentences(evidence: Evidence) -> tuple[str, ...]:
    return tuple(_sentence(place, block) for place, block in _panels(evidence).items())


def _sentence(place: Place, block: Block) -> str:
    parts = []
    if "full" in block:
        cell = block["full"]
        bins = pooled(measured(cell, "calibration"))
        total = sum(bins.count)
        confidence = float(np.dot(bins.count, bins.confidence)) / total
        accuracy = sum(bins.right) / total
        parts.append(
            f"CLAMP's calibration error is {_ece(cell)} % ({seeds(len(errors(cell)))}): on average it gives its "
            f"prediction a probability of {100 * confidence:.1f} % and is right in {100 * accuracy:.1f} %"
        )
    means = {v: float(np.mean(errors(cell))) for v, cell in block.items()}
    best, worst = min(means, key=lambda v: means[v]), max(means, key=lambda v: means[v])
    if means[best] < means[worst]:
        lowest, highest = (
            f"{_ece(block[v])} % ({CURVES[v][0]}, {seeds(len(errors(block[v])))})" for v in (best, worst)
        )
        parts.append(f"of {len(means)} systems the lowest is {lowest}, the highest {highest}")
    return f"{place_title(place)}: {'; '.join(parts)}."


FIGURE = ReportFigure(
    "calibration",
    "Accuracy of the predicted polarity of gold aspects against its probability, in 15 bins pooled over seeds; dots "
    "are larger where a bin holds more, and left out below ten; ECE: expected calibration error "
    "in percent, mean over seeds; grey: perfect",
    _suffices,
    _draw,
    _sentences,
)
