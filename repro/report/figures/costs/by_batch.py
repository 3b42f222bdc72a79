"""How the time of a tweet falls with the batch that it is in."""

from __future__ import annotations

from matplotlib.figure import Figure

from repro.evidence.evidence import Evidence
from repro.evidence.measurements import OWN, rows_of, threads
from repro.records.measurements import CostReport
from repro.report.figures.costs.growth import DEVICES, curves_of, draw_curve, set_ticks, with_rows
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import legend_of_all
from repro.report.figures.style import COLUMN


def _suffices(evidence: Evidence) -> bool:
    return bool(with_rows(evidence, "latency"))


def _draw(evidence: Evidence) -> Figure:
    kinds = with_rows(evidence, "latency")
    figure = Figure(figsize=(COLUMN, 2.1 * len(kinds) + 0.4), dpi=200, layout="constrained")
    axes = figure.subplots(len(kinds), 1, squeeze=False)[:, 0]
    for axis, (kind, report) in zip(axes, kinds.items(), strict=True):
        for name, variant in curves_of(kind).items():
            rows = rows_of(report, "latency", variant=variant)
            draw_curve(axis, name, rows, "batch", lambda row, p: row["ms"][p] / row["batch"])
        set_ticks(axis, [row["batch"] for row in rows_of(report, "latency")])
        axis.set_ylim(bottom=0)
        axis.set_title(_titled(report))
        axis.set_xlabel("tweets in a batch")
        axis.set_ylabel("ms a tweet")
    legend_of_all(figure, columns=2)
    return figure


def _titled(report: CostReport) -> str:
    made = report.provenance
    return made.gpu or f"{made.cpu}, {threads(report)}"


def _sentences(evidence: Evidence) -> list[str]:
    sentences = []
    for kind, report in with_rows(evidence, "latency").items():
        rows = sorted(rows_of(report, "latency", variant=OWN[kind]), key=lambda row: row["batch"])
        a_tweet = [row["ms"]["p50"] / row["batch"] for row in rows]
        ratios = [row["ratio"]["p50"] for row in rows]
        sentences.append(
            f"{DEVICES[kind]}: CLAMP takes {min(ratios):.2f} to {max(ratios):.2f} x the time of the two encoders over "
            f"all batches; a tweet in a batch of {rows[-1]['batch']} takes {a_tweet[-1] / a_tweet[0]:.2f} x what it "
            f"takes in one of {rows[0]['batch']}."
        )
    return sentences


FIGURE = ReportFigure(
    "efficiency_batch",
    "Time of a tweet against the batch that it is in, at the paper's size: median and 10th to 90th percentile of "
    "the rounds that the table of costs counts",
    _suffices,
    _draw,
    _sentences,
)
