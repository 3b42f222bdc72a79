"""The README of the folder of tables and figures: what to read first, what there is, how far each profile was run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from repro.evidence.cells import DATASET_TITLES, PLACES, Place
from repro.evidence.evidence import Evidence
from repro.plan.profiles import PROFILES
from repro.plan.variants import VARIANTS, means_something
from repro.records.files import write_atomically
from repro.report.figures.figure import ReportFigure
from repro.report.table import Table
from repro.report.wording import NOT_RUN


def coverage(evidence: Evidence) -> pd.DataFrame:
    """How many variants and runs there are of each profile and data set."""

    def row(place: Place) -> dict[str, str]:
        block = evidence.everything(place)
        possible = sum(means_something(variant, *place) for variant in VARIANTS)
        return {
            "profile": place[0],
            "data set": DATASET_TITLES[place[1]],
            "variants run": f"{len(block)} of {possible}",
            "runs": str(sum(cell.n for cell in block.values()) or NOT_RUN),
            "of them evaluated": str(sum(len(cell.evaluations) for cell in block.values()) or NOT_RUN),
            "what it is": PROFILES[place[0]].summary,
        }

    return pd.DataFrame([row(place) for place in PLACES])


def write_index(evidence: Evidence, tables: Sequence[Table], figures: Sequence[ReportFigure], out: Path) -> Path:
    """Write README.md in `out`, of these tables and figures."""
    path = out / "README.md"
    write_atomically(path, index(evidence, tables, figures))
    return path


def index(evidence: Evidence, tables: Sequence[Table], figures: Sequence[ReportFigure]) -> str:
    """Markdown; it links what is kept in git, and names what the command writes beside it."""
    main = {dataset: f"[main_{dataset}.md](main_{dataset}.md)" for dataset in DATASET_TITLES}
    ran = {dataset for _, dataset in evidence.grouped}
    first = [main[dataset] for dataset in sorted(main, key=lambda dataset: dataset not in ran)]
    named = {table.name: table for table in tables}
    listed = [f"- [{t.name}.md]({t.name}.md) ([csv]({t.name}.csv)): {t.title}" for t in tables]
    drawn = [f"- [{figure.name}.png]({figure.name}.png): {figure.caption}" for figure in figures]
    board = [f"[![{figure.caption}]({figure.name}.png)](claims.md)" for figure in figures if figure.name == "board"]
    parts = [
        "# Tables and figures",
        *board,
        f"Generated from the records of {evidence.runs} runs under `results/`, their evaluations and the measurements "
        "beside them, from the dev trials and from the published figures in "
        "`repro/evidence/reported.csv`; `python -m repro report` makes them again, in half a minute.",
        "The command also writes beside them what is not kept in git: every table as `.tex`, every figure as `.pdf`, "
        "and `report.md` and `report.html` (one file, to print or to read on a phone), which have all of it in one "
        "place, the board first.",
        f"Read {first[0]} first, then {first[1]} and {first[2]}; the ablations say what each part is worth.",
        "\n".join(f"- {named[f'main_{d}'].title}. {' '.join(named[f'main_{d}'].findings)}" for d in DATASET_TITLES),
        "## Profiles",
        coverage(evidence).to_markdown(index=False, disable_numparse=True),
        "## Tables",
        "\n".join(listed),
        "## Figures",
        "\n".join(drawn) or "None yet: no run is finished.",
        "A dagger in a panel's title: it holds runs that were made by other sources than today's.",
    ]
    return "\n\n".join(parts) + "\n"
