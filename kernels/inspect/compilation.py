"""What a launch compiles to, without a GPU: instructions, registers and memory, read from the machine code.

A call's own launch function runs on meta tensors under `launch.observed`, and each launch that it makes is compiled by
Triton's own just-in-time path, with its own specialisation, for a GPU that need not be there. Nothing is declared a
second time, so nothing that a GPU would run is missed or made up.
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from kernels import launch
from kernels.inspect import machine_code
from kernels.inspect.shipped import Call

WARP = 32
REGISTERS_PER_SM = 65536
WARPS_PER_SM = 64
PROGRAMS_PER_SM = 32
TENSOR_MEMORY_COLUMNS = 512
# CUDA C++ Programming Guide, technical specifications by compute capability; CUDA keeps 1 KiB of each program's.
SHARED_BYTES_PER_SM = {80: 164 * 1024, 90: 228 * 1024, 100: 228 * 1024}
RESERVED_SHARED_BYTES = 1024

_FLOATS = ("bfloat16", "float16", "float32")
_SPILLS = ("LDL", "STL")
_ATOMICS = ("ATOM", "ATOMG", "RED", "REDG", "UBLKRED", "UTMAREDG")  # on global memory; ATOMS is on shared memory
_TENSOR_CORE_5 = re.compile(r"^\s*(?:@\S+\s+)?tcgen05\.mma", re.MULTILINE)
_DOT = re.compile(r"tt\.dot (.*?) : tensor<(?:\d+x)+(\w+)>")
_PRECISION = re.compile(r"inputPrecision = (\w+)")
_TF32_INSTRUCTION = re.compile(r"\b(?:tcgen05\.mma\S*kind::tf32|(?:wgmma\.mma_async|mma\.sync)\S*\.tf32)")

Row = dict[str, Any]


@dataclass(frozen=True)
class Launch:
    """A start of a kernel on a GPU of compute capability arch / 10, and the calls that start it in the same config."""

    kernel: Any
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    arch: int
    calls: list[Call] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__

    @property
    def named(self) -> dict[str, Any]:
        """Arguments and options by name."""
        return dict(zip(_parameters(self.kernel.fn), self.arguments, strict=False)) | dict(self.options)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What decides the tiles: each tensor's type, each constant's and option's value, None for what is left out."""
        parameters = _parameters(self.kernel.fn)
        config: dict[str, Any] = {}
        for name, value in self.named.items():
            # A tensor can come with its strides, in a tuple.
            tensors = [part for part in (value if isinstance(value, tuple) else (value,)) if torch.is_tensor(part)]
            if tensors:
                config[name] = str(tensors[0].dtype).removeprefix("torch.")
            elif value is None or name not in parameters or "constexpr" in str(parameters[name].annotation):
                config[name] = value
        return config

    @cached_property
    def specialised(self) -> str:
        """What else Triton compiles for, a letter an integer: 1, a multiple of 16, or another. It changes loads."""
        integers = [value for value in tree_leaves(self.arguments) if isinstance(value, int)]
        return "".join("1" if value == 1 else "x" if value % 16 == 0 else "." for value in integers)


