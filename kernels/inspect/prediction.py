"""How long an operator would take on an H200, from what its kernels compile to. A prediction: nothing here is measured.

A launch keeps memory busy, which moves each of its tensors once; the tensor cores, with its padded products; and, on
the multiprocessor with most programs, the ports of special functions (MUFU) and of loads and stores (LSU), and the
issue of instructions, for which too few warps find too little to do. A program executes its code once, and each
innermost loop as often as the shape says. If all of that overlaps a launch takes as long as the busiest, at least; if
memory and the rest do not overlap at all, as long as both, at most. docs/kernels.md says what this leaves out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels import launch
from kernels.inspect import compilation, shipped
from kernels.inspect.compilation import Launch
from kernels.inspect.shipped import Call
from kernels.inspect.traffic import compulsory_bytes

Row = dict[str, Any]

# NVIDIA's data sheets of the H200 SXM and of Hopper; no clock or rate was measured by us.
BYTES_PER_SECOND = 4.8e12
CLOCK = 1.83e9  # boost
MULTIPROCESSORS = 132
TENSOR_FLOPS_PER_CLOCK = 4096  # of a multiprocessor, dense 16-bit products
_ATTENTION = (256, 12, 64, 197, 64)  # (B, H, Lq, Lk, D)
_QUARTERS = 4  # of a multiprocessor, each of which issues an instruction of one warp a clock
_CLOCKS = {"MUFU": 8.0, "LSU": 4.0}  # for which an instruction of one warp keeps a quarter's port
_LSU = ("LDS", "LDSM", "LDG", "LDGSTS", "LD", "STS", "STSM", "STG", "ST", "LDL", "STL", "SHFL")
_ISSUES_NOTHING = ("NOP",)
_ISSUES_A_WARP = 0.5  # a clock, for what one instruction waits for another; an assumption
_LAUNCH_SECONDS = 2e-6  # between two kernels of a stream that is never idle; an assumption
_LIBRARY_SHARE = 0.7  # of the tensor cores' rate, in a library's own large products; an assumption


@dataclass(frozen=True)
class Work:
    """One launch at full size: how many programs, how often a program goes round its loops, and its padded products."""

    grid: int
    trips: float
    tensor_flops: float  # of all programs
    bytes: int


def seconds_of(compiled: Mapping[str, Any], work: Work) -> dict[str, float]:
    """Seconds of a launch by what could bound it, from a row of `compile_report`."""
    executed = Counter[str](compiled["instructions"])
    for loop in compiled["loops"]:
        for name, count in loop.items():
            executed[name] += round(count * (work.trips - 1))
    issued = sum(count for name, count in executed.items() if name not in _ISSUES_NOTHING)
    programs = math.ceil(work.grid / MULTIPROCESSORS)  # on the multiprocessor that has most: waves of 132
    warps_at_once = min(programs, compiled["programs_per_sm"]) * compiled["warps"] / _QUARTERS
    warps = programs * compiled["warps"] / _QUARTERS  # that a quarter of it works off, one after another
    clocks = {
        "issue": issued * warps / min(1.0, _ISSUES_A_WARP * warps_at_once),
        "MUFU": executed["MUFU"] * _CLOCKS["MUFU"] * warps,
        "LSU": sum(executed[name] for name in _LSU) * _CLOCKS["LSU"] * warps,
        "tensor": programs * work.tensor_flops / work.grid / TENSOR_FLOPS_PER_CLOCK,
    }
    return {name: count / CLOCK for name, count in clocks.items()} | {"memory": work.bytes / BYTES_PER_SECOND}


def predictions() -> list[Row]:
    """A row an operator and typical shape, forward and backward, bfloat16: predicted seconds, from `least` to `most`.

    Also the bound of most of the least, and the floor: what memory needs for inputs and outputs, or the tensor cores
    for the products, whichever is more. Beside attention, what eager PyTorch moves, counted by hand. Compiles for
    sm_90: not where Triton interprets.
    """
    rows = [_predicted(work, calls) for work, calls in _typical().items()]
    return [rows[0], _eager(rows[0]), *rows[1:]]


def _typical() -> dict[str, list[Call]]:
    half = torch.bfloat16
    guided = frozenset({"mask", "bias", "mass", "query mask"})
    return {
        "cross_attention, key mask": [*shipped.cross_attention(_ATTENTION, half, frozenset({"mask"}))],
        "cross_attention, key mask, bias and mass": [*shipped.cross_attention(_ATTENTION, half, guided)],
        "gated_residual_norm, gate and dropout": [*shipped.gated_residual_norm(256 * 64, 768, half, True, True)],
        "grouped_info_nce, words": [*shipped.grouped_info_nce((256, 64, 256), half, False)],
        "info_nce, N 16384": [*shipped.info_nce(16384, 768, half, "chunked", False)],
    }


def _predicted(work: str, calls: list[Call]) -> Row:
    by_bound: dict[str, float] = defaultdict(float)
    launches = flops = 0
    hidden = 0.0  # the lesser of memory and the rest
    for call in calls:
        started, library_flops = _observed(call)
        for (one, grid), row in zip(started, compilation.compile_all([one for one, _ in started]), strict=True):
            found = seconds_of(row, _work_of(one, grid))
            bound = max(found, key=found.__getitem__)
            by_bound[bound] += found[bound]
            hidden += min(found["memory"], max(s for name, s in found.items() if name != "memory"))
        by_bound["library"] += library_flops / _LIBRARY_SHARE / _tensor_rate()
        launches += len(started)
        flops += library_flops + sum(_tensor_flops(one.named, one.name) for one, _ in started)
    least = sum(by_bound.values()) + launches * _LAUNCH_SECONDS
    bound = max(by_bound, key=by_bound.__getitem__)
    return {
        "work": work,
        "least_seconds": least,
        "most_seconds": least + hidden,
        "bound": bound,
        "bound_share": by_bound[bound] / least,
        "floor_seconds": max(sum(map(compulsory_bytes, calls)) / BYTES_PER_SECOND, flops / _tensor_rate()),
        "launches": launches,
    }


def _eager(ours: Row) -> Row:
    """Attention as eager PyTorch does it, bound by memory: what it must move, and its logits eleven times.

    Written and read before the softmax and after it, forward; backward the probabilities read twice, their gradient
    written and read, and that of the logits written and read twice.
    """
    B, H, Lq, Lk, _ = _ATTENTION
    seconds = ours["floor_seconds"] + 11 * 2 * B * H * Lq * Lk / BYTES_PER_SECOND
    facts = {"least_seconds": seconds, "most_seconds": None, "bound": "memory", "bound_share": 1.0, "launches": None}
    return {"work": f"{ours['work']}: eager, counted", "floor_seconds": ours["floor_seconds"], **facts}


def _tensor_rate() -> float:
    return MULTIPROCESSORS * TENSOR_FLOPS_PER_CLOCK * CLOCK


def _observed(call: Call) -> tuple[list[tuple[Launch, int]], int]:
    """Each launch that a call makes, with its number of programs, and the FLOPs of torch's own products."""
    started: list[tuple[Launch, int]] = []

    def observe(kernel: Any, grid: launch.Grid, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        started.append((Launch(kernel, arguments, options, 90, [call]), math.prod(grid)))

    arguments, products = call.arguments(torch.device("meta")), _Products()
    with launch.observed(observe, 90), products:
        call.function(*arguments)
    return started, products.flops


class _Products(TorchDispatchMode):
    """Counts the FLOPs of torch's matrix products, those in place too, which torch's own counter passes over."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            x_MK, y_KN = [argument for argument in args if isinstance(argument, torch.Tensor)][-2:]
            self.flops += 2 * x_MK.numel() * y_KN.shape[1]
        return func(*args, **(kwargs or {}))


def _work_of(started: Launch, grid: int) -> Work:
    named = started.named
    trips_of = _TRIPS.get(started.name)
    trips = max(trips_of(named, grid), 1.0) if trips_of else 1.0
    tensors = {id(t): t for t in tree_leaves(started.arguments) if isinstance(t, torch.Tensor)}
    moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return Work(grid, trips, _tensor_flops(named, started.name), moved)


def _tensor_flops(named: Mapping[str, Any], kernel: str) -> int:
    """Of a launch's products on tensor cores, tiles padded to their size."""
    flops_of = _FLOPS.get(kernel)
    return int(flops_of(named)) if flops_of else 0


def _padded(length: int, block: int) -> int:
    return -(-length // block) * block


def _attention(products: int) -> Callable[[Mapping[str, Any]], float]:
    """Of so many products of all queries with all keys."""

    def flops(n: Mapping[str, Any]) -> float:
        batch, heads, _, width = next(x.shape for x in tree_leaves(n["q"]) if isinstance(x, torch.Tensor))
        keys = _padded(n["Lk"], n.get("BLOCK_K", 16))
        return 2 * products * batch * heads * _padded(n["Lq"], n["BLOCK_Q"]) * keys * width

    return flops


def _pairs(n: Mapping[str, Any]) -> float:
    return 2 * _padded(n["rows"], n["BLOCK_M"]) * _padded(n["columns"], n["BLOCK_K"]) * n["width"]


# How often a program goes round its innermost loops, of a launch's arguments and its number of programs.
_TRIPS: dict[str, Callable[[Mapping[str, Any], int], float]] = {
    "attention_fwd_loop_kernel": lambda n, _: n["Lk"] / n["BLOCK_K"],
    "attention_bwd_queries_kernel": lambda n, _: n["Lk"] / n["BLOCK_K"],
    "attention_bwd_keys_kernel": lambda n, _: n["Lq"] / n["BLOCK_Q"],
    "info_nce_statistics_kernel": lambda n, _: n["width"] / n["STEP"],
    "info_nce_gradient_kernel": lambda n, _: n["width"] / n["STEP"],
    "info_nce_pairs_kernel": lambda n, _: n["width"] / n["BLOCK_D"],
    "info_nce_finish_kernel": lambda n, _: n["width"] / n["BLOCK_D"],
    "gated_norm_fwd_kernel": lambda n, grid: n["rows"] / n["ROWS"] / grid,
    "gated_norm_bwd_kernel": lambda n, grid: n["rows"] / n["ROWS"] / grid,
}
_FLOPS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "attention_fwd_row_kernel": _attention(2),
    "attention_fwd_loop_kernel": _attention(2),
    "attention_bwd_queries_kernel": _attention(5),
    "info_nce_statistics_kernel": _pairs,
    "info_nce_gradient_kernel": _pairs,
}
