"""The runs of a grid on the machines of a Ray cluster, their results in the store of the command that asked for them.

A run is one task. On its node it is launched as on any machine (`repro.launch`), in a folder of the node's own, and its
folder then travels to the command, which alone writes to the store: nodes need not see the store, nor each other. The
command holds a run's lock from before the task starts until its result is stored, and takes the result of one task
only, so that a run ends exactly once, whatever became of tasks that were lost with their node.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clamp.config import ConfigError
from clamp.data import DataError
from clamp.data.splits import data_manifest
from repro import launch as local
from repro import sources, store
from repro.launch import Failure, Setting, outcome
from repro.parcel import Parcel, pack, unpack
from repro.progress import Progress
from repro.store import Job, StoreError

STARTS = 4  # of a run whose node dies each time
_POLL_SECONDS = 1.0  # to look again for a run that another command holds
_ANSWER_SECONDS = 5.0  # for a cluster to answer; Ray's own attempts go on for more than a minute


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


@dataclass(frozen=True)
class _Sent:
    """A run that is the cluster's now, for which time, and what lets go of its lock."""

    job: Job
    starts: int
    lock: ExitStack


def launch(jobs: Sequence[Job], processes: int, setting: Setting, cluster: Cluster) -> list[Failure]:
    """`repro.launch.launch` on a cluster: train every job, as many at a time as it has room for, at most `processes`.

    `setting.data_root`, where it is needed, is a path on every node. A run whose node dies starts again on another; one
    that fails by itself does not. Raises ConfigError where there is no Ray or no cluster, StoreError when results
    cannot be written here. Whatever ends this function ends the runs that it started.
    """
    ray = _connect(cluster.address)
    progress = Progress(len(jobs), processes)
    try:
        _say_what_is_there(ray, jobs, cluster, progress)
        return _Grid(ray, jobs, processes, setting, cluster, progress).work()
    finally:
        progress.close()
        ray.shutdown()


def _connect(address: str) -> Any:
    """The module `ray`, connected."""
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise ConfigError('--engine ray: Ray is not installed here; run: pip install "clamp-repro[ray]"') from None
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdecimal():
            socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        start = "start one on this machine with `ray start --head`, or have it join one with `ray start --address`"
        raise ConfigError(f"--address {address}: no Ray cluster answers ({reason}); {start}") from None
    return ray


def _say_what_is_there(ray: Any, jobs: Sequence[Job], cluster: Cluster, progress: Progress) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    progress.say(f"Ray cluster: {len(nodes)} nodes, {cpus:g} CPUs, {gpus:g} GPUs")
    threads = max(job.run.config.train.threads for job in jobs)
    fits = (node.get("CPU", 0) >= threads and node.get("GPU", 0) >= cluster.gpus_per_run for node in nodes)
    if not any(fits):
        wanted = f"{threads} CPUs and {cluster.gpus_per_run:g} GPUs"
        progress.say(f"warning: no node offers a run its {wanted}; waiting for one to join (Ctrl-C to stop)")


