"""`python -m repro run`: train what is missing, evaluate it, and write tables and figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from clamp.config import ConfigError
from repro.commands import report
from repro.commands.selection import add_selection, selected_jobs
from repro.commands.training import add_running, check_engine, report_failures, train_and_publish
from repro.records.files import write_atomically

_REHEARSAL = Path("rehearsal")
_FEW = {
    "data.synthetic": {"train": 240, "dev": 40, "test": 60},
    "train.epochs": 2,
}
_MARK = "A rehearsal: few tweets, one seed, two epochs. Its numbers say nothing of the systems."
_DESCRIPTION = "Train what is missing, then write tables and figures. Finished runs are never trained twice."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser("run", help=_DESCRIPTION, description=_DESCRIPTION)
    add_selection(command)
    add_running(command)
    command.add_argument(
        "--quick",
        action="store_true",
        help="a rehearsal of the whole path: the main systems, one seed, few tweets; in rehearsal/, marked so",
    )
    report.add_out(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code: 0 done, 1 a run failed."""
    check_engine(options)
    if options.quick:
        _rehearse(options)
    jobs = selected_jobs(options)
    failures = train_and_publish(jobs, options)
    report.write(options.out)
    if options.quick:
        _mark(options.out)
    return report_failures(failures, jobs)


def _rehearse(options: argparse.Namespace) -> None:
    """Set the options for few tweets and one seed of the main systems, apart from everything that counts."""
    if options.config or options.full or options.profile != "synthetic":
        raise ConfigError("--quick rehearses the default profile: it takes neither --config, --full nor --profile")
    options.only, options.seeds = options.only or ["main"], options.seeds or 1
    if options.out == report.OUT:  # what counts is never written to; a folder of one's own is
        options.out = _REHEARSAL
    options.runs = options.out / "runs"
    options.config = options.out / "settings.json"
    write_atomically(options.config, json.dumps(_FEW, indent=1) + "\n")


def _mark(out: Path) -> None:
    """Say in every table and page of a rehearsal that it is one."""
    for file in [*out.glob("*.md"), *out.glob("*.html"), *out.glob("*.tex")]:
        text = file.read_text(encoding="utf-8")
        marks = {".md": f"**{_MARK}**\n\n", ".html": f"<p><strong>{_MARK}</strong></p>\n", ".tex": f"% {_MARK}\n"}
        start = text.index("<body>") + len("<body>\n") if file.suffix == ".html" and "<body>" in text else 0
        write_atomically(file, text[:start] + marks[file.suffix] + text[start:])
