"""Training what is missing of some runs, on this machine or a cluster, and publishing what is finished."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from clamp.config import ConfigError
from clamp.data import load_splits
from clamp.system.command_line import Terminated, gpu_share, positive
from repro.commands.selection import for_gpu
from repro.run import estimate, provenance, ray_engine, source_hash, store
from repro.run.local_engine import Failure, Setting, launch
from repro.run.published import is_published, publish
from repro.run.store import Job


def add_running(command: argparse.ArgumentParser) -> None:
    """Add the options that `train_and_publish` reads, beside those of the selection and --out."""
    command.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="runs trained at the same time (default: cores / threads of a run; 1 where there is a GPU; "
        "with --engine ray: as many as the cluster has room for)",
    )
    command.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="where runs are trained: on this machine, or on the Ray cluster that it belongs to, whose nodes all need "
        'pip install "clamp-repro[ray]" and --data at the same path; a run whose node dies starts again '
        "(default: %(default)s)",
    )
    command.add_argument(
        "--address", metavar="ADDRESS", help="the Ray cluster: HOST:PORT of its head, or auto (default: auto)"
    )
    command.add_argument(
        "--gpus-per-run",
        type=gpu_share,
        metavar="SHARE",
        help="the share of a GPU of the Ray cluster that each run gets, above 0 and at most 1, as 0.25 for four runs a "
        "GPU (default: none, CPUs only)",
    )
    command.add_argument(
        "--refresh",
        action="store_true",
        help="also train again what was trained by other sources of clamp/ and kernels/ than today's",
    )
    command.add_argument(
        "--missing",
        action="store_true",
        help="train only what the records in --out lack: a run is not trained again, and leaves no checkpoint here, "
        "where they hold it with the same settings, data and sources",
    )


def check_engine(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    if options.engine == "local" and (options.address or options.gpus_per_run):
        raise ConfigError("--address and --gpus-per-run go with --engine ray")


def train_and_publish(jobs: Sequence[Job], options: argparse.Namespace) -> list[Failure]:
    """Train and evaluate what is missing, publish all that is finished, and return the runs that failed."""
    waiting, unevaluated = _outstanding(jobs, options)
    _check_data(waiting, options.data)
    if waiting and options.engine == "local":  # of other machines nothing is known
        processes = options.processes or default_processes(waiting)
        for line in estimate.lines(waiting, options.data, options.out / "results", processes):
            print(line, file=sys.stderr)
    if unevaluated:
        print(f"{len(unevaluated)} of them are to be evaluated, without training", file=sys.stderr)
    failures = []
    if waiting := waiting + unevaluated:
        invocation = provenance.Invocation.start(["python", "-m", "repro", *options.arguments])
        try:
            failures = _launch(waiting, options, Setting(invocation, options.data, options.train, options.evaluate))
        except (KeyboardInterrupt, Terminated):
            print(f"\n{_where_it_stands(jobs)}", file=sys.stderr)
            raise
    for job in jobs:
        publish(job, options.out / "results")
    return failures


def report_failures(failures: Sequence[Failure], jobs: Sequence[Job]) -> int:
    """Say which runs failed, and return the exit code."""
    if not failures:
        return 0
    names = ", ".join(failure.job.run.name for failure in failures)
    first = failures[0].job.error
    print(f"error: {len(failures)} of {len(jobs)} runs failed: {names}; why: {first}", file=sys.stderr)
    return 1


def _outstanding(jobs: Sequence[Job], options: argparse.Namespace) -> tuple[list[Job], list[Job]]:
    """The runs to train, and the finished ones to evaluate; says how it stands."""
    evaluation_hash = source_hash.source_hash(options.evaluate.partition(":")[0], for_gpu(options))
    settled = ("done",) if options.refresh else ("done", "stale")
    waiting, unevaluated, stale, held = [], [], 0, 0
    for job in jobs:
        state, problem = store.state(job)
        stale += state == "stale"
        if state != "done" and options.missing and is_published(job, options.out / "results", evaluation_hash):
            held += 1
        elif state not in settled:
            waiting.append(job)
        elif state == "done" and store.needs_evaluation(job, evaluation_hash, options.data):
            unevaluated.append(job)
        if problem:
            print(f"warning: {problem}; it is trained again", file=sys.stderr)
    print(f"{options.profile}: {len(jobs)} runs, {len(jobs) - len(waiting)} already done", file=sys.stderr)
    if held:
        print(f"{held} of them are done in the records alone, and are not trained here", file=sys.stderr)
    if stale and not options.refresh:
        print(f"{stale} runs were made by other sources and are shown so; --refresh replaces them", file=sys.stderr)
    return waiting, unevaluated


def _launch(jobs: Sequence[Job], options: argparse.Namespace, setting: Setting) -> list[Failure]:
    if options.engine == "ray":
        cluster = ray_engine.Cluster(options.address or "auto", options.gpus_per_run or 0.0)
        return ray_engine.launch(jobs, options.processes or len(jobs), setting, cluster)
    return launch(jobs, min(options.processes or default_processes(jobs), len(jobs)), setting)


def _where_it_stands(jobs: Sequence[Job]) -> str:
    """Of a command that was stopped: what is done, and what goes on next time."""
    states = [store.state(job)[0] for job in jobs]
    done = sum(state in ("done", "stale") for state in states)
    begun = sum(state not in ("done", "stale") and job.folder.is_dir() for job, state in zip(jobs, states, strict=True))
    return f"{done} of {len(jobs)} runs are done; {begun} were begun and go on from their last epoch"


def _check_data(jobs: Sequence[Job], root: Path | None) -> None:
    """Read every real data set once: a broken record is found before anything is trained."""
    for data in {job.run.config.data: None for job in jobs}:
        if data.name != "synthetic":
            load_splits(data, root)


def default_processes(jobs: Sequence[Job]) -> int:
    """How many runs are trained at a time on this machine, where nobody says."""
    if provenance.gpu_driver():
        return 1
    return max(1, provenance.cores() // max(job.run.config.train.threads for job in jobs))
