"""`python -m repro report`: tables, figures and the report again, from the published records."""

from __future__ import annotations

import argparse
from pathlib import Path

OUT = Path("paper_tables")
_DESCRIPTION = "Write tables and figures again from published records, byte for byte the same. Trains nothing."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser("report", help=_DESCRIPTION, description=_DESCRIPTION)
    add_out(command)
    command.set_defaults(run=run)


def add_out(command: argparse.ArgumentParser) -> None:
    """Add the option that says where tables, figures and records lie."""
    command.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="DIR",
        help="tables and figures, and under results/ the records that they are made from (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    write(options.out)
    return 0


def write(out: Path) -> None:
    """Write everything that the records under `out` show, and say in one line what was written."""
    from repro.report.write import regenerate  # brings pandas and matplotlib, which nothing else needs

    print(regenerate(out))
