"""Small kernels, one without a fault and one for each fault that the static judgement must find.

Run as a program, without TRITON_INTERPRET, it compiles them and prints their rows as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl

from kernels.inspect.shipped import Call
from kernels.launch import launch


@triton.jit
def copy_kernel(p_x, p_out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(p_out + offset, tl.load(p_x + offset, mask=offset < n), mask=offset < n)


@triton.jit
def copy_twice_kernel(p_x, p_out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(p_x + offset, mask=offset < n)
    tl.store(p_out + offset, tl.maximum(first, tl.load(p_x + offset, mask=offset < n)), mask=offset < n)


@triton.jit
def atomic_kernel(p_x, p_out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(p_out + offset, tl.load(p_x + offset, mask=offset < n), mask=offset < n)


@triton.jit
def spill_kernel(p_x, p_out, n, BLOCK: tl.constexpr):
    offset = tl.arange(0, BLOCK)
    x = tl.load(p_x + offset, mask=offset < n, other=0.0)
    tl.store(p_out + offset, x - tl.sum(x), mask=offset < n)


@triton.jit
def product_kernel(p_x, p_out, n, BLOCK: tl.constexpr, PRECISION: tl.constexpr):
    row, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, n, BLOCK):
        x = tl.load(p_x + row * n + start + column)
        y = tl.load(p_x + (start + row) * BLOCK + column)
        total = tl.dot(x, y, total, input_precision=PRECISION)
    tl.store(p_out + row * BLOCK + column, total)


def call(
    kernel: Any,
    n: int,
    dtype: torch.dtype,
    case: str = "",
    warps: int = 1,
    stages: int = 1,
    wanted: int = 1,
    **constants: Any,
) -> Call:
    def run(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        launch(kernel, (triton.cdiv(n, 256),), x, out, n, num_warps=warps, num_stages=stages, **constants)
        return out

    return Call(
        "planted", case, run, lambda device: (torch.zeros(n, dtype=dtype, device=device),), programs_per_sm=wanted
    )


def calls() -> Iterator[Call]:
    """One of each; the case says what is planted."""
    half, single = torch.bfloat16, torch.float32
    yield call(copy_kernel, 1000, single, "nothing, element by element", BLOCK=256)
    yield call(product_kernel, 256, half, "nothing, in a product", 4, 2, BLOCK=64, PRECISION="tf32")
    yield call(product_kernel, 256, single, "nothing, in a product of float32", 4, 2, BLOCK=32, PRECISION="tf32x3")
    yield call(atomic_kernel, 1000, single, "an atomic", BLOCK=256)
    yield call(product_kernel, 256, single, "plain TF32", 4, 2, BLOCK=32, PRECISION="tf32")
    yield call(spill_kernel, 8192, single, "a spill", BLOCK=8192)
    yield call(product_kernel, 4096, half, "too much shared memory", 4, 16, BLOCK=64, PRECISION="ieee")
    yield call(copy_kernel, 1000, single, "too few programs", 4, wanted=33, BLOCK=512)


if __name__ == "__main__":
    from kernels.inspect import compilation

    todo = compilation.launches(calls(), 90)
    for arch in (80, 100):
        todo += compilation.launches(list(calls())[1:2], arch)
    json.dump(compilation.compile_all(todo), sys.stdout)
