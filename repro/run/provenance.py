"""What made a result: sources, data, weights, packages and machine; nothing that tells whose machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clamp.config import Config
from clamp.data import data_manifest
from repro.plan.profiles import Inputs
from repro.records.run import Provenance
from repro.run.source_hash import package_folder, source_hash

_RECORDED_PACKAGES = ("torch", "triton", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "scipy")
_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def inputs_of(config: Config, data_root: Path | None, gpu: bool | None = None) -> Inputs:
    """What a run with this config depends on besides it, here or on a machine with (without) a GPU.

    Raises DataError where `data_root` does not hold the data set, and ConfigError for unusable weights.
    """
    return Inputs(data_manifest(config.data, data_root), _weights_revision(config), source_hash(gpu=gpu))


def _weights_revision(config: Config) -> str | None:
    encoders = [config.model.text]
    if config.model.vision.kind == "transformer":
        encoders.append(config.model.vision.encoder)
    pretrained = [encoder for encoder in encoders if encoder.weights is not None]
    if not pretrained:
        return None
    from clamp.encoders import weights_revision  # seconds of imports, for pretrained encoders only

    return "+".join(str(weights_revision(encoder)) for encoder in pretrained)


@dataclass(frozen=True)
class Invocation:
    """What the runs of one command share: the command, without its paths, and the commit that it started from."""

    argv: tuple[str, ...]
    git_sha: str | None
    git_dirty: bool | None

    @staticmethod
    def start(argv: Sequence[str]) -> Invocation:
        root = package_folder("repro").parent
        if _git(root, "rev-parse", "--show-toplevel") != str(root):
            return Invocation(portable(argv), None, None)  # installed somewhere else: no commit to name
        changes = _git(root, "status", "--porcelain", "--", "clamp", "kernels", "repro")
        return Invocation(portable(argv), _git(root, "rev-parse", "HEAD"), changes != "")


def _git(root: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def portable(argv: Sequence[str]) -> tuple[str, ...]:
    """The arguments as anyone could have typed them: the data folder as DIR, any other far path by its last part."""
    arguments: list[str] = []
    for argument in argv:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        previous = arguments[-1] if arguments else ""
        is_data = value and "--data" in (option, previous if not equals else "")
        arguments.append(option + equals + ("DIR" if is_data else _portable_path(value)))
    return tuple(arguments)


def _portable_path(value: str) -> str:
    path = Path(value)
    if not path.is_absolute() and not value.startswith(("~", "..")):
        return value
    absolute = Path(os.path.expanduser(path)).resolve()  # pathlib's own raises where there is no such user
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else absolute.name


def collect(invocation: Invocation, inputs: Inputs, threads: int, started: datetime) -> Provenance:
    """The record's provenance, read in the process that trained, after it trained. Holds no path, host or user."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Provenance(
        git_sha=invocation.git_sha,
        git_dirty=invocation.git_dirty,
        source_hash=inputs.source_hash,
        packages=_package_versions(),
        python=platform.python_version(),
        cpu=cpu_name(),
        cores=cores(),
        gpu=gpu,
        driver=gpu_driver(),
        threads=threads,
        determinism={
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            "matmul_precision": torch.get_float32_matmul_precision(),
        },
        data=inputs.data,
        weights_revision=inputs.weights_revision,
        argv=list(invocation.argv),
        started=started.astimezone(UTC).isoformat(timespec="seconds"),
        hardware=hardware_label(cores(), cpu_name(), gpu),
    )


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """The processor's model without marks, clock and filler: "Intel Xeon"."""
    found = re.search(r"^model name\s*:\s*(.+)$", _CPUINFO.read_text(), re.MULTILINE) if _CPUINFO.exists() else None
    name = found[1] if found else platform.machine()
    name = re.sub(r"\((R|TM|C)\)|@.*$|\b(CPU|Processor)\b", " ", name, flags=re.IGNORECASE)
    return " ".join(name.split())


def gpu_driver() -> str | None:
    """The version of the loaded NVIDIA driver, read without touching a GPU."""
    if not _NVIDIA_DRIVER.exists():
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", _NVIDIA_DRIVER.read_text())
    return found[0] if found else None


def hardware_label(cores: int, cpu: str, gpu: str | None) -> str:
    """One line for a table's footer."""
    return f"{gpu} ({cores} x {cpu})" if gpu else f"{cores} x {cpu} (no GPU)"
