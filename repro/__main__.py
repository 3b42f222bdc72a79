"""The command line: `python -m repro run | status | report | explore | efficiency | fetch`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from clamp.command_line import Parser, exit_code, gpu_share, positive
from clamp.config import ConfigError
from clamp.data import load_splits
from repro import estimate, provenance, ray_engine, sources, store
from repro.experiments import PROFILES, plan
from repro.launch import EVALUATE, TRAIN, Failure, Setting, launch
from repro.store import Job, StoreError
from repro.variants import GROUPS, VARIANTS

_EXAMPLES = """\
examples:
  python -m repro run                                   the whole suite on generated data: no download, no GPU
  python -m repro run --only full text_only --seeds 1   two systems, one seed each
  python -m repro run --profile offline --data DIR      real tweets, small pretrained encoder, CPU
  python -m repro run --full                            every ablation with three seeds, and other settings
  python -m repro run --full --engine ray               the same over the Ray cluster that this machine belongs to
  python -m repro status                                which runs are done, and which are not
  python -m repro report                                the tables again, from the records in paper_tables/results/
  python -m repro explore --help                        a page that shows where a trained CLAMP looks in your tweets
  python -m repro fetch twitter2017 --images            the annotations and images of a data set, into data/
  python -m repro efficiency                            what the systems cost at the paper's size, on this machine

A run that was stopped, however it was stopped, goes on where it was when the same command is given again.
"""
_EXPLORE = """\
TWEETS is what `clamp predict` reads: .jsonl, .csv or .parquet, a tweet's words (or its text) and its image's file name:
  {"text": "So proud of Ada Lovelace today", "image": "ada.jpg"}
  {"words": ["So", "proud", "of", "Ada", "Lovelace", "today"], "image": "ada.jpg"}

Aspects and polarities on the page are predictions. It is one file that holds the images and needs no network: open it
in a browser, choose a tweet, point at an aspect.

example:
  python -m repro explore --model runs/synthetic-synthetic/full/seed0-KEY/model tweets.jsonl --images photos
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m repro",
        description="Train CLAMP, its ablations and its baselines, and write the tables and figures of the results.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, description in (
        ("run", "Train what is missing, then write tables and figures. Finished runs are never trained twice."),
        ("status", "Say where every run stands: done, stale (made by other sources), failed, running or missing."),
    ):
        command = commands.add_parser(name, help=description, description=description)
        _add_selection(command)
        if name == "run":
            _add_running(command)
    description = "Write tables and figures again from published records, byte for byte the same. Trains nothing."
    report = commands.add_parser("report", help=description, description=description)
    _add_explore(commands)
    description = "Measure what the systems cost at the paper's size on this machine, in about half an hour."
    efficiency = commands.add_parser("efficiency", help=description, description=description)
    efficiency.add_argument(
        "--device", choices=["cpu", "cuda"], help="only this one (default: the CPU, and the GPU where there is one)"
    )
    efficiency.add_argument("--quick", action="store_true", help="a rehearsal at a tiny size, in seconds: no result")
    description = "Bring a data set's annotations and images here, each checked. What is there already stays as it is."
    _add_fetching(commands.add_parser("fetch", help=description, description=description))
    for command in (commands.choices["run"], report, efficiency):
        command.add_argument(
            "--out",
            type=Path,
            default=Path("paper_tables"),
            metavar="DIR",
            help="tables and figures, and under results/ the records that they are made from (default: %(default)s)",
        )
    return parser


def _add_selection(command: argparse.ArgumentParser) -> None:
    profiles = "; ".join(f"{name}: {profile.summary}" for name, profile in PROFILES.items())
    command.add_argument("--profile", default="synthetic", metavar="NAME", help=f"{profiles} (default: %(default)s)")
    command.add_argument(
        "--dataset", nargs="+", default=[], metavar="NAME", help="only these data sets of the profile, as twitter2015"
    )
    command.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"only these variants or groups of them. Groups: {', '.join(GROUPS)}. Variants: {', '.join(VARIANTS)}",
    )
    command.add_argument(
        "--full",
        action="store_true",
        help="beside the default: every ablation and baseline with 3 seeds, settings of ours changed, and the sweep",
    )
    command.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help="give every selected variant the seeds 0 to N-1 (default: the profile's, more for the main systems)",
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


def _add_fetching(command: argparse.ArgumentParser) -> None:
    names = ("twitter2015", "twitter2017")
    command.add_argument("dataset", nargs="+", choices=names, metavar="|".join(names), help="one of them, or both")
    command.add_argument("--images", action="store_true", help="the images too, one by one from a public mirror")
    command.add_argument(
        "--archive",
        metavar="FILE_OR_URL",
        help="take the images from this zip or tar.gz, such as the authors' own, not from the mirror",
    )
    command.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("CLAMP_DATA") or Path("data"),
        metavar="DIR",
        help="where they go; what --data of `run` names (default: the environment's CLAMP_DATA, else data)",
    )


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
        "--refresh",
        action="store_true",
        help="also train again what was trained by other sources of clamp/ and kernels/ than today's",
    )


