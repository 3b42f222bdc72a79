"""The contrastive losses: time and memory against the number of pairs, beside what others offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import kernels
from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import Variant, attempted, compare, explain, forward_backward
from kernels.bench.works import eager, inputs, peers
from kernels.dispatch import Mode

WIDTH = 768
LARGEST = 2**20  # pairs, once: a step takes many seconds
PEERS_AT = 2**14
_PAIRS = (256, 1024, 4096, PEERS_AT, 2**16, 2**18)
_REHEARSED_PAIRS = (256, PEERS_AT, 2**16)
_EAGER_UP_TO = 2**16  # beyond, its logits alone are 128 GiB in 16 bits
_MODES_AT: dict[int, tuple[Mode, ...]] = {PEERS_AT: ("chunked", "save")}
_GROUPS = {"grouped_info_nce, words": (256, 64, 256), "grouped_info_nce, wide": (256, 128, 768)}
_TINY_PAIRS = {256: 5, PEERS_AT: 24, 2**16: 32, LARGEST: 40}


def work_of(pairs: int) -> str:
    return f"info_nce, N {pairs}"


def pair_rows(device: Device) -> Iterator[Row]:
    """info_nce forward and backward, from 256 pairs to a million."""
    ours = forward_backward(partial(kernels.info_nce, impl=device.impl))
    others: dict[str, Variant] = {}
    for name, make in peers.contrastive(device).items():
        try:
            others[name] = make()
        except ImportError as error:
            yield {"work": work_of(PEERS_AT), "variant": name, "launch": "eager", "error": explain(error)}
    for pairs in _REHEARSED_PAIRS if device.rehearses else _PAIRS:
        variants = {"kernels": ours}
        variants |= {name: others[name] for name in _peers_at(pairs) if name in others}
        for mode in _MODES_AT.get(pairs, ()):
            variants[f"kernels, {mode}"] = forward_backward(partial(kernels.info_nce, impl=device.impl, mode=mode))
        samples = [inputs.pairs(device, _shape(device, pairs), device.dtype, seed) for seed in range(2)]
        facts = _facts(device, pairs) | {"input_bytes": samples[0].bytes}
        yield from compare(device, facts, variants, samples, launches=("eager",), seconds=0.5)
    yield from _largest(device, ours)


def _peers_at(pairs: int) -> tuple[str, ...]:
    if pairs > _EAGER_UP_TO:
        return ()
    if pairs < PEERS_AT:
        return ("eager",)
    common = ("eager", "eager, one product", peers.SIGLIP, peers.COMPILED)
    return (*common, peers.INF_CL) if pairs == PEERS_AT else common


def _shape(device: Device, pairs: int) -> tuple[int, int]:
    return (_TINY_PAIRS[pairs], 16) if device.rehearses else (pairs, WIDTH)


def _facts(device: Device, pairs: int) -> Row:
    dtype = str(device.dtype).removeprefix("torch.")
    return {"work": work_of(pairs), "pairs": pairs, "shape": list(_shape(device, pairs)), "dtype": dtype}


def _largest(device: Device, ours: Variant) -> Iterator[Row]:
    """One step; the steps before it compiled the kernels."""
    row = _facts(device, LARGEST) | {"variant": "kernels", "launch": "eager"}

    def step() -> Row:
        sample = inputs.pairs(device, _shape(device, LARGEST), device.dtype, 0)
        milliseconds: list[float] = []
        extra = device.extra_bytes(lambda: milliseconds.extend(device.times([lambda: ours.step(sample)])))
        ms = dict.fromkeys(("p10", "p50", "p90"), milliseconds[0])
        return {"calls": 1, "inputs": 1, "ms": ms, "extra_bytes": extra, "input_bytes": sample.bytes}

    yield from attempted(device, row, step)


def group_rows(device: Device) -> Iterator[Row]:
    """grouped_info_nce forward and backward: words against regions within tweets."""
    variants: dict[str, Callable[[], Variant]] = {
        "kernels": lambda: forward_backward(partial(kernels.grouped_info_nce, impl=device.impl)),
        "eager": lambda: forward_backward(eager.grouped_info_nce),
        peers.COMPILED: lambda: peers.compiled(device, eager.grouped_info_nce),
    }
    for work, shape in _GROUPS.items():
        shape = (2, 5, 16) if device.rehearses else shape
        samples = [inputs.groups(device, shape, device.dtype, seed) for seed in range(3)]
        facts = {"work": work, "shape": list(shape), "dtype": str(device.dtype).removeprefix("torch.")}
        # forward: a, b; backward: the same and a gradient of each
        facts["bytes"] = 6 * samples[0].arguments["a"].nbytes
        yield from compare(device, facts, {n: make() for n, make in variants.items()}, samples, seconds=0.2)
