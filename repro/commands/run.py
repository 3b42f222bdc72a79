"""`python -m repro run`: train what is missing, evaluate it, and write tables and figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from clamp.config import ConfigError
from clamp.data import load_splits
from clamp.system.command_line import Terminated, gpu_share, positive
from repro.commands import report
from repro.commands.selection import add_selection, for_gpu, selected_jobs
from repro.records.files import write_atomically
from repro.run import estimate, provenance, ray_engine, source_hash, store
from repro.run.local_engine import Failure, Setting, launch
from repro.run.published import publish
from repro.run.store import Job

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
    _add_running(command)
    report.add_out(command)
    command.set_defaults(run=run)


def _add_running(command: argparse.ArgumentParser) -> None:
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
        "--quick",
        action="store_true",
        help="a rehearsal of the whole path: the main systems, one seed, few tweets; in rehearsal/, marked so",
    )
    command.add_argument(
        "--refresh",
        action="store_true",
        help="also train again what was trained by other sources of clamp/ and kernels/ than today's",
    )


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code: 0 done, 1 a run failed."""
    if options.engine == "local" and (options.address or options.gpus_per_run):
        raise ConfigError("--address and --gpus-per-run go with --engine ray")
    if options.quick:
        _rehearse(options)
    jobs = selected_jobs(options)
    evaluation_hash = source_hash.source_hash(options.evaluate.partition(":")[0], for_gpu(options))
    settled = ("done",) if options.refresh else ("done", "stale")
    waiting, unevaluated, stale = [], [], 0
    for job in jobs:
        state, problem = store.state(job)
        stale += state == "stale"
        if state not in settled:
            waiting.append(job)
        elif state == "done" and store.needs_evaluation(job, evaluation_hash, options.data):
            unevaluated.append(job)
        if problem:
            print(f"warning: {problem}; it is trained again", file=sys.stderr)
    _check_data(waiting, options.data)
    print(f"{options.profile}: {len(jobs)} runs, {len(jobs) - len(waiting)} already done", file=sys.stderr)
    if stale and not options.refresh:
        print(f"{stale} runs were made by other sources and are shown so; --refresh replaces them", file=sys.stderr)
    failures = []
    if waiting and options.engine == "local":  # of other machines nothing is known
        processes = options.processes or _default_processes(waiting)
        for line in estimate.lines(waiting, options.data, options.out / "results", processes):
            print(line, file=sys.stderr)
    if unevaluated:
        print(f"{len(unevaluated)} of them are to be evaluated, without training", file=sys.stderr)
    waiting += unevaluated
    if waiting:
        invocation = provenance.Invocation.start(["python", "-m", "repro", *options.arguments])
        try:
            failures = _launch(waiting, options, Setting(invocation, options.data, options.train, options.evaluate))
        except (KeyboardInterrupt, Terminated):
            print(f"\n{_where_it_stands(jobs)}", file=sys.stderr)
            raise
    for job in jobs:
        publish(job, options.out / "results")
    report.write(options.out)
    if options.quick:
        _mark(options.out)
    if failures:
        names = ", ".join(failure.job.run.name for failure in failures)
        first = failures[0].job.error
        print(f"error: {len(failures)} of {len(jobs)} runs failed: {names}; why: {first}", file=sys.stderr)
    return 1 if failures else 0


def _rehearse(options: argparse.Namespace) -> None:
    """Set the options for few tweets and one seed of the main systems, apart from everything that counts."""
    if options.config or options.full or options.profile != "synthetic":
        raise ConfigError("--quick rehearses the default profile: it takes neither --config, --full nor --profile")
    options.only, options.seeds = options.only or ["main"], options.seeds or 1
    options.out, options.runs = _REHEARSAL, _REHEARSAL / "runs"
    options.config = _REHEARSAL / "settings.json"
    write_atomically(options.config, json.dumps(_FEW, indent=1) + "\n")


def _mark(out: Path) -> None:
    """Say in every table and page of a rehearsal that it is one."""
    for file in [*out.glob("*.md"), *out.glob("*.html")]:
        text = file.read_text(encoding="utf-8")
        mark = f"<p><strong>{_MARK}</strong></p>\n" if file.suffix == ".html" else f"**{_MARK}**\n\n"
        start = text.index("<body>") + len("<body>\n") if file.suffix == ".html" and "<body>" in text else 0
        write_atomically(file, text[:start] + mark + text[start:])


def _launch(jobs: Sequence[Job], options: argparse.Namespace, setting: Setting) -> list[Failure]:
    if options.engine == "ray":
        cluster = ray_engine.Cluster(options.address or "auto", options.gpus_per_run or 0.0)
        return ray_engine.launch(jobs, options.processes or len(jobs), setting, cluster)
    return launch(jobs, min(options.processes or _default_processes(jobs), len(jobs)), setting)


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


def _default_processes(jobs: Sequence[Job]) -> int:
    if provenance.gpu_driver():
        return 1
    return max(1, provenance.cores() // max(job.run.config.train.threads for job in jobs))
