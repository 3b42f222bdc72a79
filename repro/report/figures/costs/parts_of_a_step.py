"""Where the time of a step of CLAMP goes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from repro.efficiency.names import CONTRAST, FUSION, HEADS, IMAGE, OPTIMISER, TEXT
from repro.evidence.evidence import Evidence
from repro.evidence.measurements import rows_of
from repro.report.figures.costs.growth import DEVICES
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import legend_of_all
from repro.report.figures.style import BLACK, BLUE, COLUMN, ORANGE, SKY, VERMILION

_PARTS = {  # part -> (fill, whether text on it is white)
    TEXT: (BLUE, True),
    IMAGE: (SKY, False),
    FUSION: (VERMILION, True),
    HEADS: (BLACK, True),
    CONTRAST: (ORANGE, False),
    OPTIMISER: ("#BBBBBB", False),
}
_NARROW = 0.05  # of a bar; a narrower part has no number in it
_BARS = {"inference parts": "inference, batch", "training": "training step, batch"}


def _bars(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Label of a bar -> milliseconds by part."""
    bars = {}
    for kind, report in evidence.efficiency.items():
        for section, what in _BARS.items():
            rows = [row for row in rows_of(report, section) if "part" in row]
            if rows:
                name = f"{DEVICES[kind]}, {what} {rows[0]['batch']}"
                bars[name] = {row["part"]: row["ms"]["p50"] for row in rows}
    return bars


def _suffices(evidence: Evidence) -> bool:
    return bool(_bars(evidence))


def _draw(evidence: Evidence) -> Figure:
    bars = _bars(evidence)
    figure = Figure(figsize=(2 * COLUMN, 0.5 * len(bars) + 1.1), dpi=200, layout="constrained")
    axis = figure.subplots()
    for place, parts in enumerate(bars.values()):
        _draw_bar(axis, place, parts)
    axis.set_yticks(range(len(bars)), bars)
    axis.set_ylim(len(bars) - 0.5, -0.5)
    axis.set_xlim(0, 1)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axis.set_xlabel("share of a step's time (sum of the parts' medians)")
    totals = axis.secondary_yaxis("right")
    totals.set_yticks(range(len(bars)), [f"{sum(parts.values()):,.0f} ms" for parts in bars.values()])
    totals.spines["right"].set_visible(False)
    totals.tick_params(length=0)
    legend_of_all(figure, columns=len(_PARTS))
    return figure


def _draw_bar(axis: Axes, place: int, parts: dict[str, float]) -> None:
    total, left = sum(parts.values()), 0.0
    for part, (color, on_dark) in _PARTS.items():
        share = parts.get(part, 0.0) / total
        if share:
            axis.barh(place, share, 0.62, left, color=color, edgecolor="white", linewidth=0.5, label=part)
        if share >= _NARROW:
            text = "white" if on_dark else "black"
            axis.text(left + share / 2, place, f"{share:.0%}", color=text, ha="center", va="center", fontsize=7)
        left += share


def _sentences(evidence: Evidence) -> list[str]:
    sentences = []
    for name, parts in _bars(evidence).items():
        total = sum(parts.values())
        shares = "; ".join(f"{part} {ms / total:.1%}" for part, ms in sorted(parts.items(), key=lambda it: -it[1]))
        sentences.append(f"{name}: {shares}.")
    return sentences


FIGURE = ReportFigure(
    "efficiency_parts",
    "Where the time of a step of CLAMP goes, at the paper's size; a training step has forward and backward together",
    _suffices,
    _draw,
    _sentences,
)
