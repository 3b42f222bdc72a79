"""Several calls timed in turns, so that what drifts (clocks, temperature, other work) meets all of them alike."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from kernels.bench.measure.timing import in_turns

Call = Callable[[], object]
Seconds = dict[str, list[float]]  # name -> one duration a round, in seconds
Spread = dict[str, float]  # p10, p50, p90


@dataclass(frozen=True)
class Rounds:
    """How long to go on: at least so many rounds, and on until the seconds are spent."""

    least: int
    seconds: float


def synchronise(device: torch.device) -> None:
    """Wait for what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed_rounds(calls: Mapping[str, Call], rounds: Rounds, device: torch.device) -> Seconds:
    """Each call once a round, in rotating order; every list has one entry a round."""

    def measure(name: str) -> list[float]:
        synchronise(device)
        start = time.perf_counter()
        calls[name]()
        synchronise(device)
        return [time.perf_counter() - start]

    return in_turns(list(calls), measure, _until_spent(rounds))


def _until_spent(rounds: Rounds) -> Iterator[int]:
    begun = time.perf_counter()
    for done in itertools.count():
        if done >= rounds.least and time.perf_counter() - begun >= rounds.seconds:
            return
        yield done


def spread(values: list[float], factor: float = 1.0) -> Spread:
    """10th, 50th and 90th percentile, times `factor`."""
    return dict(zip(("p10", "p50", "p90"), (factor * np.percentile(values, [10, 50, 90])).tolist(), strict=True))


def ratios(values: list[float], reference: list[float]) -> Spread:
    """Of each round to the reference in the same round."""
    return spread([value / base for value, base in zip(values, reference, strict=True)])
