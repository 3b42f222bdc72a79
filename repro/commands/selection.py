"""Which runs a command speaks of: the options that select them, and the jobs that are selected."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from clamp.config import ConfigError
from clamp.system.command_line import positive
from repro.plan.profiles import PROFILES, Run, plan
from repro.plan.variants import GROUPS, VARIANTS
from repro.run import provenance
from repro.run.store import Job


def add_selection(command: argparse.ArgumentParser) -> None:
    """Add the options that `selected_jobs` reads."""
    add_common(command)
    command.add_argument(
        "--dataset", nargs="+", default=[], metavar="NAME", help="only these data sets of the profile, as twitter2015"
    )
    command.add_argument(
        "--full",
        action="store_true",
        help="beside the default: the seeds that a verdict on every claim needs, settings of ours changed, the sweep, "
        "and tweets that need two looks",
    )
    command.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help="give every selected variant the seeds 0 to N-1 (default: the profile's, more for the main systems)",
    )


def add_common(command: argparse.ArgumentParser) -> None:
    """Add the options that every command has which speaks of runs."""
    profiles = "; ".join(f"{name}: {profile.summary}" for name, profile in PROFILES.items())
    command.add_argument("--profile", default="synthetic", metavar="NAME", help=f"{profiles} (default: %(default)s)")
    command.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"only these variants or groups of them. Groups: {', '.join(GROUPS)}. Variants: {', '.join(VARIANTS)}",
    )
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help='JSON of config fields to change in every run, nested or dotted: {"train.epochs": 3}. '
        "Such runs are runs of their own; give them an --out of their own too",
    )
    command.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("CLAMP_DATA") or None,
        metavar="DIR",
        help="the folder that holds twitter2015/ and twitter2017/ (default: the environment's CLAMP_DATA)",
    )
    command.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="a folder for each run (default: %(default)s)"
    )


def selected_jobs(options: argparse.Namespace) -> list[Job]:
    """The runs that the options select, each with what it depends on and its folder.

    Raises ConfigError for a name, a config file or a data folder that cannot be used.
    """
    runs = plan(
        options.profile,
        only=options.only,
        datasets=options.dataset,
        seeds=options.seeds,
        full=options.full,
        config_file=options.config,
    )
    return jobs_of(runs, options)


def jobs_of(runs: Sequence[Run], options: argparse.Namespace) -> list[Job]:
    """These runs with what they depend on and their folders; ConfigError for a data folder that cannot be used."""
    root = options.data
    for run in runs:
        if root is None and run.config.data.name != "synthetic":
            raise ConfigError(f"profile {run.profile} reads {run.config.data.name}: say where it is with --data DIR")
    return [Job(run, provenance.inputs_of(run.config, root, for_gpu(options)), options.runs) for run in runs]


def for_gpu(options: argparse.Namespace) -> bool | None:
    """Whether runs get a GPU; None: if this machine has one. A cluster's runs get what they ask for."""
    on_ray = getattr(options, "engine", "local") == "ray"
    return bool(options.gpus_per_run) if on_ray else None
