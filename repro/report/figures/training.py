"""The figures, as pure functions of the records: one panel for each data set and profile that was run.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; line styles and markers repeat what they say.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from clamp.config import TASKS
from repro.evidence.cells import DATASET_TITLES, Block, Cell, Record, blocks
from repro.evidence.stats import LEAST_SEEDS, summarise
from repro.plan.variants import SUITE, VARIANTS
from repro.run.store import write_atomically

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
CURVES = {  # variant -> (short name, colour, line style)
    "full": ("CLAMP", BLACK, "-"),
    "no_paf": ("no PAF", BLUE, "--"),
    "no_mcl": ("no MCL", ORANGE, "-."),
    "no_ama": ("no AMA", GREEN, (0, (5, 1, 1, 1, 1, 1))),
    "single_cross_attention": ("single cross-attention", VERMILION, (0, (3, 1))),
    "text_only": ("text only", PURPLE, ":"),
}
SHORT = {variant: VARIANTS[variant].label for variant in SUITE} | {
    "cmmt": "small CMMT",
    "dtca": "small DTCA",
    "image_prefix": "image prefix",
    "caption_concat": "appended caption",
    "one_stage": "one stage",
    "no_pyramid": "no pyramid",
    "no_focus": "no focus",
    "no_gate": "no gate",
    "global_only": "global MCL only",
    "local_only": "local MCL only",
    "fixed_weights": "fixed weights",
    "no_bounds": "AMA without bounds",
    "no_paf_no_mcl": "no PAF, no MCL",
    **{variant: name for variant, (name, _, _) in CURVES.items()},
}
# task -> (colour, line style, width); weights on one bound coincide, so one line there is wide and the other thin
TASK_STYLES = dict(
    zip(TASKS, [(BLACK, "-", 1.3), (SKY, "--", 3.0), (ORANGE, "-.", 1.3), (BLUE, (0, (2, 2)), 1.3)], strict=True)
)
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}
COLUMN = 3.4  # inches: the width of a column of text
PROFILE_TITLES = {"synthetic": "", "offline": ", offline", "paper": ", paper"}

Panels = dict[tuple[str, str], Block]


def planned_figures(records: Sequence[Record]) -> dict[str, str]:
    """Name -> caption of each figure that these records suffice for."""
    return {name: caption for name, (caption, panels, _) in _FIGURES.items() if panels(blocks(records))}


def write_figures(records: Sequence[Record], out: Path, todays_hashes: Collection[str]) -> list[Path]:
    """Draw what the records suffice for, as NAME.png and NAME.pdf in `out`; the same records give the same bytes.

    Panels with records of sources other than `todays_hashes` carry a dagger, as table rows do.
    """
    paths: list[Path] = []
    for name, (_, panels_of, draw) in _FIGURES.items():
        panels = panels_of(blocks(records))
        if panels:
            with rc_context(STYLE):
                paths += save(draw(panels, todays_hashes), out, name)
    return paths


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write NAME.png and NAME.pdf; the same figure gives the same bytes."""
    paths = []
    for suffix, content in ((".png", _png(figure)), (".pdf", _pdf(figure))):
        paths.append(out / f"{name}{suffix}")
        write_atomically(paths[-1], content)
    return paths


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return buffer.getvalue()


def panel_title(place: tuple[str, str], block: Block, todays_hashes: Collection[str]) -> str:
    """The data set and profile, with a dagger where any of the block's runs is of other sources than today's."""
    profile, dataset = place
    sources = {record["provenance"]["source_hash"] for cell in block.values() for record in cell.records}
    title = f"{DATASET_TITLES[dataset]}{PROFILE_TITLES[profile]}"
    return title[0].upper() + title[1:] + ("†" if not sources <= set(todays_hashes) else "")


def _stack(panels: Panels, heights: Sequence[float], todays_hashes: Collection[str]) -> tuple[Figure, list[Axes]]:
    """One panel below the other, `heights` in inches, a column of text wide."""
    figure = Figure(figsize=(COLUMN, sum(heights) + 0.5), dpi=200, layout="constrained")
    axes = list(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0])
    for axis, (place, block) in zip(axes, panels.items(), strict=True):
        axis.set_title(panel_title(place, block, todays_hashes))
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


# Learning curves


def _with_curves(found: Panels) -> Panels:
    return {place: block for place, block in found.items() if any(variant in block for variant in CURVES)}


def _learning_curves(panels: Panels, todays_hashes: Collection[str]) -> Figure:
    figure, axes = _stack(panels, [2.2] * len(panels), todays_hashes)
    for axis, block in zip(axes, panels.values(), strict=True):
        for variant, (name, color, line) in CURVES.items():
            if variant in block:
                runs = [[100 * e["dev_f1"] for e in r["result"]["curve"]] for r in block[variant].records]
                epochs = range(1, max(map(len, runs)) + 1)
                band(axis, epochs, runs, label=name, color=color, linestyle=line)
        axis.set_xlabel("epoch")
        axis.set_ylabel("dev joint F1 (%)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes, [name for name, _, _ in CURVES.values()], columns=2)
    return figure


def legend_below(figure: Figure, axes: Sequence[Axes], styles: Iterable[str], columns: int) -> None:
    """One legend for all panels, its entries in the order of `styles`."""
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    shown = {name: handles[name] for name in styles if name in handles}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, handlelength=2.6)


