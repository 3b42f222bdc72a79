"""How the weights of the losses, and the uncertainties that they come from, move over training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from clamp.config import TASKS
from repro.evidence.cells import Cell
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import weightings
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import Panels, band, legend_below, panel_title
from repro.report.figures.style import BLACK, BLUE, COLUMN, ORANGE, SKY
from repro.report.table_rows import place_title
from repro.report.tables.results.ablations import weighting_findings

# task -> (colour, line style, width); weights on one bound coincide, so one line there is wide and the other thin
TASK_STYLES = dict(
    zip(TASKS, [(BLACK, "-", 1.3), (SKY, "--", 3.0), (ORANGE, "-.", 1.3), (BLUE, (0, (2, 2)), 1.3)], strict=True)
)
_LIMIT: Any = {"color": "#777777", "linewidth": 0.8, "linestyle": (0, (1, 2))}


def _panels(evidence: Evidence) -> Panels:
    def logged(cell: Cell | None) -> bool:
        return cell is not None and bool(weightings(cell))

    blocks = evidence.grouped
    return {place: {"full": block["full"]} for place, block in blocks.items() if logged(block.get("full"))}


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def weight(s: Any) -> Any:
    """What a loss is multiplied by."""
    return np.exp(-np.asarray(s)) / 2


def uncertainty(s: Any) -> Any:
    """The sigma of a task: s is the logarithm of its square."""
    return np.exp(np.asarray(s) / 2)


_SIDES = [(weight, "loss weight exp(-s)/2", "most"), (uncertainty, "uncertainty sigma = exp(s/2)", "least")]


def _draw(evidence: Evidence) -> Figure:
    """A row for each place: weights on the left, uncertainties on the right; a lower bound of s limits both."""
    panels = _panels(evidence)
    figure = Figure(figsize=(2 * COLUMN, 2.2 * len(panels) + 0.5), dpi=200, layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for row, (place, block) in zip(grid, panels.items(), strict=True):
        row[0].set_title(panel_title(evidence, place, block), loc="left")
        for axis, side in zip(row, _SIDES, strict=True):
            _draw_side(axis, block["full"], *side)
    if any(_lowest(block["full"]) for block in panels.values()):
        grid[0][0].plot([], [], label="limit", **_LIMIT)
    legend_below(figure, list(grid.flat), [*TASK_STYLES, "limit"], columns=5)
    return figure


def _draw_side(axis: Axes, full: Cell, of_s: Any, title: str, end: str) -> None:
    """`of_s` of each task's s at each logged step, and of its lower bounds, which are the `end` of it."""
    logs = weightings(full)
    steps = max((log.step for log in logs), key=len)
    for task, (color, line, width) in TASK_STYLES.items():
        if all(task in log.s for log in logs):
            runs = [of_s(log.s[task]) for log in logs]
            band(axis, steps, runs, label=task, color=color, linestyle=line, linewidth=width)
    axis.set_yscale("log")
    axis.margins(y=0.18)  # room for what the limits are called
    for bound, whose in _named_bounds(_lowest(full)).items():
        _draw_limit(axis, float(of_s(bound)), f"{end} for {whose}", above=end == "most")
    if of_s is uncertainty:  # its range is short for a decade a tick
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("optimiser step")
    axis.set_ylabel(title)


def _lowest(full: Cell) -> dict[str, float]:
    """The lower bound of each logged task's s; empty of runs whose s had none."""
    lowest = full.records[0].config["model"]["aggregation"].get("lowest", {})
    return {task: lowest[task] for task in weightings(full)[0].s if task in lowest}


def _draw_limit(axis: Axes, limit: float, name: str, *, above: bool) -> None:
    """A dotted line with its name on the side where no curve lies."""
    axis.axhline(limit, zorder=1, **_LIMIT)
    axis.annotate(
        f"{name}: {limit:.3g}",
        (0.98, limit),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3 if above else -3),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=7,
        color="#444444",
    )


def _named_bounds(lowest: dict[str, float]) -> dict[float, str]:
    """Lower bound of s -> whose it is, by name; that of most tasks is the others'."""
    tasks_of: dict[float, list[str]] = {}
    for task, bound in lowest.items():
        tasks_of.setdefault(bound, []).append(task)
    if len(tasks_of) <= 1:
        return dict.fromkeys(tasks_of, "all")
    most = max(tasks_of, key=lambda bound: len(tasks_of[bound]))
    named = {bound: ", ".join(tasks) for bound, tasks in tasks_of.items()}
    return named | ({most: "the others"} if len(tasks_of[most]) > 1 else {})


def _sentences(evidence: Evidence) -> list[str]:
    by_place = {place: " ".join(weighting_findings(block.get("full"))) for place, block in evidence.grouped.items()}
    return [f"{place_title(place)}: {sentence}" for place, sentence in by_place.items() if sentence]


FIGURE = ReportFigure(
    "loss_weights",
    "Weight exp(-s)/2 of each task's loss (left) and the task's uncertainty sigma = exp(s/2) (right) over "
    "training, full CLAMP: mean and range over seeds. Dotted, where s had them: its lower bounds, which are upper "
    "limits of the weights and lower limits of sigma; a task may start away from its limit",
    _suffices,
    _draw,
    _sentences,
)
