"""Train runs in processes of their own, several at a time, and survive whatever happens to them.

Each run is a fork of a server that has imported the heavy modules and done nothing else: it starts at once, and
nothing of an earlier run can reach it. A run ends when the process that launched it does.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import importlib
import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from clamp.data import load_splits
from clamp.system.files import locked
from clamp.system.lifetimes import end_with_parent
from repro.records.evaluation import Evaluation, EvaluationRecord
from repro.records.files import StoreError, read_run, write_atomically, write_record
from repro.records.run import Result, RunRecord
from repro.run import provenance, source_hash, store
from repro.run.progress import Progress
from repro.run.store import Job

TRAIN = "clamp.training.train:train"
EVALUATE = "repro.evaluate.evaluation:evaluate"


@dataclass(frozen=True)
class Setting:
    """What every run of one launch shares. `train` and `evaluate` are functions as "module:function"."""

    invocation: provenance.Invocation
    data_root: Path | None
    train: str = TRAIN
    evaluate: str = EVALUATE


@dataclass(frozen=True)
class Failure:
    """A run that left no result, and why, in one line."""

    job: Job
    reason: str


# What a run tells the process that launched it.
@dataclass(frozen=True)
class _Epoch:
    epoch: int
    dev_f1: float


@dataclass(frozen=True)
class _Done:
    outcome: str


@dataclass(frozen=True)
class _Failed:
    reason: str
    store_failed: bool  # nothing can be written any more: the other runs would fail as well


@dataclass
class _Worker:
    job: Job
    process: BaseProcess
    ending: _Done | _Failed | None = None


def launch(jobs: Sequence[Job], processes: int, setting: Setting) -> list[Failure]:
    """Train every job, `processes` at a time; returns those that failed, each with an error.txt in its folder.

    Raises StoreError when results cannot be written. Whatever ends this function ends the runs that it started; they
    resume when launched again.
    """
    context = _fork_server(setting)
    waiting = list(reversed(jobs))
    active: dict[Connection, _Worker] = {}
    failures: list[Failure] = []
    progress = Progress(len(jobs), processes)
    try:
        while waiting or active:
            while waiting and len(active) < processes:
                connection, worker = _start(context, waiting.pop(), setting)
                active[connection] = worker
                progress.start(worker.job.run.name, worker.job.run.config.train.epochs)
            ready = wait(list(active))
            for connection in [connection for connection in active if connection in ready]:
                worker = active[connection]
                try:
                    message = connection.recv()
                except EOFError:
                    del active[connection]
                    connection.close()
                    failures += _ended(worker, progress)
                    continue
                if isinstance(message, _Epoch):
                    progress.epoch(worker.job.run.name, message.epoch, message.dev_f1)
                else:
                    worker.ending = message
    finally:
        for worker in active.values():
            worker.process.terminate()
        for worker in active.values():
            worker.process.join()
        progress.close()
    return failures


def _fork_server(setting: Setting) -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    functions = (setting.train, setting.evaluate)
    context.set_forkserver_preload([*(name.partition(":")[0] for name in functions), "repro.run.fork_server"])
    # Ctrl-C reaches every process of the terminal. Only this one may act on it: it ends the others. The resource
    # tracker comes first because its start would unblock the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _start(context: ForkServerContext, job: Job, setting: Setting) -> tuple[Connection, _Worker]:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train_one, args=(job, setting, sender))
    process.start()
    sender.close()  # the run holds the only other end: its end is the end of messages
    return receiver, _Worker(job, process)


def _ended(worker: _Worker, progress: Progress) -> list[Failure]:
    worker.process.join()
    job, ending = worker.job, worker.ending
    if isinstance(ending, _Done):
        progress.end(job.run.name, ending.outcome)
        return []
    if ending is None:
        ending = _Failed(_how_it_died(worker.process.exitcode), store_failed=False)
        with contextlib.suppress(StoreError):  # the failure is reported in any case
            write_atomically(job.error, ending.reason + "\n")
    progress.end(job.run.name, f"failed: {ending.reason}")
    if ending.store_failed:
        raise StoreError(ending.reason)
    return [Failure(job, ending.reason)]


def _how_it_died(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its process ended without a result (exit code {exitcode})"
    name = signal.Signals(-exitcode).name
    hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def _train_one(job: Job, setting: Setting, messages: Connection) -> None:
    """The whole life of a run's process."""
    end_with_parent()
    try:
        with locked(job.folder), _output_to(job.folder / "log.txt"):
            if not job.result.exists() or store.state(job)[0] != "done":  # another process may just have done it
                job.error.unlink(missing_ok=True)
                _train_and_store(job, setting, lambda epoch, _, dev_f1: messages.send(_Epoch(epoch, dev_f1)))
            if job.run.trial is not None:
                shutil.rmtree(job.model, ignore_errors=True)  # nobody reads it, and there are many
            evaluation_hash = source_hash.source_hash(setting.evaluate.partition(":")[0])
            if store.needs_evaluation(job, evaluation_hash, setting.data_root):
                _evaluate_and_store(job, setting)
            messages.send(_Done(outcome(read_run(job.result))))
    except Exception as error:
        disk_is_full = _disk_is_full(error)
        with contextlib.suppress(StoreError):
            write_atomically(job.error, traceback.format_exc())
        reason = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        if disk_is_full:
            reason = f"cannot write to {job.folder}: the disk is full; make room and give the same command again"
        messages.send(_Failed(" ".join(reason.split()), disk_is_full or isinstance(error, StoreError)))


