"""The report: the board, verdicts, then every table and figure with what it is and shows, as Markdown and HTML.

Every sentence is a table's or made from the records here; nothing is written by hand that the numbers could contradict.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from repro.evidence.evidence import Evidence
from repro.records.files import write_atomically
from repro.report.board import SIGNS, board_of
from repro.report.explorer.pages import report_explorer
from repro.report.figures.figure import ReportFigure
from repro.report.index import coverage
from repro.report.table import Table, markdown_body, shown_blocks
from repro.report.templates import render

TITLE = "What the runs show"
BOARD, PHONES_BOARD = "board", "board_phone"
VERDICTS = ("claims", "paper_verdicts", "main_synthetic", "main_twitter2015", "main_twitter2017", "robustness")


def write_report(evidence: Evidence, tables: Sequence[Table], figures: Sequence[ReportFigure], out: Path) -> list[Path]:
    """Write report.md and report.html; the figures' files, drawn of the same evidence, are read from `out`."""
    paths = [out / "report.md", out / "report.html"]
    write_atomically(paths[0], as_markdown(evidence, tables, figures))
    write_atomically(paths[1], as_html(evidence, tables, figures, out))
    return paths


def _verdicts(tables: Sequence[Table]) -> list[tuple[Table, list[str]]]:
    """The tables that verdicts are read off, and their sentences."""
    named = {table.name: table for table in tables}
    return [(named[name], list(named[name].findings)) for name in VERDICTS if name in named]


def _introduction(evidence: Evidence) -> str:
    return (
        f"Generated from the records of {evidence.runs} runs, their evaluations, the measurements, the dev trials "
        "and the published figures in `repro/evidence/reported.csv`; "
        "`python -m repro report` makes it again. A figure here is one of this reading of CLAMP; only the profile "
        "`paper` is ever set against the paper's own."
    )


def _board_first(figures: Sequence[ReportFigure]) -> tuple[list[ReportFigure], list[ReportFigure]]:
    """The board, and the figures that are shown below it."""
    return [f for f in figures if f.name == BOARD], [f for f in figures if f.name not in (BOARD, PHONES_BOARD)]


def as_markdown(evidence: Evidence, tables: Sequence[Table], figures: Sequence[ReportFigure]) -> str:
    """The board, verdicts, contents, tables, figures."""
    first, rest = _board_first(figures)
    parts = [f"# {TITLE}", *(f"![{figure.caption}]({figure.name}.png)" for figure in first)]
    parts += [_introduction(evidence), "## Verdicts"]
    for table, sentences in _verdicts(tables):
        parts += [f"**[{table.title}](#{table.name})**", "\n".join(f"- {sentence}" for sentence in sentences)]
    parts += ["## What was run", coverage(evidence).to_markdown(index=False, disable_numparse=True), "## Contents"]
    listed = [(table.name, table.title) for table in tables] + [(f"figure_{f.name}", f.caption) for f in rest]
    parts.append("\n".join(f"- [{title}](#{name})" for name, title in listed))
    for table in tables:
        parts += [f'<a id="{table.name}"></a>', f"## {table.title}", markdown_body(table, "###")]
    for figure in rest:
        parts += [f'<a id="figure_{figure.name}"></a>', f"## Figure: {figure.name.replace('_', ' ')}"]
        parts += [f"![{figure.caption}]({figure.name}.png)", f"{figure.caption}.", *figure.sentences(evidence)]
    return "\n\n".join(parts) + "\n"


def as_html(evidence: Evidence, tables: Sequence[Table], figures: Sequence[ReportFigure], out: Path) -> str:
    """One file that needs no other and no network."""
    shown = [
        (table, [(block, _cells(frame), notes) for block, frame, notes in shown_blocks(table)]) for table in tables
    ]
    images = [
        (figure, figure.sentences(evidence), base64.b64encode((out / f"{figure.name}.png").read_bytes()).decode())
        for figure in figures
        if figure.name != PHONES_BOARD  # which the page has as a table
    ]
    return render(
        "report.html.jinja",
        title=TITLE,
        introduction=_introduction(evidence),
        board=board_of(evidence),
        signs=SIGNS,
        verdicts=_verdicts(tables),
        coverage=_cells(coverage(evidence)),
        tables=shown,
        board_image=next((one for one in images if one[0].name == BOARD), None),
        figures=[one for one in images if one[0].name != BOARD],
        explorer=report_explorer(evidence),
    )


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    """The heading row, then the others."""
    return [list(frame.columns), *frame.to_numpy().tolist()]
