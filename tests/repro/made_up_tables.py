"""The tables of made-up records, by name, as frames and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from drawing import suffices_for
from made_up import evidence_of

from repro.records.files import write_atomically
from repro.report.index import index
from repro.report.table import Table, write_table
from repro.report.tables.contents import make_tables


def tables(records: list[dict[str, Any]]) -> dict[str, Table]:
    return {table.name: table for table in make_tables(evidence_of(records))}


def frames(records: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    return {name: table.frame for name, table in tables(records).items()}


def index_of(records: list[dict[str, Any]]) -> str:
    evidence = evidence_of(records)
    return index(evidence, make_tables(evidence), suffices_for(evidence))


def write_tables(records: list[dict[str, Any]], out: Path) -> list[Path]:
    write_atomically(out / "README.md", index_of(records))
    made = make_tables(evidence_of(records))
    return [out / "README.md", *(path for table in made for path in write_table(table, out))]
