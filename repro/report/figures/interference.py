"""Gradient interference and how much steps vary, under adaptive, equal and fixed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from repro.evidence.by_seed import of_records
from repro.evidence.cells import Block, Place
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import cosines, loss_sd, negative_share, relative_norm_sd, sampled_steps
from repro.evidence.stats import summarise
from repro.records.run import RunRecord
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import Panels, band, panel_title
from repro.report.figures.style import BLACK, BLUE, COLUMN, ORANGE
from repro.report.table_rows import place_title
from repro.report.tables.mechanism.interference import WEIGHTINGS, pairs
from repro.report.wording import seeds

_STYLES: dict[str, tuple[str, Any, str]] = {
    "full": (BLACK, "-", "o"),
    "no_ama": (ORANGE, "--", "s"),
    "fixed_weights": (BLUE, (0, (1, 1)), "^"),
}


def _panels(evidence: Evidence) -> Panels:
    shown = {
        place: {v: block[v] for v in WEIGHTINGS if v in block and of_records(block[v], negative_share)}
        for place, block in evidence.grouped.items()
    }
    return {place: block for place, block in shown.items() if len(block) > 1}  # one alone has nothing to stand beside


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def _draw(evidence: Evidence) -> Figure:
    """Two rows of two panels for each place."""
    panels = _panels(evidence)
    figure = Figure(figsize=(2 * COLUMN, 4.4 * len(panels) + 0.4), dpi=200, layout="constrained")
    grid = figure.subplots(2 * len(panels), 2, squeeze=False)
    for row, (place, block) in enumerate(panels.items()):
        (by_pair, by_step), (of_loss, of_norm) = grid[2 * row], grid[2 * row + 1]
        by_pair.set_title(panel_title(evidence, place, block), loc="left")
        numbers = ", ".join(f"{WEIGHTINGS[v]} {len(of_records(c, negative_share))}" for v, c in block.items())
        by_step.set_title(f"seeds: {numbers}", loc="left", fontsize=7)
        _dots(by_pair, block, pairs(evidence, place))
        for variant, cell in block.items():
            color, line, _ = _STYLES[variant]
            style: dict[str, Any] = {"color": color, "linestyle": line, "label": WEIGHTINGS[variant]}
            kept = [record for record in cell.records if cosines(record)]  # those of earlier sources have none
            band(by_step, sampled_steps(kept[0]), [_mean_course(r) for r in kept], **style)
            _by_epoch(of_loss, cell.records, loss_sd, style)
            _by_epoch(of_norm, cell.records, relative_norm_sd, style)
        by_step.axhline(0, color="#777777", linewidth=0.8, zorder=1)
        by_step.set_xlabel("optimiser step")
        by_step.set_ylabel("mean cosine of all pairs")
        of_loss.set_ylabel("sd of the tagging loss")
        of_norm.set_ylabel("relative sd of gradient norm")
        for axis in (of_loss, of_norm):
            axis.set_ylim(bottom=0)  # once all is drawn: it ends the scaling of the top
    shown = [v for v in WEIGHTINGS if any(v in block for block in panels.values())]
    handles = [
        Line2D([], [], color=color, linestyle=line, marker=marker, markersize=4)
        for color, line, marker in (_STYLES[v] for v in shown)
    ]
    figure.legend(handles, [WEIGHTINGS[v] for v in shown], loc="outside lower center", ncols=3, handlelength=2.6)
    return figure


def _dots(axis: Axes, block: Block, names: list[str]) -> None:
    for place, (variant, cell) in enumerate(block.items()):
        color, _, marker = _STYLES[variant]
        for row, pair in enumerate(names):
            shares = of_records(cell, lambda record, pair=pair: negative_share(record, pair))  # type: ignore[misc]
            values = [100 * value for value in shares.values()]
            if values:
                at = row + 0.24 * (place - 1)
                axis.plot([min(values), max(values)], [at, at], color=color, linewidth=1.0)
                face = "white" if len(values) == 1 else color
                axis.plot(summarise(values).mean, at, marker, color=color, mfc=face, markersize=4)
    axis.set_yticks(range(len(names)), [pair.replace("~", ", ") for pair in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(-2, 102)
    axis.set_xlabel("negative cosines (%)")


def _mean_course(record: RunRecord) -> list[float]:
    """The mean over pairs at each sampled step."""
    by_step = zip(*cosines(record).values(), strict=True)
    return [float(np.mean([value for value in at if value is not None] or [0.0])) for at in by_step]


def _by_epoch(
    axis: Axes, records: tuple[RunRecord, ...], course: Callable[[RunRecord], list[float] | None], style: dict[str, Any]
) -> None:
    runs = [by_epoch for record in records if (by_epoch := course(record))]
    if runs:
        band(axis, range(1, max(map(len, runs)) + 1), runs, **style)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _sentences(evidence: Evidence) -> tuple[str, ...]:
    """How often gradients oppose each other, most and least, by pair of tasks."""
    return tuple(_sentence(evidence, place, block) for place, block in _panels(evidence).items())


def _sentence(evidence: Evidence, place: Place, block: Block) -> str:
    parts = []
    for variant, cell in block.items():
        shares = {
            pair: list(of_records(cell, lambda record, pair=pair: negative_share(record, pair)).values())  # type: ignore[misc]
            for pair in pairs(evidence, place)
        }
        means = {pair: summarise(values).mean for pair, values in shares.items() if values}
        worst = max(means, key=lambda pair: means[pair])
        share = f"{100 * means[worst]:.1f} %, {seeds(len(shares[worst]))}"
        parts.append(f"with {WEIGHTINGS[variant]} {worst.replace('~', ' and ')} ({share})")
    return f"{place_title(place)}: the tasks whose gradients oppose each other most often are {'; '.join(parts)}."


FIGURE = ReportFigure(
    "interference",
    "Gradients of the tasks on the text encoder under adaptive (AMA), equal and fixed loss weights. Upper left: share "
    "of negative cosines by pair of tasks, markers for the mean over seeds and lines for their range, hollow markers "
    "for one seed. Then the mean cosine over all pairs by step, and within each epoch the standard deviation of the "
    "tagging loss (in the first epoch mostly its descent) and that of the gradient's norm relative to its mean; there "
    "lines are the mean over seeds and bands their range. The number of seeds stands above the panels",
    _suffices,
    _draw,
    _sentences,
)