def _disk_is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"(os error {errno.ENOSPC})" in str(error)  # all that safetensors tells


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """What libraries print goes to a file: it would tear the progress bars."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        faulthandler.enable()
        yield


def _train_and_store(job: Job, setting: Setting, on_epoch: Callable[[int, int, float], None]) -> None:
    import torch

    from clamp.training.checkpoint import CHECKPOINT

    run, config = job.run, job.run.config
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(config.train.threads)
    if source_hash.source_hash() != job.inputs.source_hash:
        # the record would name sources that did not make it
        raise RuntimeError(
            "clamp/ or kernels/ changed since this command began, or are others on this node; give it again"
        )
    train = _resolve(setting.train)
    started = datetime.now(UTC)
    splits = load_splits(config.data, setting.data_root)
    if splits.manifest != job.inputs.data:
        raise RuntimeError(f"the files of {config.data.name} changed since this command began; give it again")
    result = train(config, splits, job.folder, on_epoch, job.features)
    record = RunRecord(
        **_head(job),
        config=run.config_dict(),
        result=Result.model_validate(result),
        provenance=provenance.collect(setting.invocation, job.inputs, config.train.threads, started),
    )
    write_record(job.result, record)
    (job.folder / CHECKPOINT).unlink(missing_ok=True)  # three times the model's size, and of no more use


def _evaluate_and_store(job: Job, setting: Setting) -> None:
    import torch

    config = job.run.config
    torch.set_num_threads(config.train.threads)
    test = load_splits(config.data, setting.data_root).test
    found = _resolve(setting.evaluate)(config, job.model, test, setting.data_root, job.features)
    record = EvaluationRecord(
        **_head(job),
        evaluation_hash=source_hash.source_hash(setting.evaluate.partition(":")[0]),
        evaluation=Evaluation.model_validate(found),
    )
    write_record(job.evaluation, record)


def _head(job: Job) -> dict[str, Any]:
    """Which run a record is of, as the fields of `Head`."""
    run = job.run
    return {
        "profile": run.profile,
        "experiment": run.experiment,
        "variant": run.variant,
        "seed": run.seed,
        "key": job.key,
        "trial": run.trial,
    }


def _resolve(named: str) -> Callable[..., dict[str, Any]]:
    module, _, function = named.partition(":")
    resolved: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), function)
    return resolved


def outcome(record: RunRecord) -> str:
    """How a finished run ended, in a few words."""
    dev, test = (100 * record.f1(split) for split in ("dev", "test"))
    return f"dev F1 {dev:.1f}, test F1 {test:.1f}, {record.result.cost.train_seconds:.0f} s"
