"""The tables of the paper, as pure functions of the records and of the published figures in reported.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from repro.ablations import ablations
from repro.cells import DATASET_TITLES, PLACES, Block, Record, blocks
from repro.experiments import PROFILES, VARIANTS
from repro.figures import planned_figures
from repro.footer import Marks
from repro.kernel_report import index_lines
from repro.main_results import main_results
from repro.pointing import pointing
from repro.render import NOT_RUN, Table, write_table
from repro.stats import RESAMPLES
from repro.store import write_atomically

_REPORTED = Path(__file__).with_name("reported.csv")


def write_tables(records: Sequence[Record], out: Path, source_hash: str, resamples: int = RESAMPLES) -> list[Path]:
    """Write every table and their index into `out`; the same records give the same bytes.

    `source_hash` is that of the sources at hand: rows of records that carry another one are marked.
    """
    marks = Marks(source_hash)
    grouped = blocks(records)
    reported = pd.read_csv(_REPORTED, dtype=str, keep_default_na=False)
    tables = [main_results(dataset, grouped, reported, marks, resamples) for dataset in DATASET_TITLES]
    if grouped.get(("synthetic", "synthetic")):
        tables.append(pointing(grouped["synthetic", "synthetic"], marks))
    tables += [ablations(*place, grouped.get(place, {}), marks, resamples) for place in PLACES]
    paths = [path for table in tables for path in write_table(table, out)]
    index = out / "README.md"
    operators = index_lines(out / "results" / "kernels")
    write_atomically(index, _index(tables, grouped, records, operators))
    return [index, *paths]


def _index(
    tables: Sequence[Table],
    grouped: dict[tuple[str, str], Block],
    records: Sequence[Record],
    operators: Sequence[str],
) -> str:
    """The folder's README: what to read first, every table and figure, and how far each profile was run."""
    by_runs = sorted(DATASET_TITLES, key=lambda dataset: not any(place == dataset for _, place in grouped))
    first = [f"[main_{dataset}.md](main_{dataset}.md)" for dataset in by_runs]
    coverage = pd.DataFrame(
        [
            {
                "profile": profile,
                "data set": DATASET_TITLES[dataset],
                "variants run": f"{len(grouped.get((profile, dataset), {}))} of {len(VARIANTS)}",
                "runs": str(sum(cell.n for cell in grouped.get((profile, dataset), {}).values()) or NOT_RUN),
                "what it is": PROFILES[profile].summary,
            }
            for profile, dataset in PLACES
        ]
    )
    listed = [f"- [{t.name}.md]({t.name}.md) ([tex]({t.name}.tex), [csv]({t.name}.csv)): {t.title}" for t in tables]
    drawn = [
        f"- [{name}.png]({name}.png) ([pdf]({name}.pdf)): {what}" for name, what in planned_figures(records).items()
    ]
    return (
        "\n\n".join(
            [
                "# Tables and figures",
                f"Generated from the {len(records)} records under `results/` and from the published figures in "
                "`repro/reported.csv`; `python -m repro report` makes them again.",
                f"Read {first[0]} first, then {first[1]} and {first[2]}; the ablations say what each part is worth.",
                "\n".join(f"- {table.title}. {' '.join(table.findings)}" for table in tables[: len(DATASET_TITLES)]),
                "## Profiles",
                coverage.to_markdown(index=False, disable_numparse=True),
                "## Tables",
                "\n".join(listed),
                "## Figures",
                "\n".join(drawn) or "None yet: no run is finished.",
                "A dagger in a panel's title: it holds runs that were made by other sources than today's.",
                "## Operators",
                "\n".join(operators),
            ]
        )
        + "\n"
    )
