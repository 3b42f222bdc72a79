"""All tables, figures and the report, from the committed records alone and byte for byte the same again."""

from __future__ import annotations

from pathlib import Path

from repro.evidence.evidence import gather
from repro.report.figures import efficiency as cost_figures
from repro.report.figures import registry as mechanism_figures
from repro.report.figures.training import planned_figures, write_figures
from repro.report.index import index
from repro.report.page import pictures, write_report
from repro.report.table import write_table
from repro.report.tables.costs import efficiency as cost_report
from repro.report.tables.costs import kernels
from repro.report.tables.registry import make_tables
from repro.run import source_hash, store


def regenerate(out: Path) -> str:
    """Write what `out`/results/ holds as tables, figures, report and README.md in `out`; returns what was done."""
    results = out / "results"
    records = store.published(results)
    todays_hashes = source_hash.todays_hashes()
    evidence = gather(records, store.published_evaluations(results), todays_hashes)
    cost_reports = cost_report.read_reports(results / "efficiency")
    costs = cost_figures.costs(cost_reports, records)
    operators = kernels.table(kernels.read_reports(results / "kernels"))
    tables = [*make_tables(evidence), cost_report.table(cost_reports)]

    paths = [path for table in tables for path in write_table(table, out)]
    paths += write_figures(records, out, todays_hashes) + kernels.write_kernel_report(results / "kernels", out)
    paths += mechanism_figures.write_figures(evidence, out) + cost_figures.write_figures(costs, out)
    drawn = {path.stem for path in paths if path.suffix == ".png"}  # `out` can hold older pictures, of other records

    captions = {name: caption for name, caption in planned_figures(records).items() if name in drawn}
    listed = captions | mechanism_figures.captions(evidence) | cost_figures.captions(costs)
    first = out / "README.md"
    lines = kernels.index_lines(results / "kernels", drawn)
    store.write_atomically(first, index(evidence, tables, listed, lines, len(records)))

    shown = pictures(evidence, captions | kernels.captions(drawn), operators)
    shown += mechanism_figures.pictures(evidence) + cost_figures.pictures(costs)
    paths += write_report(evidence, [*tables, operators], shown, out)
    return f"{1 + len(paths)} files of tables and figures, of {len(records)} runs; read {first} first"
