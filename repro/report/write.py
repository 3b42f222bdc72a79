"""All tables, figures and the report, from the committed records alone and byte for byte the same again."""

from __future__ import annotations

from pathlib import Path

from repro.evidence.evidence import Evidence, gather
from repro.evidence.measurements import read_efficiency, read_operators
from repro.evidence.trials import trials_of
from repro.plan.chosen import read_choices
from repro.report.figures.contents import FIGURES
from repro.report.figures.figure import remove_figure, write_figure
from repro.report.index import write_index
from repro.report.page import write_report
from repro.report.table import write_table
from repro.report.tables.contents import make_tables
from repro.run import source_hash
from repro.run.published import published, published_trials


def regenerate(out: Path) -> str:
    """Write what `out`/results/ holds as tables, figures, report and README.md in `out`; returns what was done.

    A figure for which there is no evidence any more is taken away.
    """
    evidence = read_evidence(out / "results")
    tables = make_tables(evidence)
    figures = [figure for figure in FIGURES if figure.suffices(evidence)]
    for figure in FIGURES:
        if figure not in figures:
            remove_figure(figure, out)
    first = write_index(evidence, tables, figures, out)
    paths = [first, *(path for table in tables for path in write_table(table, out))]
    paths += [path for figure in figures for path in write_figure(figure, evidence, out)]
    paths += write_report(evidence, tables, figures, out)
    return f"{len(paths)} files of tables and figures, of {evidence.runs} runs; read {first} first"


def read_evidence(results: Path) -> Evidence:
    """The published records and measurements. StoreError names a file that is neither."""
    runs, evaluations = published(results)
    return gather(
        runs,
        evaluations,
        source_hash.todays_hashes(),
        efficiency=read_efficiency(results / "efficiency"),
        operators=read_operators(results / "kernels"),
        trials=trials_of(published_trials(results), read_choices()),
    )
