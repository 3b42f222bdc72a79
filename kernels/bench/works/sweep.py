"""Other tiles than the shipped ones, checked and timed: what a compiler alone could not decide.

Each alternative takes the place of what an operator's table would say, for as long as its variant runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import kernels
from kernels.bench.measure import parity
from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import OURS, Row
from kernels.bench.measure.timing import Sample, checked, compare, forward_backward
from kernels.bench.works import contrast, inputs
from kernels.bench.works.attention import PATCHES

PARITY = "against float64, at the timed shape"
BEST = "best"
_PAIRS = 2**14
_SECONDS = 0.1  # a variant

Stand = Mapping[str, Any]  # function of a module -> what it returns instead


@dataclass(frozen=True)
class Sweep:
    """An operator, how to draw its input, and its alternatives by name: what the functions of `module` return."""

    work: str
    operator: Callable[..., Any]
    draw: Callable[[Device], Sample]
    module: str
    alternatives: Callable[[], Mapping[str, Stand]]


def rows(device: Device) -> Iterator[Row]:
    """Every alternative beside what is shipped: right or not, its time in a CUDA graph, and which is best."""
    for sweep in SWEEPS:
        yield from _swept(device, sweep)


def _swept(device: Device, sweep: Sweep) -> Iterator[Row]:
    sample = sweep.draw(device)
    facts: Row = {"work": sweep.work, "dtype": str(device.dtype).removeprefix("torch.")}
    operator = partial(sweep.operator, impl=device.impl)
    variants = {OURS: forward_backward(operator)}
    if device.impl == "triton":  # there are tiles
        for name, stand in sweep.alternatives().items():
            variants[name] = forward_backward(operator, partial(_instead, sweep.module, stand))
    expected, bounds = parity.reference_of(sweep.operator, sample, device.dtype)
    right: list[str] = []
    for name, variant in variants.items():
        row = {**facts, "variant": name, "check": PARITY}
        was_right = device.earlier.was_right(row)
        for found in checked(device, row, partial(parity.judged, variant, sample, expected, bounds)):
            yield found
            was_right = found["right"]
        right += [name] if was_right else []
    times: dict[str, float] = {}
    for row in compare(device, facts, {n: variants[n] for n in right}, [sample], launches=("graph",), seconds=_SECONDS):
        yield row
        if "ms" in row:
            times[row["variant"]] = row["ms"]["p50"]
    if OURS in times:
        best = min(times, key=times.__getitem__)
        yield {**facts, "variant": best, "launch": BEST, "of": len(times), "times_shipped": times[best] / times[OURS]}


@contextmanager
def _instead(module: str, stand: Stand) -> Iterator[None]:
    """Have functions of a module return something else."""
    loaded = importlib.import_module(module)
    before = {name: getattr(loaded, name) for name in stand}
    for name, value in stand.items():
        setattr(loaded, name, lambda *_, value=value, **__: value)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(loaded, name, function)


def _attention(guided: bool, backward: bool) -> Callable[[Device], Sample]:
    def draw(device: Device) -> Sample:
        shape = (1, 2, 5, 19, 16) if device.rehearses else (PATCHES[0] // 4, *PATCHES[1:])
        sample = inputs.attention(device, shape, device.dtype, 0, guided=guided)
        return sample if backward else replace(sample, directions=())

    return draw


def _forward_tiles() -> Mapping[str, Stand]:
    from kernels.attention.configs import LoopConfig, RowConfig

    rows = {
        "rows of 64, 4 warps, values late": RowConfig(64, 4, early_values=False),
        "rows of 64, 8 warps": RowConfig(64, 8, early_values=True),
        "rows of 32, 4 warps": RowConfig(32, 4, early_values=True),
    }
    loops = {
        "64 x 64, 4 warps, 2 stages": LoopConfig(64, 64, 4, 2),
        "64 x 64, 4 warps, 3 stages": LoopConfig(64, 64, 4, 3),
        "64 x 128, 4 warps, 2 stages": LoopConfig(64, 128, 4, 2),
    }
    return {name: {"forward_row": row} for name, row in rows.items()} | {
        name: {"forward_row": None, "forward_loop": loop} for name, loop in loops.items()
    }


def _backward_tiles() -> Mapping[str, Stand]:
    from kernels.attention.configs import ALL_REGISTERS, BackwardConfig, LoopConfig

    def loop(queries: int, keys: int, warps: int, stages: int = 2) -> LoopConfig:
        return LoopConfig(queries, keys, warps, stages, ALL_REGISTERS)

    tiles = {
        "one kernel, 64 x 32, 4 warps": BackwardConfig(loop(64, 32, 4)),
        "one kernel, 64 x 64, 8 warps": BackwardConfig(loop(64, 64, 8)),
        "one kernel, 64 x 64, 4 warps, 1 stage": BackwardConfig(loop(64, 64, 4, 1)),
        "two kernels, 64 x 64": BackwardConfig(loop(64, 64, 4), loop(64, 64, 4)),
        "two kernels, 64 x 32 and 32 x 64": BackwardConfig(loop(64, 32, 4), loop(32, 64, 4)),
    }
    return {name: {"backward": config} for name, config in tiles.items()}


def _norm_tiles() -> Mapping[str, Stand]:
    forward = {"2 rows, 8 warps": (2, 1024, 8), "1 row, 4 warps": (1, 1024, 4), "4 rows, 8 warps": (4, 1024, 8)}
    backward = {"2 rows, 8 warps": (2, 1024, 8), "2 rows, 4 warps": (2, 1024, 4), "1 row, 8 warps": (1, 1024, 8)}
    return {f"forward {name}": {"_forward_tile": tile} for name, tile in forward.items()} | {
        f"backward {name}": {"_backward_tile": tile} for name, tile in backward.items()
    }


def _pair_tiles() -> Mapping[str, Stand]:
    from kernels.infonce.tiles import _Tiles

    tiles = {
        "128 x 128, 8 warps, 4 stages": _Tiles(128, 128, 64, 8, 4),
        "128 x 128, 4 warps, 4 stages": _Tiles(128, 128, 64, 4, 4),
        "128 x 256, 8 warps, 3 stages": _Tiles(128, 256, 64, 8, 3),
        "256 x 128, 8 warps, 3 stages": _Tiles(256, 128, 64, 8, 3),
        "128 x 128, 8 warps, 3 stages, steps of 128": _Tiles(128, 128, 128, 8, 3),
    }
    return {name: {"_tiles": tile} for name, tile in tiles.items()}


def _group_tiles() -> Mapping[str, Stand]:
    from kernels.grouped_infonce.op import Config

    tiles = {
        "64 rows, steps of 64, 8 warps": Config(64, 64, 8, 3),
        "64 rows, steps of 32, 4 warps": Config(64, 32, 4, 3),
        "64 rows, steps of 64, 2 stages": Config(64, 64, 4, 2),
        "32 rows, steps of 64, 4 warps": Config(32, 64, 4, 3),
    }
    return {name: {"_backward_config": config} for name, config in tiles.items()}


def _norm(device: Device) -> Sample:
    shape = (2, 3, 16) if device.rehearses else (256, 64, 768)
    return inputs.norm(device, shape, device.dtype, 0, gated=True, dropout_p=0.0)


def _pairs(device: Device) -> Sample:
    shape = (24, 16) if device.rehearses else (_PAIRS, contrast.WIDTH)
    return inputs.pairs(device, shape, device.dtype, 0)


def _groups(device: Device) -> Sample:
    return inputs.groups(device, (2, 5, 16) if device.rehearses else (256, 64, 256), device.dtype, 0)


SWEEPS = (
    Sweep(
        "sweep, attention forward", kernels.cross_attention, _attention(guided=False, backward=False),
        "kernels.attention.configs", _forward_tiles,
    ),
    Sweep(
        "sweep, attention backward", kernels.cross_attention, _attention(guided=False, backward=True),
        "kernels.attention.configs", _backward_tiles,
    ),
    Sweep(
        "sweep, attention backward with bias and mass", kernels.cross_attention,
        _attention(guided=True, backward=True), "kernels.attention.configs", _backward_tiles,
    ),
    Sweep(
        "sweep, info_nce", partial(kernels.info_nce, mode="chunked"), _pairs, "kernels.infonce.tiles", _pair_tiles
    ),
    Sweep("sweep, gated_residual_norm", kernels.gated_residual_norm, _norm, "kernels.gated_norm.op", _norm_tiles),
    Sweep(
        "sweep, grouped_info_nce backward", kernels.grouped_info_nce, _groups, "kernels.grouped_infonce.op",
        _group_tiles,
    ),
)  # fmt: skip
