"""Joint F1 on test of every variant, seed by seed."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repro.evidence.cells import Block, Cell
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS, summarise
from repro.plan.variants import SUITE
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import Panels, stack
from repro.report.figures.style import BLACK, BLUE, SHORT, VERMILION
from repro.report.table_rows import place_title
from repro.report.wording import mean_and_sd, seeds


def _panels(evidence: Evidence) -> Panels:
    shown = {place: {v: cell for v, cell in block.items() if v in SUITE} for place, block in evidence.grouped.items()}
    return {place: block for place, block in shown.items() if len(block) > 1}


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def _draw(evidence: Evidence) -> Figure:
    """Seeds are dots, their mean a bar, the t interval a line where there are seeds enough."""
    panels = _panels(evidence)
    figure, axes = stack(evidence, panels, [0.6 + 0.2 * len(block) for block in panels.values()])
    for axis, block in zip(axes, panels.values(), strict=True):
        shown = list(block.values())
        for row, cell in enumerate(shown):
            _draw_cell(axis, row, cell)
        axis.set_yticks(range(len(shown)), [f"{SHORT[cell.variant]} ({cell.n})" for cell in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlabel("test joint F1 (%)")
    return figure


def _draw_cell(axis: Axes, row: int, cell: Cell) -> None:
    values = [100 * value for value in cell.test("joint", "f1")]
    summary = summarise(values)
    color = VERMILION if cell.variant == "full" else BLUE
    if summary.low is not None and summary.high is not None and summary.n >= LEAST_SEEDS:
        ends = [max(summary.low, 0.0), min(summary.high, 100.0)]
        axis.plot(ends, [row, row], color=color, linewidth=1.0, zorder=2)
    if summary.n > 1:
        axis.plot(summary.mean, row, "|", color=BLACK, markersize=9, mew=1.6, zorder=3)
    apart = 0.1 * (np.arange(summary.n) - (summary.n - 1) / 2)  # or equal seeds would hide one another
    axis.plot(values, row + apart, "o", mfc=color, mec="white", mew=0.5, markersize=4.5, zorder=4)
    if cell.variant == "full":
        axis.axvline(summary.mean, color=color, linewidth=0.7, linestyle="--", zorder=1)


def _sentences(evidence: Evidence) -> list[str]:
    return [f"{place_title(place)}: {_sentence(block)}" for place, block in _panels(evidence).items()]


def _sentence(block: Block) -> str:
    cells = [block[variant] for variant in SUITE if variant in block]

    def mean(cell: Cell) -> float:
        return float(np.mean(cell.test("joint", "f1")))

    def in_words(cell: Cell) -> str:
        return f"{cell.label} ({mean_and_sd(cell.test('joint', 'f1'))}, {seeds(cell.n)})"

    highest, lowest = in_words(max(cells, key=mean)), in_words(min(cells, key=mean))
    return f"of {len(cells)} systems the highest mean is that of {highest}, the lowest that of {lowest}."


FIGURE = ReportFigure(
    "ablations",
    "Joint F1 on test of every variant run (number of seeds in brackets): each seed (dot), mean (bar), and the "
    "95 % t interval (line, cut at 0 and 100) from three seeds on; dashed: the mean of full CLAMP",
    _suffices,
    _draw,
    _sentences,
)
