"""Panels, one for each data set and profile that was run: their titles, their bands over seeds, their legend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.evidence.cells import DATASET_TITLES, Block, Place
from repro.evidence.evidence import Evidence
from repro.report.figures.style import COLUMN

_PROFILE_TITLES = {"synthetic": "", "offline": ", offline", "paper": ", paper"}

Panels = Mapping[Place, Block]


def panel_title(evidence: Evidence, place: Place, block: Block) -> str:
    """The data set and profile, with a dagger where any of the block's runs is of other sources than today's."""
    profile, dataset = place
    sources = {record.provenance.source_hash for cell in block.values() for record in cell.records}
    title = f"{DATASET_TITLES[dataset]}{_PROFILE_TITLES[profile]}"
    return title[0].upper() + title[1:] + ("†" if not sources <= set(evidence.marks.todays_hashes) else "")


def stack(evidence: Evidence, panels: Panels, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """One panel below the other, `heights` in inches, a column of text wide."""
    figure = Figure(figsize=(COLUMN, sum(heights) + 0.5), dpi=200, layout="constrained")
    axes = list(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0])
    for axis, (place, block) in zip(axes, panels.items(), strict=True):
        axis.set_title(panel_title(evidence, place, block))
    return figure, axes


def band(axis: Axes, x: Sequence[float], runs: Sequence[Sequence[float]], **style: Any) -> None:
    """The mean over runs with their range, as far as every run goes (early stopping cuts some)."""
    length = min(len(run) for run in runs)
    values_ST = np.array([run[:length] for run in runs])
    axis.plot(x[:length], values_ST.mean(axis=0), **style)
    if len(runs) > 1:
        axis.fill_between(
            x[:length], values_ST.min(axis=0), values_ST.max(axis=0), color=style["color"], alpha=0.15, lw=0
        )


def legend_below(figure: Figure, axes: Sequence[Axes], styles: Iterable[str], columns: int) -> None:
    """One legend for all panels, its entries in the order of `styles`."""
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    shown = {name: handles[name] for name in styles if name in handles}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, handlelength=2.6)


def legend_of_all(figure: Figure, columns: int) -> None:
    """One legend for all axes, below them, its entries in the order in which they were drawn."""
    handles = {name: h for axis in figure.axes for h, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, handlelength=1.6)
