"""Several calls timed in turns, so that what drifts (clocks, temperature, other work) meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

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


def in_turns(calls: Mapping[str, Call], rounds: Rounds, device: torch.device) -> Seconds:
    """Each call once a round, in rotating order; every list has one entry a round."""
    names = list(calls)
    found: Seconds = {name: [] for name in names}
    begun = time.perf_counter()
    turn = 0
    while turn < rounds.least or time.perf_counter() - begun < rounds.seconds:
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            synchronise(device)
            start = time.perf_counter()
            calls[name]()
            synchronise(device)
            found[name].append(time.perf_counter() - start)
        turn += 1
    return found


def spread(values: list[float], factor: float = 1.0) -> Spread:
    """10th, 50th and 90th percentile, times `factor`."""
    return dict(zip(("p10", "p50", "p90"), (factor * np.percentile(values, [10, 50, 90])).tolist(), strict=True))


def ratios(values: list[float], reference: list[float]) -> Spread:
    """Of each round to the reference in the same round."""
    return spread([value / base for value, base in zip(values, reference, strict=True)])
