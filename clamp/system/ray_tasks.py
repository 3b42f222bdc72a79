"""Tasks on the machines of a Ray cluster: a process each, sent again when their node dies."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from clamp.config import ConfigError

STARTS = 4  # of a task whose node dies each time
_ANSWER_SECONDS = 5.0  # for a cluster to answer; Ray's own attempts go on for more than a minute


@dataclass(frozen=True)
class TaskFailure:
    """Why a task returned nothing: in one line, and in all that is known."""

    reason: str
    details: str


@dataclass(frozen=True)
class _Sent:
    what: Any
    name: str
    start: Callable[[], Any]  # returns Ray's reference
    starts: int


class Tasks:
    """What one command does on a cluster. Closing it, or the command's end, ends the tasks that have not ended.

    address: "auto" for the cluster that this machine belongs to, or HOST:PORT of its head; either way this machine is
    one of its nodes. `say` shows a line. Raises ConfigError where Ray is not installed or no cluster answers.
    """

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self._ray, self._say = _connected(address), say
        self._sent: dict[Any, _Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def room(self, cpus: int, gpus: float) -> int:
        """How many tasks of this size the nodes hold together; says what there is, and where it is too little."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        totals = [sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")]
        self._say(f"Ray cluster: nodes: {len(nodes)}, CPUs: {totals[0]:g}, GPUs: {totals[1]:g}")
        by_cpus = [int(node.get("CPU", 0) // cpus) for node in nodes]
        by_gpus = [int(node.get("GPU", 0) // gpus) if gpus else by_cpus[k] for k, node in enumerate(nodes)]
        room = sum(map(min, by_cpus, by_gpus))
        if room == 0:
            wanted = f"CPUs: {cpus}, GPUs: {gpus:g}"
            self._say(f"warning: no node has what a task needs ({wanted}); waiting for one to join, or for Ctrl-C")
        return room

    def send(
        self,
        what: Any,
        name: str,
        function: Callable[..., Any],
        arguments: Callable[[], tuple[Any, ...]],
        cpus: int,
        gpus: float,
    ) -> None:
        """Have `function`, of a module that the nodes can import, called with what `arguments` returns.

        `what` is what the task is for; `gpus` is 0, or the share of one GPU. Without a GPU the task sees none.
        """
        # Lost tasks are counted and told of here: Ray would start one that takes too much memory again for ever.
        task = self._ray.remote(max_calls=1, max_retries=0)(_call)
        task = task.options(name=name, num_cpus=cpus, num_gpus=gpus)
        self._start(_Sent(what, name, lambda: task.remote(function, gpus > 0, *arguments()), 1))

    def _start(self, sent: _Sent) -> None:
        self._sent[sent.start()] = sent

    def ended(self, timeout: float | None = None) -> list[tuple[Any, Any]]:
        """What those tasks were for that have ended, and what each returned, or a TaskFailure.

        Waits for one, at most `timeout` seconds; one that died with its node is sent again and has not ended.
        """
        found = []
        for task in self._ray.wait(list(self._sent), timeout=timeout)[0]:
            sent = self._sent.pop(task)
            result = self._result(task, sent)
            if result is None:
                self._say(f"{sent.name}: its node died; it starts again")
                self._start(replace(sent, starts=sent.starts + 1))
            else:
                found.append((sent.what, result))
        return found

    def _result(self, task: Any, sent: _Sent) -> Any:
        """None for a task that is to be sent again."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except (errors.NodeDiedError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            if sent.starts < STARTS:
                return None
            return TaskFailure(f"its node died, {STARTS} times in a row", str(error))
        except errors.RayError as error:
            return TaskFailure(_one_line(error), str(error))

    def close(self) -> None:
        for task in self._sent:
            self._ray.cancel(task, force=True)
        self._sent.clear()
        self._ray.shutdown()


def _connected(address: str) -> Any:
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


def _call(function: Callable[..., Any], gpu: bool, *arguments: Any) -> Any:
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray would let it see them all
    return function(*arguments)


def _one_line(error: Exception) -> str:
    cause = getattr(error, "cause", None)  # of what the function raised
    return (f"{type(cause).__name__}: {cause}" if cause else str(error)).partition("\n")[0]
