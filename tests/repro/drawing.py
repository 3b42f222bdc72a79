"""Figures by name, drawn or written for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from repro.evidence.evidence import Evidence
from repro.report.figures.contents import FIGURES
from repro.report.figures.figure import ReportFigure, write_figure
from repro.report.figures.style import STYLE

BY_NAME = {figure.name: figure for figure in FIGURES}


def suffices_for(evidence: Evidence) -> list[ReportFigure]:
    return [figure for figure in FIGURES if figure.suffices(evidence)]


def names_of(evidence: Evidence) -> list[str]:
    return [figure.name for figure in suffices_for(evidence)]


def drawn(name: str, evidence: Evidence) -> Figure:
    assert BY_NAME[name].suffices(evidence)
    with rc_context(STYLE):
        figure = BY_NAME[name].draw(evidence)
        figure.draw_without_rendering()
    return figure


def write_figures(evidence: Evidence, out: Path) -> list[Path]:
    return [path for figure in suffices_for(evidence) for path in write_figure(figure, evidence, out)]


def assert_whole(picture: Path, widths: tuple[int, ...]) -> None:
    """Something is drawn, nothing touches an edge, and the picture is as wide as one of these."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] in widths, picture
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all(), f"{picture} is cut off"
    assert (pixels < 128).mean() > 0.005, picture
