"""Figures of cost: F1 against it, how it grows, and where CLAMP's time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from repro.efficiency.names import CONTRAST, FUSION, HEADS, IMAGE, OPTIMISER, PROFILE, PROFILE_VARIANTS, TEXT
from repro.evidence.cells import Block, Cell, Record, blocks
from repro.report.figures.training import BLACK, BLUE, COLUMN, GREEN, ORANGE, PURPLE, SHORT, SKY, STYLE, VERMILION, save
from repro.report.page import Picture
from repro.report.tables.costs.efficiency import OWN, Report, Reports, Row, rows_of, threads
from repro.report.wording import seeds

_MARKS = {  # variant -> (colour, marker)
    "full": (BLACK, "o"),
    "single_cross_attention": (VERMILION, "s"),
    "cmmt": (GREEN, "D"),
    "dtca": (ORANGE, "^"),
    "image_prefix": (SKY, "v"),
    "caption_concat": (BLUE, "P"),
    "text_only": (PURPLE, "X"),
}
_OTHER = ("#777777", "h")  # a baseline that has none of its own
_CURVES: dict[str, tuple[str, Any, str]] = {  # name -> (colour, line style, marker)
    "CLAMP": (BLACK, "-", "o"),
    "encoders and a linear head": (BLUE, "--", "s"),
}
_PARTS = {  # part -> (fill, whether text on it is white)
    TEXT: (BLUE, True),
    IMAGE: (SKY, False),
    FUSION: (VERMILION, True),
    HEADS: (BLACK, True),
    CONTRAST: (ORANGE, False),
    OPTIMISER: ("#BBBBBB", False),
}
_NARROW = 0.05  # of a bar; a narrower part has no number in it
_NAMES = {"cpu": "CPU", "gpu": "GPU"}
_BARS = {"inference parts": "inference, batch", "training": "training step, batch"}


@dataclass(frozen=True)
class Costs:
    """What figures are made from: the reports, and the cells of the profile whose F1 is shown."""

    reports: Reports
    block: Block


def costs(reports: Reports, records: Sequence[Record]) -> Costs:
    """F1 comes from the generated tweets alone: no other profile's is comparable with it."""
    block = blocks(records).get((PROFILE, "synthetic"), {})
    return Costs(reports, {variant: block[variant] for variant in PROFILE_VARIANTS if variant in block})


def write_figures(found: Costs, out: Path) -> list[Path]:
    """Draw what there is enough for, as NAME.png and NAME.pdf in `out`; the same inputs give the same bytes."""
    paths = []
    for name, figure in _FIGURES.items():
        if figure.suffices(found):
            with rc_context(STYLE):
                paths += save(figure.draw(found), out, name)
    return paths


def captions(found: Costs) -> dict[str, str]:
    """Name -> caption of each figure that is drawn."""
    return {name: figure.caption for name, figure in _FIGURES.items() if figure.suffices(found)}


def pictures(found: Costs) -> list[Picture]:
    """The same with what each figure shows here."""
    return [Picture(name, caption, tuple(_FIGURES[name].sentences(found))) for name, caption in captions(found).items()]


# F1 against cost


def _points(found: Costs, cost: Callable[[str], float | None]) -> dict[str, tuple[float, list[float]]]:
    """Variant -> its cost, and its F1 by seed in percent."""
    costed = {variant: cost(variant) for variant in found.block}
    return {v: (x, [100 * f1 for f1 in found.block[v].test("joint", "f1")]) for v, x in costed.items() if x is not None}


def _flops(found: Costs) -> dict[str, tuple[float, list[float]]]:
    def cost(variant: str) -> float:
        return found.block[variant].records[0]["result"]["cost"]["flops_per_tweet"] / 1e6

    return _points(found, cost)


def _latency(found: Costs, report: Report) -> dict[str, tuple[float, list[float]]]:
    timed = {row["variant"]: row["ms"]["p50"] for row in rows_of(report, "profile", batch=1)}
    return _points(found, timed.get)


def _f1_panels(found: Costs) -> list[tuple[str, str, dict[str, tuple[float, list[float]]]]]:
    panels = [("", "MFLOP a tweet", _flops(found))]
    for kind, report in found.reports.items():
        panels.append((f"On a {_NAMES[kind]}", "ms a tweet, batch 1", _latency(found, report)))
    return [panel for panel in panels if len(panel[2]) > 1]