# Loss weights


def _with_weights(found: Panels) -> Panels:
    def logged(cell: Cell | None) -> bool:
        return cell is not None and all(record["result"]["weighting"] for record in cell.records)

    return {place: {"full": block["full"]} for place, block in found.items() if logged(block.get("full"))}


def weight(s: Any) -> Any:
    """What a loss is multiplied by."""
    return np.exp(-np.asarray(s)) / 2


def uncertainty(s: Any) -> Any:
    """The sigma of a task: s is the logarithm of its square."""
    return np.exp(np.asarray(s) / 2)


def _loss_weights(panels: Panels, todays_hashes: Collection[str]) -> Figure:
    """A row for each place: weights on the left, uncertainties on the right; a lower bound of s is a limit of both."""
    sides = [(weight, "loss weight exp(-s)/2", "most"), (uncertainty, "uncertainty sigma = exp(s/2)", "least")]
    figure = Figure(figsize=(2 * COLUMN, 2.2 * len(panels) + 0.5), dpi=200, layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for row, (place, block) in zip(grid, panels.items(), strict=True):
        row[0].set_title(panel_title(place, block, todays_hashes), loc="left")
        records = block["full"].records
        logs = [record["result"]["weighting"] for record in records]
        lowest = records[0]["config"]["model"]["aggregation"]["lowest"]
        bounds = _named_bounds({task: lowest[task] for task in logs[0]["s"]})
        steps = max((log["step"] for log in logs), key=len)
        for axis, (of_s, title, end) in zip(row, sides, strict=True):
            for task, (color, line, width) in TASK_STYLES.items():
                if all(task in log["s"] for log in logs):
                    runs = [of_s(log["s"][task]) for log in logs]
                    band(axis, steps, runs, label=task, color=color, linestyle=line, linewidth=width)
            axis.set_yscale("log")
            axis.margins(y=0.18)  # room for what the limits are called
            for bound, whose in bounds.items():
                axis.axhline(of_s(bound), color="#777777", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
                above = end == "most"  # curves lie on the other side
                axis.annotate(
                    f"{end} for {whose}: {float(of_s(bound)):.3g}",
                    (0.98, of_s(bound)),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, 3 if above else -3),
                    textcoords="offset points",
                    ha="right",
                    va="bottom" if above else "top",
                    fontsize=7,
                    color="#444444",
                )
            if of_s is uncertainty:  # its range is short for a decade a tick
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel("optimiser step")
            axis.set_ylabel(title)
    grid[0][0].plot([], [], color="#777777", linewidth=0.8, linestyle=(0, (1, 2)), label="limit")
    legend_below(figure, list(grid.flat), [*TASK_STYLES, "limit"], columns=5)
    return figure


def _named_bounds(lowest: dict[str, float]) -> dict[float, str]:
    """Lower bound of s -> whose it is, by name; that of most tasks is the others'."""
    tasks_of: dict[float, list[str]] = {}
    for task, bound in lowest.items():
        tasks_of.setdefault(bound, []).append(task)
    if len(tasks_of) == 1:
        return dict.fromkeys(tasks_of, "all")
    most = max(tasks_of, key=lambda bound: len(tasks_of[bound]))
    named = {bound: ", ".join(tasks) for bound, tasks in tasks_of.items()}
    return named | ({most: "the others"} if len(tasks_of[most]) > 1 else {})


# Ablations


def _with_ablations(found: Panels) -> Panels:
    shown = {place: {v: cell for v, cell in block.items() if v in SUITE} for place, block in found.items()}
    return {place: block for place, block in shown.items() if len(block) > 1}


def _ablation_dots(panels: Panels, todays_hashes: Collection[str]) -> Figure:
    """F1 of each variant: its seeds as dots, their mean as a bar, the t interval as a line where there are enough."""
    figure, axes = _stack(panels, [0.6 + 0.2 * len(block) for block in panels.values()], todays_hashes)
    for axis, block in zip(axes, panels.values(), strict=True):
        shown = list(block.values())
        for row, cell in enumerate(shown):
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
        axis.set_yticks(range(len(shown)), [f"{SHORT[cell.variant]} ({cell.n})" for cell in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlabel("test joint F1 (%)")
    return figure


_FIGURES: dict[str, tuple[str, Callable[[Panels], Panels], Callable[[Panels, Collection[str]], Figure]]] = {
    "learning_curves": (
        "Joint F1 on dev after each epoch: mean and range over seeds, as far as every seed was trained",
        _with_curves,
        _learning_curves,
    ),
    "loss_weights": (
        "Weight exp(-s)/2 of each task's loss (left) and the task's uncertainty sigma = exp(s/2) (right) over "
        "training, full CLAMP: mean and range over seeds. Dotted: the lower bounds of s, which are upper limits of the "
        "weights and lower limits of sigma, one of tagging and one of the other tasks; a task may start away from its "
        "limit, as the global one does",
        _with_weights,
        _loss_weights,
    ),
    "ablations": (
        "Joint F1 on test of every variant run (number of seeds in brackets): each seed (dot), mean (bar), and the "
        "95 % t interval (line, cut at 0 and 100) from three seeds on; dashed: the mean of full CLAMP",
        _with_ablations,
        _ablation_dots,
    ),
}
