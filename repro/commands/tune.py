"""`python -m repro tune`: the dev trials of every system, and the settings that they choose for main runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from clamp.system.command_line import positive
from repro.commands import report
from repro.commands.selection import add_common, jobs_of
from repro.commands.training import add_running, check_engine, default_processes, report_failures, train_and_publish
from repro.plan import chosen
from repro.plan.chosen import Choice
from repro.plan.profiles import Inputs, Run
from repro.plan.trials import choose, plan_trials
from repro.records.run import RunRecord
from repro.run import estimate, provenance
from repro.run.published import published_trials
from repro.run.stand_in import WORDS, stand_in
from repro.run.store import Job

_DESCRIPTION = (
    "Try every system with as many settings as any other, and take for its main runs what is best on dev. "
    "Ablations take what CLAMP takes. Finished trials are never trained twice."
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser("tune", help=_DESCRIPTION, description=_DESCRIPTION)
    add_common(command)
    command.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        help="at most N runs, spent equally: the first settings of every system, as many for each (default: all)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="only say which trials there are and what they cost; reads no data"
    )
    add_running(command)
    report.add_out(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code: 0 done, 1 a run failed."""
    check_engine(options)
    trials = plan_trials(options.profile, only=options.only, budget=options.budget, config_file=options.config)
    if options.dry_run:
        _say_plan(trials, options)
        return 0
    jobs = jobs_of(trials, options)
    failures = train_and_publish(jobs, options)
    choices = _choices(jobs, published_trials(options.out / "results"))
    chosen.write_choices(choices)
    for choice in choices:
        changes = ", ".join(f"{name} {value}" for name, value in choice.changes.items()) or "as the profile sets it"
        print(f"{choice.dataset} {choice.variant}: {changes} (dev F1 {100 * choice.dev_f1:.1f})", file=sys.stderr)
    report.write(options.out)
    return report_failures(failures, jobs)


def _say_plan(trials: Sequence[Run], options: argparse.Namespace) -> None:
    systems = dict.fromkeys(run.variant for run in trials)
    each = len(trials) // len(systems)
    print(f"{options.profile}: {len(trials)} trials, {each} of each of {len(systems)} systems: {', '.join(systems)}")
    places = dict.fromkeys((run.experiment, run.variant, run.trial) for run in trials)
    first = {(run.experiment, run.variant, run.trial): run for run in reversed(trials)}
    for place in sorted(places, key=lambda place: (place[0], list(systems).index(place[1]))):
        train = first[place].config.train
        print(
            f"{place[0]} {place[1]} point {(place[2] or 0) + 1}: "
            f"rates {train.lr_encoder:g} and {train.lr_head:g}, {train.epochs} epochs"
        )
    counted = [_countable(run, options.data is None) for run in trials]
    if counted != list(trials):
        print(f"estimate {WORDS}")
    jobs = [Job(run, Inputs({}, None, ""), options.runs) for run in counted]  # an estimate needs the config alone
    processes = options.processes or default_processes(jobs)
    for line in estimate.lines(jobs, options.data, options.out / "results", processes):
        print(line)
    if provenance.gpu_driver() is None and counted != list(trials):
        print(*estimate.lines(jobs, options.data, options.out / "results", 1, gpu=True), sep="\n")


def _countable(run: Run, without_data: bool) -> Run:
    """A run that needs images and has none, as one of the same cost that needs nothing."""
    stands_in = without_data and run.config.data.name != "synthetic" and run.config.model.vision.kind == "transformer"
    return dataclasses.replace(run, config=stand_in(run.config)) if stands_in else run


def _choices(jobs: Sequence[Job], published: Sequence[RunRecord]) -> list[Choice]:
    """What each system's trials choose, of the systems of which every trial is finished."""
    dev_f1 = {
        (r.profile, r.experiment, r.variant, r.trial, r.seed, _settings(r.config)): r.f1("dev") for r in published
    }
    found: dict[tuple[str, str, str], dict[int, list[float | None]]] = {}
    for run in (job.run for job in jobs):
        place, point = (run.profile, run.experiment, run.variant), run.trial or 0
        score = dev_f1.get((*place, run.trial, run.seed, _settings(run.config_dict())))
        found.setdefault(place, {}).setdefault(point, []).append(score)
    choices = []
    for place, points in found.items():
        scores = {point: [one for one in of_seeds if one is not None] for point, of_seeds in points.items()}
        if all(len(scores[point]) == len(points[point]) for point in points):
            choices.append(choose(*place, scores))
    return choices


def _settings(config: dict[str, object]) -> str:
    """A config as text: a published trial of another grid, or of other data, chooses nothing today."""
    return json.dumps(config, sort_keys=True)
