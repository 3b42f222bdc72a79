"""How the cost of a tweet grows with its regions and with its tokens."""

from __future__ import annotations

from matplotlib.figure import Figure

from repro.evidence.evidence import Evidence
from repro.evidence.measurements import OWN, rows_of
from repro.report.figures.costs.growth import DEVICES, curves_of, draw_curve, set_ticks, with_rows
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import legend_of_all
from repro.report.figures.style import COLUMN

_SIZES = {"regions": "regions (image side / 16, squared)", "tokens": "tokens"}


def _suffices(evidence: Evidence) -> bool:
    return bool(with_rows(evidence, "sizes"))


def _draw(evidence: Evidence) -> Figure:
    kinds = with_rows(evidence, "sizes")
    first = next(iter(kinds))
    panels = [("GFLOP a tweet", first, lambda row, p: row["flops"] / 1e9)]
    panels += [(f"ms, batch 1 ({DEVICES[kind]})", kind, lambda row, p: row["ms"][p]) for kind in kinds]
    figure = Figure(figsize=(2 * COLUMN, 1.9 * len(panels) + 0.4), dpi=200, layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, sharex="col", sharey="row")
    for line, (label, kind, value) in zip(grid, panels, strict=True):
        for axis, what in zip(line, _SIZES, strict=True):
            rows = [row for row in rows_of(kinds[kind], "sizes") if what in row]
            for name, variant in curves_of(kind).items():
                draw_curve(axis, name, [row for row in rows if row["variant"] == variant], what, value)
            set_ticks(axis, [row[what] for row in rows])
            axis.set_ylim(bottom=0)
        line[0].set_ylabel(label)
    for axis, label in zip(grid[-1], _SIZES.values(), strict=True):
        axis.set_xlabel(label)
    legend_of_all(figure, columns=2)
    return figure


def _sentences(evidence: Evidence) -> list[str]:
    sentences = []
    for kind, report in with_rows(evidence, "sizes").items():
        for what in _SIZES:
            rows = [row for row in rows_of(report, "sizes", variant=OWN[kind]) if what in row]
            rows.sort(key=lambda row: row[what])
            parts = [f"{row['ratio']['p50']:.2f} at {row[what]}" for row in rows]
            sentences.append(
                f"{DEVICES[kind]}, CLAMP's time as a multiple of the encoders', by {what}: {'; '.join(parts)}."
            )
    return sentences


FIGURE = ReportFigure(
    "efficiency_size",
    "Cost of one tweet against its number of regions and of tokens, everything else at the paper's size: FLOPs, "
    "and median time with 10th to 90th percentile of the rounds that the table of costs counts",
    _suffices,
    _draw,
    _sentences,
)
