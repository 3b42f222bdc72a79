"""The PyTorch implementations on a CPU, where "auto" takes them: InfoNCE's time and memory, and attention's time."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import kernels
from kernels.bench import report, targets
from kernels.bench.measure import machine
from kernels.bench.measure.devices import Cpu
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import compare, forward_backward
from kernels.bench.works import eager, inputs, peers

PAIRS = (256, 512, 1024, 2048, 4096, 8192)
WIDTH = 256
_ROUNDS = 3
_SECONDS = 0.5  # of steps in each process, at least one step
_ATTENTION_SHAPE: inputs.AttentionShape = (16, 12, 64, 197, 64)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "eager": eager.info_nce,
    "eager, one product": eager.info_nce_one_product,
    "reference": partial(kernels.info_nce, impl="reference"),
    "torch, auto": partial(kernels.info_nce, impl="torch"),
    "torch, chunked": partial(kernels.info_nce, impl="torch", mode="chunked"),
}


def measured(say: Callable[[str], None], pairs: tuple[int, ...] = PAIRS, rounds: int = _ROUNDS) -> dict[str, Any]:
    """A report of kind "cpu", float32."""
    made: dict[str, Any] = {"schema": report.SCHEMA, "kind": "cpu", "complete": True}
    made["provenance"] = machine.provenance() | {"threads": torch.get_num_threads()}
    rows: list[Row] = []
    for name, found in (("info_nce", _losses(pairs, rounds)), ("cross_attention", _attention(Cpu()))):
        for row in found:
            rows.append({"section": name, **row})
            say(f"{row['work']} | {row['variant']}  {row.get('error') or row['ms']['p50']}")
    return made | {"sections": {}, "rows": rows, "targets": targets.judge(rows, targets.CPU_TARGETS)}


def _losses(pairs: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Each measurement in a process of its own, the variants in turns: peak memory is a process's."""
    for count in pairs:
        facts = {"work": targets.on_a_cpu(count), "pairs": count, "shape": [count, WIDTH], "dtype": "float32"}
        found: dict[str, list[tuple[list[float], int]]] = {name: [] for name in _LOSSES}
        for _ in range(rounds):
            for name in _LOSSES:
                found[name].append(_in_a_process(name, count))
        for name, results in found.items():
            milliseconds = [ms for times, _ in results for ms in times]
            p10, p50, p90 = np.percentile(milliseconds, [10, 50, 90]).round(6).tolist()
            row = {**facts, "variant": name, "launch": "eager", "ms": {"p10": p10, "p50": p50, "p90": p90}}
            yield row | {"calls": len(milliseconds), "extra_bytes": int(median(extra for _, extra in results))}


def _in_a_process(name: str, count: int) -> tuple[list[float], int]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(name, count, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _measure(name: str, count: int, sender: Connection) -> None:
    """Times of single steps in ms, and what the first of them held beyond what was there before it."""
    device = Cpu()
    variant = forward_backward(_LOSSES[name])
    variant.step(inputs.pairs(device, (8, WIDTH), torch.float32, 0))  # so that libraries are loaded
    sample = inputs.pairs(device, (count, WIDTH), torch.float32, 0)
    _CLEAR.write_text("5")  # makes the peak what is held now
    before = _peak()
    variant.step(sample)
    extra = _peak() - before
    times: list[float] = []
    while sum(times) < 1e3 * _SECONDS:
        times += device.times([lambda: variant.step(sample)])
    sender.send((times, extra))


def _peak() -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _attention(device: Cpu) -> Iterator[Row]:
    samples = [inputs.attention(device, _ATTENTION_SHAPE, device.dtype, seed, guided=False) for seed in range(3)]
    facts = {"work": targets.ATTENTION_ON_A_CPU, "shape": list(_ATTENTION_SHAPE), "dtype": "float32"}
    variants = {
        "torch": forward_backward(partial(kernels.cross_attention, impl="torch")),
        "reference": forward_backward(partial(kernels.cross_attention, impl="reference")),
        "eager": forward_backward(eager.cross_attention),
        "SDPA": forward_backward(peers.sdpa),
    }
    yield from compare(device, facts, variants, samples, launches=("eager",), seconds=8.0)
