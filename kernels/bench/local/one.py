"""One work of one variant under pytest-benchmark, on a GPU where there is one and on the CPU elsewhere."""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import Any

import pytest
import torch

from kernels.bench.measure.devices import Cpu, Cuda, Device
from kernels.bench.measure.timing import Sample, Variant
from kernels.inspect import reports

_SECONDS = 0.4  # of timed steps, within these bounds
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 200
_FACTS = ("kernel", "config", "registers", "spills", "shared_bytes", "programs_per_sm")


def here() -> Device:
    return Cuda() if torch.cuda.is_available() else Cpu()


def time(benchmark: Any, device: Device, work: str, operator: str, variant: Variant, sample: Sample) -> None:
    """Time a step; skips with the reason where the variant refuses the sample."""
    benchmark.group = f"{work}, {device.dtype}"
    benchmark.extra_info["compiled for sm_90"] = static_facts(operator)

    def step() -> None:
        variant.step(sample)
        device.synchronize()

    with variant.context():
        try:
            step()
        except RuntimeError as error:
            pytest.skip(str(error).splitlines()[0])
        start = perf_counter()
        step()
        rounds = round(_SECONDS / (perf_counter() - start))
        benchmark.pedantic(step, rounds=min(max(rounds, _LEAST_ROUNDS), _MOST_ROUNDS))


@cache
def static_facts(operator: str) -> list[dict[str, Any]]:
    """What the operator's most used kernels compile to: some seconds, once."""
    return [{name: row[name] for name in _FACTS} for row in reports.compile_reports([operator], [90], core=True)]
