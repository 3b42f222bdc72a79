"""The figures of the inner workings: which there are, which the evidence suffices for, and drawing them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from repro.evidence.evidence import Evidence
from repro.report.figures import alignment, attention_maps, calibration, interference, sweep
from repro.report.figures.training import STYLE, save
from repro.report.page import Picture


class MechanismFigure(NamedTuple):
    """What a figure shows by design, whether there is enough for it, how it is drawn and what it shows here."""

    caption: str
    suffices: Callable[[Evidence], bool]
    draw: Callable[[Evidence], Figure]
    sentences: Callable[[Evidence], tuple[str, ...]]


FIGURES = {
    name: MechanismFigure(module.CAPTION, module.suffices, module.draw, module.sentences)
    for name, module in {
        "attention_maps": attention_maps,
        "alignment": alignment,
        "calibration": calibration,
        "interference": interference,
        "sweep": sweep,
    }.items()
}


def captions(evidence: Evidence) -> dict[str, str]:
    """Name -> caption of each figure that the evidence suffices for."""
    return {name: figure.caption for name, figure in FIGURES.items() if figure.suffices(evidence)}


def pictures(evidence: Evidence) -> list[Picture]:
    """The same as the report shows them."""
    planned = captions(evidence)
    return [Picture(name, caption, FIGURES[name].sentences(evidence)) for name, caption in planned.items()]


def write_figures(evidence: Evidence, out: Path) -> list[Path]:
    """Draw them as NAME.png and NAME.pdf in `out`; the same evidence gives the same bytes."""
    paths: list[Path] = []
    for name in captions(evidence):
        with rc_context(STYLE):
            paths += save(FIGURES[name].draw(evidence), out, name)
    return paths