class _Grid:
    """The runs that wait, those that are the cluster's, and those that failed."""

    def __init__(
        self, ray: Any, jobs: Sequence[Job], processes: int, setting: Setting, cluster: Cluster, progress: Progress
    ) -> None:
        self._ray, self._processes, self._cluster, self._progress = ray, processes, cluster, progress
        root = setting.data_root
        self._setting = replace(setting, data_root=root and root.absolute())  # a node has a working folder of its own
        self._evaluation_hash = sources.source_hash(setting.evaluate.partition(":")[0], cluster.gpus_per_run > 0)
        # A worker process serves one run, as locally. Lost tasks are counted and told of here rather than by Ray, which
        # would start a run that takes too much memory for ever.
        self._task = ray.remote(max_calls=1, max_retries=0)(_train_on_node)
        self._waiting = deque(jobs)
        self._sent: dict[Any, _Sent] = {}
        self._failures: list[Failure] = []

    def work(self) -> list[Failure]:
        try:
            while self._waiting or self._sent:
                self._send()
                more_could_be_sent = self._waiting and len(self._sent) < self._processes
                for task in self._ended_tasks(_POLL_SECONDS if more_could_be_sent else None):
                    self._end(task, self._sent.pop(task))
        finally:
            for task, sent in self._sent.items():
                self._ray.cancel(task, force=True)
                sent.lock.close()
        return self._failures

    def _ended_tasks(self, timeout: float | None) -> list[Any]:
        if self._sent:
            return self._ray.wait(list(self._sent), timeout=timeout)[0]
        if self._waiting:  # all that is left is held by other commands
            time.sleep(_POLL_SECONDS)
        return []

    def _send(self) -> None:
        """Send what there is room for; a run that another command holds is left for later."""
        for _ in range(len(self._waiting)):
            if len(self._sent) == self._processes:
                return
            job, lock = self._waiting.popleft(), ExitStack()
            try:
                lock.enter_context(store.locked(job.folder, wait=False))
            except BlockingIOError:
                self._waiting.append(job)
            else:
                self._start(_Sent(job, 1, lock))

    def _start(self, sent: _Sent) -> None:
        job = sent.job
        trained = store.state(job)[0] == "done"
        if trained and not store.needs_evaluation(job, self._evaluation_hash):  # another command has just done it
            self._progress.end(job.run.name, outcome(store.read_record(job.result)))
            sent.lock.close()
            return
        task = self._task.options(
            name=job.run.name, num_cpus=job.run.config.train.threads, num_gpus=self._cluster.gpus_per_run
        )
        on_node = replace(job, runs=_name_of(job.runs))
        self._sent[task.remote(on_node, self._setting, self._cluster.gpus_per_run > 0, trained, pack(job.folder))] = (
            sent
        )

    def _end(self, task: Any, sent: _Sent) -> None:
        job, errors = sent.job, self._ray.exceptions
        try:
            returned = self._ray.get(task)
        except (errors.NodeDiedError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            if sent.starts < STARTS:
                self._progress.say(f"{job.run.name}: its node died; it starts again")
                self._start(replace(sent, starts=sent.starts + 1))
                return
            returned = _Returned({job.error.name: str(error).encode()}, f"its node died, {STARTS} times in a row")
        except errors.RayError as error:
            returned = _Returned({job.error.name: str(error).encode()}, _one_line(error))
        with sent.lock:
            self._store(job, returned)

    def _store(self, job: Job, returned: _Returned) -> None:
        parcel = returned.parcel
        if store.state(job)[0] == "done":  # what was only evaluated is not written again
            parcel = {name: parcel[name] for name in (job.evaluation.name, job.error.name) if name in parcel}
        unpack(parcel, job)
        if returned.reason is None:
            job.error.unlink(missing_ok=True)
            self._progress.end(job.run.name, outcome(store.read_record(job.result)))
        else:
            self._failures.append(Failure(job, returned.reason))
            self._progress.end(job.run.name, f"failed: {returned.reason}")


def _one_line(error: Exception) -> str:
    cause = getattr(error, "cause", None)  # of what was raised on the node
    return " ".join(f"{type(cause).__name__}: {cause}".split()) if cause else str(error).partition("\n")[0]


def _name_of(runs: Path) -> Path:
    """What a store's folder is called on every node, where those of other commands may lie beside it."""
    return Path(hashlib.sha256(f"{socket.gethostname()}:{runs.absolute()}".encode()).hexdigest()[:16])


def _node_folder() -> Path:
    """Where a node keeps runs until they are done: what it goes on with, should the same run come to it again."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "clamp-repro" / "runs"


def _train_on_node(job: Job, setting: Setting, gpu: bool, trained: bool, parcel: Parcel) -> _Returned:
    """A task: the run in its folder on this node. `parcel` is what the store has of it, the result if `trained`."""
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a run that asked for no GPU uses none that is there
    job = replace(job, runs=_node_folder() / job.runs)
    try:
        _check_data(job, setting.data_root)
        if trained:
            shutil.rmtree(job.folder, ignore_errors=True)
        if not (job.folder / store.LOCK).exists():  # else the run was begun here, and may have come further
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