def _draw_f1(found: Costs) -> Figure:
    panels = _f1_panels(found)
    figure = Figure(figsize=(COLUMN, 2.0 * len(panels) + 0.7), dpi=200, layout="constrained")
    for axis, (title, label, points) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for variant, (x, values) in points.items():
            color, marker = _MARKS.get(variant, _OTHER)
            axis.plot([x, x], [min(values), max(values)], color=color, linewidth=0.9)
            axis.plot(x, np.mean(values), marker, color=color, mec="white", mew=0.5, label=SHORT[variant])
        axis.set_title(title)
        axis.set_xlabel(label)
        axis.set_ylabel("test joint F1 (%)")
        axis.margins(0.1)
        axis.set_xlim(left=0)
    _legend(figure, columns=2)
    return figure


def _f1_sentences(found: Costs) -> list[str]:
    said = []
    for title, _, points in _f1_panels(found):
        if "full" not in points:
            continue
        ours = points["full"][0]
        parts = [f"{SHORT[v]} {x / ours:.2f} x {_gap(found, v)}" for v, (x, _) in points.items() if v != "full"]
        what = f"{title[0].lower()}{title[1:]}, in time" if title else "in FLOPs"
        said.append(f"Generated tweets, {what}, against CLAMP: {'; '.join(parts)}.")
    return said


def _gap(found: Costs, variant: str) -> str:
    """F1 minus CLAMP's, over the seeds that both have."""
    ours, theirs = ({r["seed"]: f1 for r, f1 in _with_f1(found.block[v])} for v in ("full", variant))
    gaps = [100 * (theirs[seed] - ours[seed]) for seed in theirs if seed in ours]
    return f"at {np.mean(gaps):+.1f} points ({seeds(len(gaps))})" if gaps else "with no seed in common"


def _with_f1(cell: Cell) -> Iterator[tuple[Record, float]]:
    return zip(cell.records, cell.test("joint", "f1"), strict=True)


# Growth


def _curve(axis: Axes, name: str, rows: list[Row], x: str, y: Callable[[Row, str], float]) -> None:
    color, line, marker = _CURVES[name]
    rows = sorted(rows, key=lambda row: row[x])
    places = [row[x] for row in rows]
    axis.fill_between(places, [y(r, "p10") for r in rows], [y(r, "p90") for r in rows], color=color, alpha=0.15, lw=0)
    axis.plot(
        places, [y(r, "p50") for r in rows], color=color, linestyle=line, marker=marker, markersize=3.5, label=name
    )


def _named(kind: str) -> dict[str, str]:
    return dict(zip(_CURVES, (OWN[kind], "encoders"), strict=True))


