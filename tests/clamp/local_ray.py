"""A Ray cluster on this machine for tests: real processes, and nodes that can be killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def parent_of(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(parent)


def descendants(pid: int) -> list[int]:
    found = [pid]
    everyone = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    for ancestor in found:
        found += [process for process in everyone if parent_of(process) == ancestor]
    return found


class Nodes:
    """A cluster on this machine, of one CPU a node, each with a folder of its own. Tasks may write to the log."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster as LocalCluster

        self.folder, self.log, self.started = folder, folder / "log.jsonl", 0
        self._cluster = LocalCluster()
        self.add()
        self.address: str = self._cluster.address

    def add(self) -> Any:
        """Another node, for `kill`; its folder is named after its number."""
        name = f"node{self.started}"
        self.started += 1
        (self.folder / name).mkdir()
        environment = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "repro")]),
            "XDG_CACHE_HOME": str(self.folder / name),
            "TMPDIR": str(self.folder / name),
            "NODE": name,
            "NODE_LOG": str(self.log),
        }
        return self._cluster.add_node(env_vars=environment, num_gpus=1, **SMALL)

    def kill(self, node: Any) -> None:
        """As a power cut does."""
        processes = [info.process.pid for infos in node.all_processes.values() for info in infos]
        for pid in [pid for process in processes for pid in descendants(process)]:
            os.kill(pid, signal.SIGKILL)

    def starts(self) -> list[tuple[str, int, int, str | None]]:
        """Node, seed, process and visible GPUs of every run that was started."""
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def left_over(self) -> list[Path]:
        """What the first node, which no test kills, has of runs."""
        return [path for path in self.folder.glob("node0/clamp-repro/runs/**/*") if path.is_file()]

    def shutdown(self) -> None:
        self._cluster.shutdown()


def a_cluster(folder: Path) -> Iterator[Nodes]:
    """One for a fixture, which is skipped without Ray."""
    pytest.importorskip("ray", reason='needs Ray: pip install "clamp-repro[ray]"')
    nodes = Nodes(folder)
    yield nodes
    nodes.shutdown()
