"""Matched against mismatched cosine of words and image, as histograms."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from repro.evidence.by_seed import measured
from repro.evidence.cells import Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.plan.variants import SUITE
from repro.records.evaluation import ALIGNMENT_BINS, Alignment
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import legend_below, stack
from repro.report.figures.style import BLUE, ORANGE
from repro.report.table_rows import place_title
from repro.report.wording import number, seeds


def _panels(evidence: Evidence) -> dict[Place, Cell]:
    of_clamp = {place: block["full"] for place, block in evidence.grouped.items() if "full" in block}
    return {place: cell for place, cell in of_clamp.items() if measured(cell, "alignment")}


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def _draw(evidence: Evidence) -> Figure:
    panels = _panels(evidence)
    blocks = {place: {"full": cell} for place, cell in panels.items()}
    figure, axes = stack(evidence, blocks, [2.0] * len(panels))
    edges = np.linspace(-1, 1, ALIGNMENT_BINS + 1)
    for axis, cell in zip(axes, panels.values(), strict=True):
        of_seeds = measured(cell, "alignment")
        for name, color, line in (("mismatched", ORANGE, "--"), ("matched", BLUE, "-")):
            counts = np.sum([getattr(one, name) for one in of_seeds], axis=0)
            shares = 100 * counts / counts.sum()
            axis.stairs(shares, edges, fill=True, color=color, alpha=0.35, linewidth=0)
            axis.stairs(shares, edges, color=color, linewidth=1.3, linestyle=line, label=name)
        axis.text(0.02, 0.94, f"AUC {_auc(of_seeds)}", transform=axis.transAxes, va="top")
        axis.set_ylabel("share of pairs (%)")
        axis.set_xlim(-1, 1)
        axis.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes[-1].set_xlabel("cosine of words and image,\nor the words that stand for it")
    legend_below(figure, axes, ["matched", "mismatched"], columns=2)
    return figure


def _auc(of_seeds: list[Alignment]) -> str:
    return number([one.auc for one in of_seeds])


def _sentences(evidence: Evidence) -> tuple[str, ...]:
    """Of each place: how far CLAMP tells the two apart, and which other system with the contrast does so best."""
    return tuple(_sentence(place, cell, evidence.block(place)) for place, cell in _panels(evidence).items())


def _sentence(place: Place, full: Cell, block: Block) -> str:
    of_seeds = measured(full, "alignment")
    matched, mismatched = (
        number([getattr(one, f"mean_{name}") for one in of_seeds]) for name in ("matched", "mismatched")
    )
    sentence = (
        f"{place_title(place)}: CLAMP's mean cosine is {matched} for matched and {mismatched} for mismatched pairs, "
        f"with an AUC of {_auc(of_seeds)} ({seeds(len(of_seeds))}); 0.5 would tell nothing."
    )
    others = {v: measured(block[v], "alignment") for v in SUITE if v != "full" and v in block}
    others = {v: of_variant for v, of_variant in others.items() if of_variant}
    if not others:
        return sentence
    best = max(others, key=lambda v: float(np.mean([one.auc for one in others[v]])))
    systems = "the other system" if len(others) == 1 else f"the {len(others)} other systems"
    whose = f"{block[best].label}, {seeds(len(others[best]))}"
    return f"{sentence} Of {systems} with a global contrast the highest is {_auc(others[best])} ({whose})."


FIGURE = ReportFigure(
    "alignment",
    "Cosine between CLAMP's embeddings of a test tweet's words and of its own image (matched) or another tweet's "
    "(mismatched), pooled over seeds; offline there is no image but the words that stand for it (its caption and "
    "faces); AUC: how often a matched pair is the closer one",
    _suffices,
    _draw,
    _sentences,
)
