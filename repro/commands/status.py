"""`python -m repro status`: where every run stands."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from repro.commands.selection import add_selection, selected_jobs
from repro.run import store

_DESCRIPTION = "Say where every run stands: done, stale (made by other sources), failed, running or missing."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser("status", help=_DESCRIPTION, description=_DESCRIPTION)
    add_selection(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    rows = []
    for job in selected_jobs(options):
        state, problem = store.state(job)
        rows.append((job.run.experiment, job.run.variant, job.run.seed, state))
        if problem:
            print(f"warning: {problem}", file=sys.stderr)
    print(f"{'experiment':12} {'variant':24} {'seed':>4}  state")
    for experiment, variant, seed, state in rows:
        print(f"{experiment:12} {variant:24} {seed:>4}  {state}")
    counts = Counter(row[-1] for row in rows)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 0
