"""What made a report: machine, software and sources; nothing that tells whose machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "triton", "numpy", "siglip-kernel", "inf-cl")
_KERNELS = Path(__file__).parents[1]


def provenance() -> dict[str, Any]:
    """Read in a process that touches no GPU but for its name."""
    on_gpu = torch.cuda.is_available()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "packages": _versions(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "git_sha": _git("rev-parse", "HEAD"),
        "git_dirty": None if (changes := _git("status", "--porcelain", "--", "kernels")) is None else changes != "",
        "kernels_hash": sources_hash(),
    }


def process_seconds() -> float:
    """How long ago this process started: importing torch takes its time, and whoever limits us counts it."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


def sources_hash() -> str:
    """16 hex digits of the operators' sources, for where there is no git."""
    digest = hashlib.sha256()
    for file in sorted(_KERNELS.rglob("*.py")):
        digest.update(f"{file.relative_to(_KERNELS)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _driver() -> str | None:
    version = Path("/proc/driver/nvidia/version")
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", version.read_text()) if version.exists() else None
    return found[0] if found else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    name = re.sub(r"\((R|TM|C)\)|@.*$|\b(CPU|Processor)\b", " ", found[1] if found else platform.machine())
    return " ".join(name.split())


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_KERNELS), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
