"""The runs of a grid on the machines of a Ray cluster, their results in the store of the command that asked for them.

A run is one task. On its node it is launched as on any machine (`local_engine`), in a folder of the node's own, and its
folder then travels to the command, which alone writes to the store: nodes need not see the store, nor each other. The
command holds a run's lock from before the task starts until its result is stored, and takes the result of one task
only, so that a run ends exactly once, whatever became of tasks that were lost with their node.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from clamp.config import ConfigError
from clamp.data import DataError
from clamp.data.splits import data_manifest
from clamp.system.files import LOCK, locked
from clamp.system.ray_tasks import TaskFailure, Tasks
from repro.records.files import StoreError, read_run
from repro.run import local_engine as local
from repro.run import source_hash, store
from repro.run.local_engine import Failure, Setting, outcome
from repro.run.parcel import Parcel, pack, unpack
from repro.run.progress import Progress
from repro.run.store import Job

_POLL_SECONDS = 1.0  # to look again for a run that another command holds


@dataclass(frozen=True)
class Cluster:
    """Where to run, and what a run takes of it beside a CPU for each of its threads.

    address: "auto" for the cluster that this machine belongs to, or HOST:PORT of its head.
    gpus_per_run: 0, or the share of one GPU, up to 1.
    """

    address: str = "auto"
    gpus_per_run: float = 0.0


@dataclass(frozen=True)
class _Returned:
    """What a node sends back: the run's folder, and why the run failed, if it did."""

    parcel: Parcel
    reason: str | None


def launch(jobs: Sequence[Job], processes: int, setting: Setting, cluster: Cluster) -> list[Failure]:
    """`local_engine.launch` on a cluster: train every job, as many at a time as it has room for, at most `processes`.

    `setting.data_root`, where it is needed, is a path on every node. A run whose node dies starts again on another; one
    that fails by itself does not. Raises ConfigError where there is no Ray or no cluster, StoreError when results
    cannot be written here. Whatever ends this function ends the runs that it started.
    """
    progress = Progress(len(jobs), processes)
    with ExitStack() as stack:
        stack.callback(progress.close)
        tasks = Tasks(cluster.address, progress.say)
        stack.callback(tasks.close)
        tasks.room(max(job.run.config.train.threads for job in jobs), cluster.gpus_per_run)
        return _Grid(tasks, jobs, processes, setting, cluster.gpus_per_run, progress).work()


class _Grid:
    """The runs that wait, the locks of those that are the cluster's, and the runs that failed."""

    def __init__(
        self, tasks: Tasks, jobs: Sequence[Job], processes: int, setting: Setting, gpus: float, progress: Progress
    ) -> None:
        self._tasks, self._processes, self._gpus, self._progress = tasks, processes, gpus, progress
        root = setting.data_root
        self._setting = replace(setting, data_root=root and root.absolute())  # a node has a working folder of its own
        self._evaluation_hash = source_hash.source_hash(setting.evaluate.partition(":")[0], gpus > 0)
        self._waiting = deque(jobs)
        self._locks: dict[Path, ExitStack] = {}
        self._failures: list[Failure] = []

    def work(self) -> list[Failure]:
        try:
            while self._waiting or self._tasks:
                self._send()
                if self._tasks:
                    more_could_be_sent = self._waiting and len(self._tasks) < self._processes
                    for job, returned in self._tasks.ended(_POLL_SECONDS if more_could_be_sent else None):
                        with self._locks.pop(job.folder):
                            self._end(job, returned)
                elif self._waiting:  # all of them held by other commands
                    time.sleep(_POLL_SECONDS)
        finally:
            for lock in self._locks.values():
                lock.close()
        return self._failures

    def _send(self) -> None:
        """Send what there is room for; a run that another command holds is left for later."""
        for _ in range(len(self._waiting)):
            if len(self._tasks) == self._processes:
                return
            job, lock = self._waiting.popleft(), ExitStack()
            try:
                lock.enter_context(locked(job.folder, wait=False))
            except BlockingIOError:
                self._waiting.append(job)
                continue
            trained = store.state(job)[0] == "done"
            if trained and not store.needs_evaluation(job, self._evaluation_hash, self._setting.data_root):
                # another command has just done it
                self._progress.end(job.run.name, outcome(read_run(job.result)))
                lock.close()
            else:
                self._locks[job.folder] = lock
                self._send_one(job, trained)

    def _send_one(self, job: Job, trained: bool) -> None:
        on_node = replace(job, runs=_name_of(job.runs))
        self._tasks.send(
            job,
            job.run.name,
            _train_on_node,
            lambda: (on_node, self._setting, trained, pack(job.folder)),
            cpus=job.run.config.train.threads,
            gpus=self._gpus,
        )

    def _end(self, job: Job, returned: _Returned | TaskFailure) -> None:
        if isinstance(returned, TaskFailure):
            returned = _Returned({job.error.name: returned.details.encode()}, returned.reason)
        parcel = returned.parcel
        if store.state(job)[0] == "done":  # what was only evaluated is not written again
            parcel = {name: parcel[name] for name in (job.evaluation.name, job.error.name) if name in parcel}
        unpack(parcel, job)
        if returned.reason is None:
            job.error.unlink(missing_ok=True)
            self._progress.end(job.run.name, outcome(read_run(job.result)))
        else:
            self._failures.append(Failure(job, returned.reason))
            self._progress.end(job.run.name, f"failed: {returned.reason}")


def _name_of(runs: Path) -> Path:
    """What a store's folder is called on every node, where those of other commands may lie beside it."""
    return Path(hashlib.sha256(f"{socket.gethostname()}:{runs.absolute()}".encode()).hexdigest()[:16])


def _node_folder() -> Path:
    """Where a node keeps runs until they are done: what it goes on with, should the same run come to it again."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "clamp-repro" / "runs"


def _train_on_node(job: Job, setting: Setting, trained: bool, parcel: Parcel) -> _Returned:
    """A task: the run in its folder on this node. `parcel` is what the store has of it, the result if `trained`."""
    job = replace(job, runs=_node_folder() / job.runs)
    try:
        _check_data(job, setting.data_root)
        if trained:
            shutil.rmtree(job.folder, ignore_errors=True)
        if not (job.folder / LOCK).exists():  # else the run was begun here, and may have come further
            unpack(parcel, job)
        failures = local.launch([job], 1, setting)
    except (ConfigError, DataError, OSError, StoreError) as error:
        reason = f"on {socket.gethostname()}: {error}"
        return _Returned(pack(job.folder) | {job.error.name: f"{reason}\n".encode()}, reason)
    parcel = pack(job.folder)
    shutil.rmtree(job.folder)
    return _Returned(parcel, failures[0].reason if failures else None)


def _check_data(job: Job, root: Path | None) -> None:
    """A node's data must be those that the command read; generated data always are."""
    data = job.run.config.data
    if data.name != "synthetic" and data_manifest(data, root) != job.inputs.data:
        raise ConfigError(f"{root}: not the same {data.name} as where the command was given")
