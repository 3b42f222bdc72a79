"""Several variants of one work, timed in turns on the same random inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kernels.bench.measure.devices import Call, Device
from kernels.bench.measure.rows import Poisoned, Row

_TURNS = 6
_MOST_CALLS_A_TURN = 40
_SECONDS_TO_PREPARE = 80.0  # one variant, compilation included


@dataclass(frozen=True)
class Sample:
    """One random input of a work, and the gradient of each output that is to be propagated back."""

    arguments: dict[str, Any]
    directions: tuple[torch.Tensor, ...] = ()
    parameters: tuple[torch.Tensor, ...] = ()

    @property
    def wanted(self) -> dict[str, torch.Tensor]:
        """The arguments that get a gradient."""
        return {n: v for n, v in self.arguments.items() if isinstance(v, torch.Tensor) and v.requires_grad}

    @property
    def bytes(self) -> int:
        tensors = (value for value in self.arguments.values() if isinstance(value, torch.Tensor))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True)
class Variant:
    """One way to do a work: what it makes of a sample, and a context that holds while it does."""

    step: Callable[[Sample], tuple[torch.Tensor, ...]]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def forward_backward(
    forward: Callable[..., Any], context: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Variant:
    """`forward`, which takes a sample's arguments by name, then back from its outputs.

    A step yields the outputs, followed by the gradients of what is wanted; outputs alone where there is no direction.
    """

    def step(sample: Sample) -> tuple[torch.Tensor, ...]:
        outputs = forward(**sample.arguments)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if not sample.directions:
            return outputs
        return outputs + torch.autograd.grad(outputs, (*sample.wanted.values(), *sample.parameters), sample.directions)

    return Variant(step, context)


def explain(error: BaseException) -> str:
    """An exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def attempted(device: Device, row: Row, work: Callable[[], Row]) -> Iterator[Row]:
    """`row` with what `work` finds, or with why it finds nothing; no row where an earlier try has it.

    Poisoned where the error leaves the device unusable.
    """
    if device.earlier.has(row):
        return
    if fault := device.earlier.fault(row):
        yield row | {"error": fault}
        return
    device.trying(row)
    try:
        found = work()
    except Exception as error:
        found = failure(device, error)
    yield row | found


def checked(device: Device, row: Row, check: Callable[[], Row]) -> Iterator[Row]:
    """The same of a check: what raises is not right."""
    for found in attempted(device, row, check):
        yield {"right": False, **found}


def failure(device: Device, error: Exception) -> Row:
    """What a row says of an error; Poisoned where it leaves the device unusable."""
    if not device.usable():
        raise Poisoned(explain(error)) from error
    return {"error": explain(error)}


def compare(
    device: Device,
    facts: Row,
    variants: Mapping[str, Variant],
    samples: Sequence[Sample],
    *,
    launches: Sequence[str] = ("eager", "graph"),
    seconds: float = 0.4,
) -> Iterator[Row]:
    """A row a variant and launch: `facts` with its 10th, 50th and 90th percentile in ms, or with why there is none.

    seconds: what to spend on each variant and launch. Variants take turns, in another order each time, so that what
    changes slowly (clocks, temperature) meets all alike.
    """
    ready = dict(variants)
    samples = samples[:1] if device.rehearses else samples
    for name in variants:
        rows = [{**facts, "variant": name, "launch": launch} for launch in launches]
        if fault := device.earlier.fault(rows[0]):
            del ready[name]
            yield from ({**row, "error": fault} for row in rows if not device.earlier.has(row))
    for launch in launches:
        if any(device.earlier.has({**facts, "variant": name, "launch": launch}) for name in ready):
            continue
        calls: dict[str, list[Call]] = {}
        extra: dict[str, int | None] = {}
        for name, variant in list(ready.items()):
            row = {**facts, "variant": name, "launch": launch}
            device.trying(row)
            try:
                with device.limited(_SECONDS_TO_PREPARE), variant.context():
                    calls[name] = [_call(device, variant, sample, launch) for sample in samples]
                    for call in calls[name]:
                        call()
                    if launch == "eager":
                        extra[name] = device.extra_bytes(calls[name][0])
                    device.synchronize()
            except Exception as error:
                del ready[name]  # what fails in eager mode is not captured either
                calls.pop(name, None)
                yield {**row, **failure(device, error)}
        for name, milliseconds in _timed_in_turns(device, variants, calls, seconds).items():
            p10, p50, p90 = np.percentile(milliseconds, [10, 50, 90]).round(6).tolist()
            row = {**facts, "variant": name, "launch": launch, "ms": {"p10": p10, "p50": p50, "p90": p90}}
            row |= {"calls": len(milliseconds), "inputs": len(samples)}
            yield row | ({"extra_bytes": extra[name]} if extra.get(name) is not None else {})


def _call(device: Device, variant: Variant, sample: Sample, launch: str) -> Call:
    def step() -> tuple[torch.Tensor, ...]:
        return variant.step(sample)

    return device.graph(step) if launch == "graph" else step


def _timed_in_turns(
    device: Device, variants: Mapping[str, Variant], calls: Mapping[str, list[Call]], seconds: float
) -> dict[str, list[float]]:
    names = list(calls)
    rotation = {name: itertools.cycle(calls[name]) for name in names}
    turns = 1 if device.rehearses else _TURNS
    count = dict.fromkeys(names, 1)
    for name in names if turns > 1 else ():
        with variants[name].context():
            estimate = min(device.times(calls[name]))
        count[name] = min(max(int(1e3 * seconds / turns / estimate), 1), _MOST_CALLS_A_TURN)

    def measure(name: str) -> list[float]:
        with variants[name].context():
            return device.times(list(itertools.islice(rotation[name], count[name])))

    return in_turns(names, measure, range(turns))


def in_turns(
    names: Sequence[str], measure: Callable[[str], list[float]], turns: Iterable[object]
) -> dict[str, list[float]]:
    """What `measure` found of each name, once a turn in another order each time: what drifts meets all alike."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn, _ in enumerate(turns):
        shift = turn % max(len(names), 1)
        for name in [*names[shift:], *names[:shift]]:
            found[name] += measure(name)
    return found
