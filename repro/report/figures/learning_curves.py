"""How each system learns: joint F1 on dev after each epoch."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repro.evidence.cells import Block
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.panels import Panels, band, legend_below, stack
from repro.report.figures.style import CURVES
from repro.report.table_rows import place_title
from repro.report.wording import mean_and_sd, seeds


def _panels(evidence: Evidence) -> Panels:
    return {place: block for place, block in evidence.grouped.items() if any(variant in block for variant in CURVES)}


def _suffices(evidence: Evidence) -> bool:
    return bool(_panels(evidence))


def _draw(evidence: Evidence) -> Figure:
    panels = _panels(evidence)
    figure, axes = stack(evidence, panels, [2.2] * len(panels))
    for axis, block in zip(axes, panels.values(), strict=True):
        for variant, (name, color, line) in CURVES.items():
            if variant in block:
                runs = [[100 * e.dev_f1 for e in r.result.curve] for r in block[variant].records]
                epochs = range(1, max(map(len, runs)) + 1)
                band(axis, epochs, runs, label=name, color=color, linestyle=line)
        axis.set_xlabel("epoch")
        axis.set_ylabel("dev joint F1 (%)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes, [name for name, _, _ in CURVES.values()], columns=2)
    return figure


def _sentences(evidence: Evidence) -> list[str]:
    blocks = {place: block for place, block in evidence.grouped.items() if "full" in block}
    return [f"{place_title(place)}: {_sentence(block)}" for place, block in blocks.items()]


def _sentence(block: Block) -> str:
    records = block["full"].records
    best = [max(epoch.dev_f1 for epoch in record.result.curve) for record in records]
    at = sorted({record.result.best_epoch for record in records})
    where = f"epoch {at[0]}" if len(at) == 1 else f"epochs {at[0]} to {at[-1]}"
    length = max(len(record.result.curve) for record in records)
    return f"CLAMP is best on dev after {where} of {length}, at {mean_and_sd(best)} F1 ({seeds(len(records))})."


FIGURE = ReportFigure(
    "learning_curves",
    "Joint F1 on dev after each epoch: mean and range over seeds, as far as every seed was trained",
    _suffices,
    _draw,
    _sentences,
)