def _add_explore(commands: argparse._SubParsersAction) -> None:
    description = "Write one HTML page that shows which image regions a trained CLAMP looks at in your own tweets."
    command = commands.add_parser(
        "explore",
        help=description,
        description=description,
        epilog=_EXPLORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("tweets", type=Path, metavar="TWEETS", help="the file of tweets; 200 at most")
    command.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="a trained CLAMP that reads images: a run's model/"
    )
    command.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="the folder that the tweets' images lie in"
    )
    command.add_argument(
        "--text-only", type=Path, metavar="DIR", help="a trained text only, to show its labels beside CLAMP's"
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("explorer.html"),
        metavar="FILE",
        help="the page to write (default: %(default)s)",
    )


def main(argv: Sequence[str] | None = None, train: str = TRAIN, evaluate: str = EVALUATE) -> int:
    """Run a command and return its exit code: 0 done, 1 a run failed, 2 unusable input, 130 interrupted.

    `train` and `evaluate` are the functions that do it, as "module:function".
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _command(options, arguments, train, evaluate), StoreError)


def _command(options: argparse.Namespace, arguments: Sequence[str], train: str, evaluate: str) -> int:
    if options.command == "status":
        return _status(options)
    if options.command == "run":
        return _run(options, arguments, train, evaluate)
    if options.command == "efficiency":
        return _efficiency(options, arguments)
    if options.command == "explore":
        return _explore(options)
    if options.command == "fetch":
        from repro.fetch import command  # imports what nothing else here needs

        return command.run(options.dataset, options.data, with_images=options.images, from_archive=options.archive)
    return _report(options.out)


def _jobs(options: argparse.Namespace) -> list[Job]:
    runs = plan(
        options.profile,
        only=options.only,
        datasets=options.dataset,
        seeds=options.seeds,
        full=options.full,
        config_file=options.config,
    )
    root = options.data
    for run in runs:
        if root is None and run.config.data.name != "synthetic":
            raise ConfigError(f"profile {run.profile} reads {run.config.data.name}: say where it is with --data DIR")
    return [Job(run, provenance.inputs_of(run.config, root, _gpu(options)), options.runs) for run in runs]


def _gpu(options: argparse.Namespace) -> bool | None:
    """Whether runs get a GPU; None: if this machine has one. A cluster's runs get what they ask for."""
    on_ray = options.command == "run" and options.engine == "ray"
    return bool(options.gpus_per_run) if on_ray else None


def _status(options: argparse.Namespace) -> int:
    rows = []
    for job in _jobs(options):
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


def _run(options: argparse.Namespace, arguments: Sequence[str], train: str, evaluate: str) -> int:
    if options.engine == "local" and (options.address or options.gpus_per_run):
        raise ConfigError("--address and --gpus-per-run go with --engine ray")
    jobs = _jobs(options)
    evaluation_hash = sources.source_hash(evaluate.partition(":")[0], _gpu(options))
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
        invocation = provenance.Invocation.start(["python", "-m", "repro", *arguments])
        failures = _launch(waiting, options, Setting(invocation, options.data, train, evaluate))
    for job in jobs:
        store.publish(job, options.out / "results")
    _report(options.out)
    if failures:
        names = ", ".join(failure.job.run.name for failure in failures)
        first = failures[0].job.error
        print(f"error: {len(failures)} of {len(jobs)} runs failed: {names}; why: {first}", file=sys.stderr)
    return 1 if failures else 0


def _launch(jobs: Sequence[Job], options: argparse.Namespace, setting: Setting) -> list[Failure]:
    if options.engine == "ray":
        cluster = ray_engine.Cluster(options.address or "auto", options.gpus_per_run or 0.0)
        return ray_engine.launch(jobs, options.processes or len(jobs), setting, cluster)
    return launch(jobs, min(options.processes or _default_processes(jobs), len(jobs)), setting)


def _check_data(jobs: Sequence[Job], root: Path | None) -> None:
    """Read every real data set once: a broken record is found before anything is trained."""
    for data in {job.run.config.data: None for job in jobs}:
        if data.name != "synthetic":
            load_splits(data, root)


def _default_processes(jobs: Sequence[Job]) -> int:
    if provenance.gpu_driver():
        return 1
    return max(1, provenance.cores() // max(job.run.config.train.threads for job in jobs))


def _efficiency(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from repro.efficiency import measure  # seconds of imports

    devices = measure.devices()
    if options.device is not None and options.device not in devices:
        raise ConfigError(f"--device {options.device}: there is none here")
    code = measure.run(options.out, [options.device] if options.device else devices, options.quick, arguments)
    _report(options.out)
    return code


def _explore(options: argparse.Namespace) -> int:
    from repro.explore import own_page  # seconds of imports

    page = own_page(options.model, options.tweets, options.images, options.text_only)
    store.write_atomically(options.out, page)
    print(f"{options.out}: open it in a browser, choose a tweet and point at an aspect")
    return 0


def _report(out: Path) -> int:
    from repro.regenerate import regenerate  # brings pandas and matplotlib, which nothing else needs

    print(regenerate(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
