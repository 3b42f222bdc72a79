"""What the runs still to be trained will take, said before the first of them starts: an estimate, and from what.

Where a published run has the same config, it tells how long; else the operations are counted and divided by a speed
that is measured (on a CPU) or assumed (on a GPU).
"""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clamp.config import Config, TrainConfig, config_from_dict
from repro.records.run import RunRecord
from repro.run.provenance import gpu_driver
from repro.run.published import published
from repro.run.store import Job

if TYPE_CHECKING:
    from repro.run.step_cost import StepCost

GPU_FLOPS = 40e12  # a second, sustained over whole training steps in bfloat16: an assumption
GPU_STEP_SECONDS = 0.03  # what a step takes at least, its kernels being launched one by one: an assumption
CPU_SHARE = 0.5  # of a matrix product's speed: what training at the paper's size reached where both were measured
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class _Estimate:
    """Of one run: how long by itself, what it holds at most, and where both are from."""

    seconds: float
    memory_bytes: int
    source: str


def lines(
    jobs: Sequence[Job], data_root: Path | None, results: Path, processes: int, gpu: bool | None = None
) -> Iterator[str]:
    """One line for each kind of source that estimates come from, and one for the runs of which nothing is known.

    `gpu` asks for a machine with (without) a GPU instead of this one.
    """
    if gpu is None:
        gpu = gpu_driver() is not None
    recorded = {} if gpu else _recorded(published(results)[0])
    known: dict[str, list[_Estimate]] = {}
    unknown: list[Job] = []
    counted: dict[str, _Estimate | None] = {}  # seeds cost the same
    for job in jobs:
        config = _identity(job.run.config_dict())
        if config not in counted:
            counted[config] = recorded.get(config) or _counted(job, data_root, gpu)
        estimate = counted[config]
        if estimate is None:
            unknown.append(job)
        else:
            known.setdefault(estimate.source, []).append(estimate)
    for source, estimates in known.items():
        together = min(processes, len(jobs))
        seconds = sum(e.seconds for e in estimates) / together
        memory = max(e.memory_bytes for e in estimates)
        at_a_time = f", {together} at a time" if together > 1 else ""
        of = "of GPU memory" if gpu else "of memory"
        yield (
            f"estimate: training {_runs(len(estimates))} takes about {duration(seconds)}{at_a_time}, and about"
            f" {memory / 1e9:.1f} GB {of} a run; {source}"
        )
    if unknown:
        weights = dict.fromkeys(name for job in unknown for name in _weights(job))
        reason = f"until the weights are at hand ({', '.join(weights)})" if weights else "until they are tried"
        yield f"estimate: time and memory of {_runs(len(unknown))} are unknown {reason}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _weights(job: Job) -> list[str]:
    model = job.run.config.model
    encoders = (model.text, model.vision.encoder) if model.vision.kind == "transformer" else (model.text,)
    return [encoder.weights for encoder in encoders if encoder.weights is not None]


def _identity(config: dict[str, Any]) -> str:
    """A run's config as text, whatever its seed."""
    return json.dumps(config | {"train": config["train"] | {"seed": None}}, sort_keys=True)


def _recorded(records: Sequence[RunRecord]) -> dict[str, _Estimate]:
    """What published CPU runs took, by config."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.provenance.gpu is None and record.result.cost.cpu_seconds is not None:
            found.setdefault(_identity(record.config), []).append(record)
    estimates = {}
    for config, same in found.items():
        costs = [record.result.cost for record in same]
        hardware = same[0].provenance.hardware
        estimates[config] = _Estimate(
            sum(cost.cpu_seconds or 0.0 for cost in costs) / len(costs),
            max(cost.peak_memory_bytes for cost in costs),
            f"as published runs did on {hardware}, without the evaluation that follows",
        )
    return estimates


def _counted(job: Job, data_root: Path | None, gpu: bool) -> _Estimate | None:
    from repro.run.step_cost import cpu_flops  # seconds of imports

    config = job.run.config
    try:
        cost = _step_cost(_what_a_step_costs(config), data_root)
    except Exception:  # whatever is wrong with it, training says so in its own words
        return None
    epochs, memory = config.train.epochs, cost.memory_bytes
    all_epochs = "if every run goes through all its epochs, without the evaluation that follows"
    if gpu:
        seconds = max(cost.flops / GPU_FLOPS, cost.steps * GPU_STEP_SECONDS) * epochs
        speed = f"assuming that {_gpu_name()} sustains {GPU_FLOPS / 1e12:.0f} TFLOP/s"
    else:
        flops = cpu_flops(config.train.threads)
        seconds = cost.flops / (CPU_SHARE * flops) * epochs
        speed = f"assuming {CPU_SHARE:.0%} of the {flops / 1e9:.0f} GFLOP/s that a matrix product reaches here"
        memory += cost.image_bytes + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # our own imports
    return _Estimate(seconds, memory, f"{speed}, {all_epochs}")


def _what_a_step_costs(config: Config) -> str:
    """A config as text without what costs nothing: rates, epochs and seeds."""
    size = replace(TrainConfig(), batch_size=config.train.batch_size)
    return json.dumps(replace(config, train=size).to_dict(), sort_keys=True)


@cache  # seconds each, and trials differ in rates alone
def _step_cost(config: str, data_root: Path | None) -> StepCost:
    from repro.run.step_cost import step_cost

    return step_cost(config_from_dict(json.loads(config), "estimate"), data_root)


def _gpu_name() -> str:
    """The first GPU's model, read without touching it."""
    for file in sorted(_NVIDIA_GPUS.glob("*/information")):
        if found := re.search(r"^Model:\s*(\S.*?)\s*$", file.read_text(), re.MULTILINE):
            return f"the {found[1]}"
    return "the GPU"


def duration(seconds: float) -> str:
    """In the unit that a person would use."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{max(1, round(seconds))} s"