def _ticks(axis: Axes, places: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(set(places)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _with(section: str) -> Callable[[Costs], bool]:
    return lambda found: any(rows_of(report, section) for report in found.reports.values())


def _kinds(found: Costs, section: str) -> dict[str, Report]:
    return {kind: report for kind, report in found.reports.items() if rows_of(report, section)}


def _draw_batches(found: Costs) -> Figure:
    kinds = _kinds(found, "latency")
    figure = Figure(figsize=(COLUMN, 2.1 * len(kinds) + 0.4), dpi=200, layout="constrained")
    axes = figure.subplots(len(kinds), 1, squeeze=False)[:, 0]
    for axis, (kind, report) in zip(axes, kinds.items(), strict=True):
        for name, variant in _named(kind).items():
            rows = rows_of(report, "latency", variant=variant)
            _curve(axis, name, rows, "batch", lambda row, p: row["ms"][p] / row["batch"])
        _ticks(axis, [row["batch"] for row in rows_of(report, "latency")])
        axis.set_ylim(bottom=0)
        axis.set_title(_titled(report))
        axis.set_xlabel("tweets in a batch")
        axis.set_ylabel("ms a tweet")
    _legend(figure, columns=2)
    return figure


def _titled(report: Report) -> str:
    made = report["provenance"]
    return made["gpu"] or f"{made['cpu']}, {threads(report)}"


def _batch_sentences(found: Costs) -> list[str]:
    said = []
    for kind, report in _kinds(found, "latency").items():
        rows = sorted(rows_of(report, "latency", variant=OWN[kind]), key=lambda row: row["batch"])
        a_tweet = [row["ms"]["p50"] / row["batch"] for row in rows]
        ratios = [row["ratio"]["p50"] for row in rows]
        said.append(
            f"{_NAMES[kind]}: CLAMP takes {min(ratios):.2f} to {max(ratios):.2f} x the time of the two encoders over "
            f"all batches; a tweet in a batch of {rows[-1]['batch']} takes {a_tweet[-1] / a_tweet[0]:.2f} x what it "
            f"takes in one of {rows[0]['batch']}."
        )
    return said


_SIZES = {"regions": "regions (image side / 16, squared)", "tokens": "tokens"}


def _draw_sizes(found: Costs) -> Figure:
    kinds = _kinds(found, "sizes")
    first = next(iter(kinds))
    panels = [("GFLOP a tweet", first, lambda row, p: row["flops"] / 1e9)]
    panels += [(f"ms, batch 1 ({_NAMES[kind]})", kind, lambda row, p: row["ms"][p]) for kind in kinds]
    figure = Figure(figsize=(2 * COLUMN, 1.9 * len(panels) + 0.4), dpi=200, layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, sharex="col", sharey="row")
    for line, (label, kind, value) in zip(grid, panels, strict=True):
        for axis, what in zip(line, _SIZES, strict=True):
            rows = [row for row in rows_of(kinds[kind], "sizes") if what in row]
            for name, variant in _named(kind).items():
                _curve(axis, name, [row for row in rows if row["variant"] == variant], what, value)
            _ticks(axis, [row[what] for row in rows])
            axis.set_ylim(bottom=0)
        line[0].set_ylabel(label)
    for axis, label in zip(grid[-1], _SIZES.values(), strict=True):
        axis.set_xlabel(label)
    _legend(figure, columns=2)
    return figure


def _size_sentences(found: Costs) -> list[str]:
    said = []
    for kind, report in _kinds(found, "sizes").items():
        for what in _SIZES:
            rows = [row for row in rows_of(report, "sizes", variant=OWN[kind]) if what in row]
            rows.sort(key=lambda row: row[what])
            parts = [f"{row['ratio']['p50']:.2f} at {row[what]}" for row in rows]
            said.append(f"{_NAMES[kind]}, CLAMP's time as a multiple of the encoders', by {what}: {'; '.join(parts)}.")
    return said


# Where the time goes


def _bars(found: Costs) -> dict[str, dict[str, float]]:
    """Label of a bar -> milliseconds by part."""
    bars = {}
    for kind, report in found.reports.items():
        for section, what in _BARS.items():
            rows = [row for row in rows_of(report, section) if "part" in row]
            if rows:
                name = f"{_NAMES[kind]}, {what} {rows[0]['batch']}"
                bars[name] = {row["part"]: row["ms"]["p50"] for row in rows}
    return bars


def _draw_parts(found: Costs) -> Figure:
    bars = _bars(found)
    figure = Figure(figsize=(2 * COLUMN, 0.5 * len(bars) + 1.1), dpi=200, layout="constrained")
    axis = figure.subplots()
    for place, parts in enumerate(bars.values()):
        total, left = sum(parts.values()), 0.0
        for part, (color, on_dark) in _PARTS.items():
            share = parts.get(part, 0.0) / total
            if share:
                axis.barh(place, share, 0.62, left, color=color, edgecolor="white", linewidth=0.5, label=part)
            if share >= _NARROW:
                text = "white" if on_dark else "black"
                axis.text(left + share / 2, place, f"{share:.0%}", color=text, ha="center", va="center", fontsize=7)
            left += share
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
    _legend(figure, columns=len(_PARTS))
    return figure


def _part_sentences(found: Costs) -> list[str]:
    said = []
    for name, parts in _bars(found).items():
        total = sum(parts.values())
        shares = "; ".join(f"{part} {ms / total:.1%}" for part, ms in sorted(parts.items(), key=lambda it: -it[1]))
        said.append(f"{name}: {shares}.")
    return said


def _legend(figure: Figure, columns: int) -> None:
    """One for all panels, below them."""
    handles = {name: h for axis in figure.axes for h, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, handlelength=1.6)


@dataclass(frozen=True)
class _Drawn:
    caption: str
    suffices: Callable[[Costs], bool]
    draw: Callable[[Costs], Figure]
    sentences: Callable[[Costs], list[str]]


_FIGURES = {
    "efficiency_f1": _Drawn(
        "Joint F1 on generated tweets against FLOPs and against latency, all at the size of the profile synthetic: "
        "mean and range over seeds; the generative system was not trained, so it has no F1",
        lambda found: bool(_f1_panels(found)),
        _draw_f1,
        _f1_sentences,
    ),
    "efficiency_batch": _Drawn(
        "Time of a tweet against the batch that it is in, at the paper's size: median and 10th to 90th percentile of "
        "the rounds that the table of costs counts",
        _with("latency"),
        _draw_batches,
        _batch_sentences,
    ),
    "efficiency_size": _Drawn(
        "Cost of one tweet against its number of regions and of tokens, everything else at the paper's size: FLOPs, "
        "and median time with 10th to 90th percentile of the rounds that the table of costs counts",
        _with("sizes"),
        _draw_sizes,
        _size_sentences,
    ),
    "efficiency_parts": _Drawn(
        "Where the time of a step of CLAMP goes, at the paper's size; a training step has forward and backward "
        "together",
        lambda found: bool(_bars(found)),
        _draw_parts,
        _part_sentences,
    ),
}
