"""The two contrastive losses, forward and backward: ours against eager PyTorch; on a GPU torch.compile and peers too.

`extra_info` holds what a step held at its peak beyond its inputs: as the caching allocator counts it on a GPU, and
PyTorch's allocator on a CPU.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch

import kernels
from kernels.bench.local import one
from kernels.bench.measure.allocated import peak_bytes
from kernels.bench.measure.timing import Variant, forward_backward
from kernels.bench.works import eager, inputs, peers
from kernels.dispatch import Impl, Mode

DEVICE = one.here()
ON_GPU = DEVICE.name == "cuda"
WIDTH = 768 if ON_GPU else 256
PAIRS = (256, 1024, 4096, 16384, 65536) if ON_GPU else (256, 1024, 4096)
ONE_PRODUCT = "eager, one product"
MOST_PAIRS = {"save": 16384 if ON_GPU else 1024}
GROUPS = (256, 64, 256) if ON_GPU else (64, 32, 256)  # G, N, D
SECONDS = 0.5  # of steps


def _ours(impl: Impl, mode: Mode) -> Variant:
    return forward_backward(partial(kernels.info_nce, impl=impl, mode=mode, workspace_bytes=2**34))


def _variants() -> dict[str, Variant]:
    impl: Impl = "triton" if ON_GPU else "torch"
    found = {mode: _ours(impl, mode) for mode in ("save", "chunked")}
    found["eager"] = forward_backward(eager.info_nce)
    found[ONE_PRODUCT] = forward_backward(eager.info_nce_one_product)
    if not ON_GPU:
        return found | {"reference": forward_backward(partial(kernels.info_nce, impl="reference"))}
    found["torch, chunked"] = _ours("torch", "chunked")
    found[peers.COMPILED] = peers.compiled(DEVICE, eager.info_nce)
    for name, make in ((peers.SIGLIP, peers.siglip_kernel), (peers.INF_CL, peers.inf_cl)):
        with suppress(ImportError):  # a peer that is not installed
            found[name] = make()
    return found


VARIANTS = _variants()


@pytest.mark.parametrize(
    ("pairs", "variant"),
    [(pairs, name) for pairs in PAIRS for name in VARIANTS if pairs <= MOST_PAIRS.get(name, PAIRS[-1])],
)
def test_info_nce(benchmark: Any, pairs: int, variant: str) -> None:
    sample = inputs.pairs(DEVICE, (pairs, WIDTH), DEVICE.dtype, 0)
    benchmark.group = f"info_nce {pairs, WIDTH}, forward + backward, {DEVICE.dtype}"
    benchmark.extra_info["compiled for sm_90"] = one.static_facts("info_nce")

    def step() -> None:
        VARIANTS[variant].step(sample)
        DEVICE.synchronize()

    start = time.perf_counter()
    try:
        benchmark.extra_info["peak_bytes"] = DEVICE.extra_bytes(step) if ON_GPU else peak_bytes(step)
    except torch.OutOfMemoryError as error:
        pytest.skip(str(error).splitlines()[0])
    seconds = time.perf_counter() - start
    benchmark.pedantic(step, rounds=max(1, min(50, round(SECONDS / seconds))))


def _grouped() -> dict[str, Variant]:
    impls: tuple[Impl, ...] = ("torch", "reference", "triton") if ON_GPU else ("torch", "reference")
    found: dict[str, Variant] = {"eager": forward_backward(eager.grouped_info_nce)}
    found |= {impl: forward_backward(partial(kernels.grouped_info_nce, impl=impl)) for impl in impls}
    return found | ({peers.COMPILED: peers.compiled(DEVICE, eager.grouped_info_nce)} if ON_GPU else {})


GROUPED = _grouped()


@pytest.mark.parametrize("variant", GROUPED)
def test_grouped_info_nce(benchmark: Any, variant: str) -> None:
    sample = inputs.groups(DEVICE, GROUPS, DEVICE.dtype, 0)
    work = f"grouped_info_nce {GROUPS}, forward + backward"
    one.time(benchmark, DEVICE, work, "grouped_info_nce", GROUPED[variant], sample)
