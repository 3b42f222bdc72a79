"""What a figure of the report is, and how one is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from repro.evidence.evidence import Evidence
from repro.records.files import write_atomically
from repro.report.figures.style import STYLE

_SUFFIXES = (".png", ".pdf")


@dataclass(frozen=True)
class ReportFigure:
    """NAME.png and NAME.pdf: pure functions of the evidence.

    `caption` says what it shows of any results, `sentences` what it shows of these; `suffices` whether there is enough
    to draw, without which the others are not called.
    """

    name: str
    caption: str
    suffices: Callable[[Evidence], bool]
    draw: Callable[[Evidence], Figure]
    sentences: Callable[[Evidence], Sequence[str]]


def write_figure(figure: ReportFigure, evidence: Evidence, out: Path) -> list[Path]:
    """Write NAME.png and NAME.pdf in `out`, each in one step; the same evidence gives the same bytes."""
    with rc_context(STYLE):
        drawn = figure.draw(evidence)
        png = _png(drawn)
        drawn.set_layout_engine("none")  # as it was laid out for the PNG: a second time takes as long as drawing
        contents = dict(zip(_SUFFIXES, (png, _pdf(drawn)), strict=True))
    paths = []
    for suffix, content in contents.items():
        paths.append(out / f"{figure.name}{suffix}")
        write_atomically(paths[-1], content)
    return paths


def remove_figure(figure: ReportFigure, out: Path) -> None:
    """Remove what `write_figure` left in `out`, if it did."""
    for suffix in _SUFFIXES:
        (out / f"{figure.name}{suffix}").unlink(missing_ok=True)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return buffer.getvalue()
