"""The sweep as curves: F1 and pointing against each knob."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.evidence.cells import GENERATED
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import legend_below, panel_title
from repro.report.figures.style import COLUMN, CURVES
from repro.report.tables.results.sweep import KNOBS, Point, points, seeds_of_points, sweep, values_of, words_alone

_MARKERS = {"full": "o", "no_paf": "s", "no_mcl": "D", "no_ama": "^"}
_WORDS = "expected of words alone"


def _suffices(evidence: Evidence) -> bool:
    return bool(evidence.swept)


def _draw(evidence: Evidence) -> Figure:
    """A column of panels for each knob."""
    figure = Figure(figsize=(2 * COLUMN, 4.2), dpi=200, layout="constrained")
    grid = figure.subplots(2, len(KNOBS), sharex="col", sharey="row", squeeze=False)
    for column, (knob, title) in enumerate(KNOBS.items()):
        above, below = grid[0][column], grid[1][column]
        of_knob = points(evidence, knob)
        _curves(above, of_knob, lambda point: list(point.f1().values()))
        _curves(below, of_knob, Point.pointing)
        expected = [100 * words_alone(knob, value) for value in values_of(knob)]
        above.plot(values_of(knob), expected, color="#777777", linewidth=0.9, linestyle=(0, (1, 2)), label=_WORDS)
        below.set_xlabel(title[0].lower() + title[1:])
        below.set_xticks(values_of(knob))
    title = panel_title(evidence, GENERATED, evidence.swept)
    grid[0][0].set_title(f"{title}, {seeds_of_points(evidence)}", loc="left")
    grid[1][0].set_ylim(0, 102)
    grid[0][0].set_ylabel("test joint F1 (%)")
    grid[1][0].set_ylabel("pointing accuracy (%)")
    legend_below(figure, list(grid.flat), [*(CURVES[v][0] for v in _MARKERS), _WORDS], columns=5)
    return figure


def _curves(axis: Axes, of_knob: dict[str, dict[float, Point]], value: Callable[[Point], list[float]]) -> None:
    for system, of_system in of_knob.items():
        name, color, line = CURVES[system]
        shown = {at: [100 * v for v in value(point)] for at, point in of_system.items()}
        shown = {at: values for at, values in shown.items() if values}
        style: dict[str, Any] = {"color": color, "marker": _MARKERS[system], "markersize": 4}
        axis.plot(list(shown), [np.mean(values) for values in shown.values()], linestyle=line, label=name, **style)
        for at, values in shown.items():
            if len(values) > 1:
                axis.plot([at] * len(values), values, ".", color=color, markersize=2.5)


def _sentences(evidence: Evidence) -> tuple[str, ...]:
    """Those of the table."""
    return sweep(evidence).findings


FIGURE = ReportFigure(
    "sweep",
    "Joint test F1 (top) and pointing accuracy (bottom) of CLAMP and its ablations, trained on generated tweets with "
    "one knob turned: the mean over a point's seeds, whose number the title says (small dots: the seeds, where there "
    "are more than one). Dotted: F1 to expect of words alone, with every span found and each polarity that only the "
    "image tells guessed uniformly, 1 - 2/3 of their share; luck can exceed it",
    _suffices,
    _draw,
    _sentences,
)
