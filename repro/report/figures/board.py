"""The board and beside it the differences: every claim on every data set, its verdict, its effect and its intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from repro.evidence.evidence import Evidence
from repro.evidence.verdicts import VERDICTS
from repro.report.board import SIGNS, Board, Row, board_of
from repro.report.figures.figure import ReportFigure
from repro.report.figures.style import BLACK, SKY
from repro.report.ledger import Entry
from repro.report.table_rows import place_title

_ROW = 0.165  # inches
_HEAD, _FOOT = 0.5, 0.62
_LABELS, _FOREST = 1.65, 1.28
_CELLS = {True: 0.52, False: 0.4}  # with and without the forest plot: a phone is narrow
_GAP = 0.1
_FURTHEST = 60.0  # margins; what lies beyond is drawn at the edge
_TICKS = (-30, -5, 0, 5, 30)


@dataclass(frozen=True)
class _Line:
    """A line of the board: a claim, or a heading without one."""

    text: str
    row: Row | None


def _lines(board: Board) -> list[_Line]:
    def of_all() -> Iterator[_Line]:
        for group, rows in board.groups():
            yield _Line(group, None)
            yield from (_Line(row.claim.short, row) for row in rows)

    return list(of_all())


def _draw(evidence: Evidence, with_forest: bool) -> Figure:
    board, cell = board_of(evidence), _CELLS[with_forest]
    lines, columns = _lines(board), len(board.columns)
    wide = _LABELS + columns * cell + (columns * (_FOREST + _GAP) if with_forest else 0.0) + 0.15
    foot = _FOOT if with_forest else 0.75
    high = _HEAD + len(lines) * _ROW + foot
    figure = Figure(figsize=(wide, high), dpi=200)

    def axes(left: float, width: float) -> Axes:
        axis = figure.add_axes((left / wide, foot / high, width / wide, len(lines) * _ROW / high))
        axis.set_ylim(len(lines), 0)
        axis.set_yticks([])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        return axis

    _draw_board(axes(0.05, _LABELS + columns * cell), board, lines, cell)
    if with_forest:
        for k, title in enumerate(board.titles()):
            left = _LABELS + columns * cell + 0.12 + k * (_FOREST + _GAP)
            _draw_forest(axes(left, _FOREST), k, title, lines)
    _draw_legend(figure, with_forest)
    return figure


def _draw_board(axis: Axes, board: Board, lines: list[_Line], cell: float) -> None:
    """In inches from the left: labels, then a cell for each column."""
    axis.set_xlim(0, _LABELS + len(board.columns) * cell)
    axis.set_xticks([])
    for k, title in enumerate(board.titles()):
        at = _LABELS + (k + 0.5) * cell
        heading = title.replace(" ", "\n").replace("-", "-\n")
        axis.text(at, -0.3, heading, ha="center", va="bottom", fontsize=14 * cell if cell < 0.5 else 7)
    for y, line in enumerate(lines):
        if line.row is None:
            axis.text(0, y + 0.55, line.text, va="center", fontsize=7, fontweight="bold")
            continue
        axis.text(0.08, y + 0.52, line.text, va="center", fontsize=7.5)
        for k, entry in enumerate(line.row.cells):
            if entry is not None:
                _draw_cell(axis, _LABELS + k * cell, y, entry, cell)


def _draw_cell(axis: Axes, x: float, y: float, entry: Entry, cell: float) -> None:
    sign = SIGNS[entry.verdict]
    border = "#B0B0B0" if entry.verdict != "not run" else "#E2E2E2"
    box = Rectangle((x + 0.02, y + 0.06), cell - 0.04, 0.88, facecolor=sign.back, edgecolor=border, linewidth=0.6)
    axis.add_patch(box)
    middle = y + 0.53
    if not entry.n:
        axis.text(x + cell / 2, middle, sign.sign, color=sign.front, ha="center", va="center", fontsize=8)
        return
    axis.text(x + 0.3 * cell, middle, sign.sign, color=sign.front, ha="center", va="center", fontsize=9, weight="bold")
    axis.text(x + cell - 0.06, middle, f"n {entry.n}", color=sign.front, ha="right", va="center", fontsize=5.5)


def _draw_forest(axis: Axes, column: int, title: str, lines: list[_Line]) -> None:
    axis.set_xscale("symlog", linthresh=2, linscale=1)
    axis.set_xlim(-_FURTHEST, _FURTHEST)
    axis.set_xticks(_TICKS, [f"{tick:+d}" if tick else "0" for tick in _TICKS], fontsize=6)
    axis.minorticks_off()
    axis.spines["bottom"].set_visible(True)
    axis.spines["bottom"].set_color("#888888")
    axis.tick_params(axis="x", length=2, color="#888888")
    axis.set_title(title, fontsize=7, pad=4)
    axis.axvspan(-1, 1, color="#E4E4E4", linewidth=0, zorder=0)
    axis.axvline(0, color="#888888", linewidth=0.6, zorder=1)
    for y, line in enumerate(lines):
        entry = line.row.cells[column] if line.row else None
        if entry is not None and entry.effect is not None:
            _draw_effect(axis, y + 0.5, entry)


def _draw_effect(axis: Axes, y: float, entry: Entry) -> None:
    def at(value: float) -> float:
        return max(-_FURTHEST, min(value / entry.claim.margin, _FURTHEST))

    if entry.over_tweets is not None:
        axis.plot([at(v) for v in entry.over_tweets], [y, y], color=SKY, linewidth=3.6, solid_capstyle="butt", zorder=2)
    if entry.over_seeds is not None:
        axis.plot([at(v) for v in entry.over_seeds], [y, y], color=BLACK, linewidth=0.9, zorder=3)
    assert entry.effect is not None
    if math.isinf(entry.effect):
        marker = ">" if entry.effect > 0 else "<"  # never there: however far
        axis.plot(math.copysign(0.8 * _FURTHEST, entry.effect), y, marker, color=BLACK, markersize=3.5)
        return
    sign = SIGNS[entry.verdict]
    axis.plot(at(entry.effect), y, "o", mfc=sign.back, mec=BLACK, mew=0.7, markersize=4.2, zorder=4)


def _draw_legend(figure: Figure, with_forest: bool) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=SIGNS[v].back, edgecolor="#B0B0B0", linewidth=0.6, label=f"{SIGNS[v].sign}  {v}")
        for v in VERDICTS
    ]
    if not with_forest:
        figure.legend(handles=handles, loc="lower left", ncols=2, fontsize=7, bbox_to_anchor=(0.0, 0.0))
        return
    handles += [
        Line2D([], [], color=SKY, linewidth=3.6, label="95 % over tweets (bootstrap)"),
        Line2D([], [], color=BLACK, linewidth=0.9, label="95 % over seeds (t)"),
        Patch(facecolor="#E4E4E4", label="margin: no difference that matters"),
    ]
    figure.legend(handles=handles, loc="lower left", ncols=5, fontsize=6.5, bbox_to_anchor=(0.0, 0.0))
    said = "differences in margins (of F1: points),\nright of 0: as claimed; \u25b8 never there"
    figure.text(0.995, 0.02, said, ha="right", va="bottom", fontsize=6.5)


def _suffices(evidence: Evidence) -> bool:
    return bool(evidence.grouped)


def _sentences(evidence: Evidence) -> list[str]:
    """How many verdicts of each kind there are, column by column."""
    board = board_of(evidence)
    said = []
    for k, place in enumerate(board.columns):
        asked = [entry for row in board.rows if (entry := row.cells[k]) is not None]
        counted = {verdict: sum(entry.verdict == verdict for entry in asked) for verdict in VERDICTS}
        listed = ", ".join(f"{number} {verdict}" for verdict, number in counted.items() if number)
        said.append(f"{place_title(place)}: of {len(asked)} claims {listed}.")
    return said


def _of(name: str, caption: str, draw: Callable[[Evidence], Figure]) -> ReportFigure:
    return ReportFigure(name, caption, _suffices, draw, _sentences)


FIGURE = _of(
    "board",
    "Every claim on every data set: its verdict with the number of seeds, and beside it the difference (dot), its 95 % "
    "intervals over tweets (wide) and over seeds (thin), and the margin within which it would not matter (shaded); "
    "differences are in units of their margin, which for F1 is one point, and lie right of 0 where as claimed; "
    "† has runs made by other sources than today's",
    partial(_draw, with_forest=True),
)
FOR_PHONES = _of(
    "board_phone",
    "The same verdicts, as wide as a phone: ✓ supported, ✗ not supported, = no difference that matters, » beyond these "
    "data, ? undecided, · not run; n is the number of seeds, † has runs made by other sources than today's",
    partial(_draw, with_forest=False),
)