@cache
def _parameters(function: Callable[..., None]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def launches(calls: Iterable[Call], arch: int) -> list[Launch]:
    """The launches that `calls` make on meta tensors, one for each that Triton compiles for itself."""
    found: dict[tuple[str, str, str], Launch] = {}
    for call in calls:

        def observe(
            kernel: Any, grid: launch.Grid, arguments: tuple[Any, ...], options: Mapping[str, Any], call: Call = call
        ) -> None:
            started = Launch(kernel, arguments, options, arch)
            first = found.setdefault((started.name, repr(started.config), started.specialised), started)
            first.calls.append(call)

        with launch.observed(observe, arch):
            call.function(*call.arguments(torch.device("meta")))
    return list(found.values())


def compile_all(todo: Sequence[Launch], progress: Callable[[int, str], None] = lambda done, name: None) -> list[Row]:
    """One row for each launch, as `inspect.compile_report` has them, compiled by as many processes as processors.

    Not where Triton interprets: it has no compiler there.
    """
    names = _names(todo)
    rows: list[Row] = []
    cubins: list[bytes] = []
    workers = max(1, min(len(todo), len(os.sched_getaffinity(0))))
    # Forked, because neither kernels nor their arguments can be pickled.
    with multiprocessing.get_context("fork").Pool(workers, _begin_worker, (todo,)) as pool:
        for started, name, (facts, cubin) in zip(todo, names, pool.imap(_compile, range(len(todo))), strict=True):
            wanted = max(call.programs_per_sm for call in started.calls) if started.arch == 90 else 1
            call = started.calls[0]
            row = {"operator": call.operator, "kernel": started.name, "config": name, "case": call.case}
            rows.append(row | {"arch": started.arch, "wanted_programs_per_sm": wanted} | facts)
            cubins.append(cubin)
            progress(len(rows), f"sm_{started.arch} {started.name} {name}")
    _add_instructions(rows, cubins)
    return rows


def _add_instructions(rows: list[Row], cubins: list[bytes]) -> None:
    for arch in {row["arch"] for row in rows}:
        compiled = [index for index, row in enumerate(rows) if row["arch"] == arch and "error" not in row]
        listings = machine_code.listings([cubins[index] for index in compiled], arch)
        for index, listing in zip(compiled, listings, strict=True):
            count, main = machine_code.counts(listing), machine_code.main_loop(listing)
            rows[index] |= {
                "spills": sum(count[name] for name in _SPILLS),
                "wgmma": count["HGMMA"],
                "hmma": count["HMMA"],
                "atomics": sum(count[name] for name in _ATOMICS),
                "in_loop": 0 if main is None else main.counts.total(),
                "after_loop": 0 if main is None else machine_code.instructions_after(listing, main),
                "loops": [dict(loop.counts) for loop in machine_code.loops(listing)],
                "instructions": dict(count),
            }


def _names(todo: Sequence[Launch]) -> list[str]:
    """Each config for the reader: main type, optional tensors that are there, constants, warps and stages."""
    configs = [started.config for started in todo]
    optional: dict[str, set[str]] = {}
    for started, config in zip(todo, configs, strict=True):
        optional.setdefault(started.name, set()).update(name for name, value in config.items() if value is None)
    return [_name(config, optional[started.name]) for started, config in zip(todo, configs, strict=True)]


def _name(config: Mapping[str, Any], optional: set[str]) -> str:
    types = [value for value in config.values() if value in _FLOATS]
    parts = [min(types, key=_FLOATS.index)] if types else []
    for name, value in sorted(config.items(), key=lambda item: item[0].startswith("num_")):
        if value is None or value is False:
            continue
        if value is True or (name in optional and isinstance(value, str)):
            parts.append("+" + name.removeprefix("p_").lower())
        elif name.isupper() or not isinstance(value, str):
            parts.append(f"{name}={value}")
    return " ".join(parts)


_todo: Sequence[Launch] = ()


def _begin_worker(todo: Sequence[Launch]) -> None:
    global _todo
    _todo = todo
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _AbsentGPU:
    """As much of Triton's driver as compiling asks for."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return self._target.arch

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def _compile(index: int) -> tuple[Row, bytes]:
    """What is to be known of a launch, but for its instructions, and the code that has these."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    started = _todo[index]
    driver.set_active(_AbsentGPU(GPUTarget("cuda", started.arch, WARP)))
    with tempfile.TemporaryFile("w+") as complaints:
        # The compiler writes them, and thousands of lines of its code, to the process's standard error.
        os.dup2(complaints.fileno(), sys.stderr.fileno())
        try:
            compiled = started.kernel.warmup(*started.arguments, grid=(1,), **started.options)
        except Exception as error:  # of many kinds
            complaints.seek(0)
            written = [line.rstrip() for line in complaints if " error: " in line]
            return {"error": " ".join([*written[:1], f"({type(error).__name__}: {error})".replace("\n", " ")])}, b""
    return _facts(compiled, started.arch), compiled.asm["cubin"]


def _facts(compiled: Any, arch: int) -> Row:
    dots = _DOT.findall(compiled.asm["ttir"])
    metadata = compiled.metadata
    occupied = machine_code.resources(compiled.asm["cubin"])
    registers, shared_bytes, columns = occupied["REG"], metadata.shared, metadata.tmem_size or 0
    return {
        "triton": metadata.triton_version,
        "warps": metadata.num_warps,
        "registers": registers,
        "stack_bytes": occupied["STACK"],
        "shared_bytes": shared_bytes,
        "programs_per_sm": programs_per_sm(registers, metadata.num_warps, shared_bytes, columns, arch),
        "dots_16bit": sum(element in ("f16", "bf16") for _, element in dots),
        "tcgen05": len(_TENSOR_CORE_5.findall(compiled.asm["ptx"])),
        "plain_tf32": plain_tf32(compiled.asm["ttir"], compiled.asm["ptx"]),
    }


def plain_tf32(ttir: str, ptx: str) -> int:
    """How many products of float32 matrices are rounded to TF32, by the kernel's wish or against it.

    Triton 3.7.1 can compile one that asks for "ieee" to TF32 instructions: sm_100, operands that pass through a mask.
    """
    asked = [_PRECISION.findall(operands) for operands, element in _DOT.findall(ttir) if element == "f32"]
    if any(asked):
        return asked.count(["tf32"])
    return len(_TF32_INSTRUCTION.findall(ptx)) if asked else 0


def programs_per_sm(registers: int, warps: int, shared_bytes: int, tensor_memory_columns: int, arch: int) -> int:
    """How many programs of a kernel one streaming multiprocessor holds at a time (as in CUDA's cuda_occupancy.h)."""
    registers_per_warp = -(-registers * WARP // 256) * 256
    warps_by_registers = REGISTERS_PER_SM // 4 // registers_per_warp * 4  # each quarter of an SM has its own registers
    warps = -(-warps // 4) * 4
    limits = [PROGRAMS_PER_SM, WARPS_PER_SM // warps, warps_by_registers // warps]
    limits.append(SHARED_BYTES_PER_SM[arch] // (shared_bytes + RESERVED_SHARED_BYTES))
    if tensor_memory_columns:
        limits.append(TENSOR_MEMORY_COLUMNS // tensor_memory_columns)
    return min(limits)
