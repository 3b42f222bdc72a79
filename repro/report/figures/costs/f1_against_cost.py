"""F1 on generated tweets against FLOPs and against latency."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from repro.efficiency.names import PROFILE_VARIANTS
from repro.evidence.by_seed import difference, of_records
from repro.evidence.cells import GENERATED, Block
from repro.evidence.evidence import Evidence
from repro.evidence.measurements import rows_of
from repro.evidence.per_record import joint_f1
from repro.records.measurements import CostReport
from repro.report.figures.costs.growth import DEVICES
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import legend_of_all
from repro.report.figures.style import BLACK, BLUE, COLUMN, GREEN, ORANGE, PURPLE, SHORT, SKY, VERMILION
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

Points = dict[str, tuple[float, list[float]]]
"""Variant -> its cost, and its F1 by seed in percent."""


class _Panel(NamedTuple):
    title: str
    label: str
    points: Points


def _block(evidence: Evidence) -> Block:
    """The generated tweets' alone: no other profile's F1 is comparable with theirs."""
    block = evidence.block(GENERATED)
    return {variant: block[variant] for variant in PROFILE_VARIANTS if variant in block}


def _points(evidence: Evidence, cost: Callable[[str], float | None]) -> Points:
    block = _block(evidence)
    costed = {variant: cost(variant) for variant in block}
    return {v: (x, [100 * f1 for f1 in block[v].test("joint", "f1")]) for v, x in costed.items() if x is not None}


def _flops(evidence: Evidence) -> Points:
    block = _block(evidence)
    return _points(evidence, lambda variant: block[variant].records[0].result.cost.flops_per_tweet / 1e6)


def _latency(evidence: Evidence, report: CostReport) -> Points:
    timed = {row["variant"]: row["ms"]["p50"] for row in rows_of(report, "profile", batch=1)}
    return _points(evidence, timed.get)


def _panels(evidence: Evidence) -> list[_Panel]:
    panels = [_Panel("", "MFLOP a tweet", _flops(evidence))]
    for kind, report in evidence.efficiency.items():
        panels.append(_Panel(f"On a {DEVICES[kind]}", "ms a tweet, batch 1", _latency(evidence, report)))
    return [panel for panel in panels if len(panel.points) > 1]


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def _draw(evidence: Evidence) -> Figure:
    panels = _panels(evidence)
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
    legend_of_all(figure, columns=2)
    return figure


def _sentences(evidence: Evidence) -> list[str]:
    sentences = []
    for title, _, points in _panels(evidence):
        if "full" not in points:
            continue
        ours = points["full"][0]
        parts = [f"{SHORT[v]} {x / ours:.2f} x {_gap(evidence, v)}" for v, (x, _) in points.items() if v != "full"]
        what = f"{title[0].lower()}{title[1:]}, in time" if title else "in FLOPs"
        sentences.append(f"Generated tweets, {what}, against CLAMP: {'; '.join(parts)}.")
    return sentences


def _gap(evidence: Evidence, variant: str) -> str:
    """F1 minus CLAMP's, over the seeds that both have."""
    block = _block(evidence)
    gaps = [100 * gap for gap in difference(of_records(block[variant], joint_f1), of_records(block["full"], joint_f1))]
    return f"at {np.mean(gaps):+.1f} points ({seeds(len(gaps))})" if gaps else "with no seed in common"


FIGURE = ReportFigure(
    "efficiency_f1",
    "Joint F1 on generated tweets against FLOPs and against latency, all at the size of the profile synthetic: "
    "mean and range over seeds; the generative system was not trained, so it has no F1",
    _suffices,
    _draw,
    _sentences,
)
