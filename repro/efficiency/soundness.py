"""Does CLAMP train soundly on this device: the same losses on all operators, the same bits again and over DDP?

Asked before anything is timed on a GPU, at the size that is timed there, so that what would stop a run of profile
`paper` stops here, in two minutes. Every course is a process of its own: one that crashes leaves the others whole.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clamp.data.collate import Batch
from clamp.model import Tagger
from clamp.training.train import make_deterministic, make_optimizer
from kernels.bench.measure.timing import explain
from repro.efficiency.steps import precision
from repro.efficiency.systems import CLAMP, Size, build, make_batch
from repro.efficiency.timing import spread, synchronise
from repro.plan.profiles import paper_config

Row = dict[str, Any]
AGREES, REPEATS, DDP = "agrees with the reference operators", "repeats to the bit", "is the same over DDP"

_TWEETS, _BATCHES, _SEED = 16, 4, 0
_CLIP_NORM = 1.0
# Of a loss and of a gradient's norm, relative: bfloat16 rounds each number by up to 0.004, float32 by 6e-8, and a
# course adds up what its steps' differences have led to.
_BOUNDS = {"cuda": (0.02, 0.1), "cpu": (1e-5, 5e-5)}


class Course(NamedTuple):
    """What some training steps came to, and what they cost."""

    losses: list[float]
    norms: list[float]  # of the gradient, before clipping
    seconds: list[float]
    peak_bytes: int | None  # of torch's allocator on CUDA
    waits: list[str]  # where the processor waited for the GPU within a step, by source line
    weights: str  # a digest of the parameters in the end


def rows(size: Size, device: torch.device, own: str, steps: int) -> Iterator[Row]:
    """A row a check: `right`, and what it was judged by; or `error`."""
    reference, *others = [n for n, operators in CLAMP.items() if operators != "triton" or device.type == "cuda"]
    expected = yield from _course_rows(reference, AGREES, size, device, steps, None)
    for name in others:
        yield from _course_rows(name, AGREES, size, device, steps, expected)
    once = yield from _course_rows(own, REPEATS, size, device, steps, None, dropping=True)
    for check, wrapped in ((REPEATS, False), (DDP, True)):
        row = {"variant": own, "check": check, "steps": steps}
        try:
            again = _apart(own, size, device, steps, True, wrapped)
        except Exception as error:
            yield row | {"right": False, "error": explain(error)}
        else:
            yield row | {"right": once is not None and again.weights == once.weights and again.losses == once.losses}


def _course_rows(
    name: str, check: str, size: Size, device: torch.device, steps: int, expected: Course | None, dropping: bool = False
) -> Any:
    """A generator of at most one row, which returns the course, or None where it did not come to its end."""
    row = {"variant": name, "check": check, "steps": steps}
    try:
        course = _apart(name, size, device, steps, dropping, False)
    except Exception as error:
        yield row | {"right": False, "error": explain(error)}
        return None
    if not dropping:
        finite = all(value == value for value in (*course.losses, *course.norms))
        row |= {"ms": spread(course.seconds[1:], 1e3), "peak_bytes": course.peak_bytes, "waits": course.waits}
        row |= {"losses": course.losses, "norms": course.norms, "right": finite}
        if expected is not None:
            differences = _difference(course.losses, expected.losses), _difference(course.norms, expected.norms)
            row |= {"loss_difference": differences[0], "norm_difference": differences[1]}
            row["right"] = all(d <= bound for d, bound in zip(differences, _BOUNDS[device.type], strict=True))
        yield row
    return course


def _difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest, relative to what was expected; NaN where one is not finite."""
    differences = [abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True)]
    return float(torch.tensor(differences).max())


def _apart(name: str, size: Size, device: torch.device, steps: int, dropping: bool, wrapped: bool) -> Course:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        work = (name, size, str(device), steps, dropping, wrapped, torch.get_num_threads())
        return pool.submit(course_of, *work).result()


def course_of(
    name: str, size: Size, device_name: str, steps: int, dropping: bool, wrapped: bool, threads: int
) -> Course:
    """Train a system for some steps as a run does: deterministic algorithms, autocast on CUDA, its optimiser.

    dropping: with dropout, which operators draw each in its own way. wrapped: as the one process of a DDP run.
    """
    make_deterministic(_SEED, threads)
    device = torch.device(device_name)
    model = build(name, size, device).train(dropping)
    assert isinstance(model, Tagger)
    _fill_zeros(model)
    optimizer = make_optimizer(model, paper_config("twitter2015").train)
    batches = [make_batch(size, _TWEETS, device, seed=seed) for seed in range(_BATCHES)]
    torch.manual_seed(_SEED)
    losses, norms, seconds, waits = [], [], [], set()
    with _process_group(device, wrapped):
        total: nn.Module = _Total(model)
        if wrapped:
            total = DistributedDataParallel(total, find_unused_parameters=True)
        for step in range(steps):
            begun = time.perf_counter()
            with _waits(device) as noticed:
                loss, norm = _step(total, batches[step % _BATCHES], optimizer)
            synchronise(device)
            seconds.append(time.perf_counter() - begun)
            losses.append(loss)
            norms.append(norm)
            waits |= set(noticed) if step else set()  # a first step compiles and allocates
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Course(
        torch.stack(losses).tolist(), torch.stack(norms).tolist(), seconds, peak, sorted(waits), _digest(model)
    )


class _Total(nn.Module):
    """What DDP wraps: a batch's weighted loss."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.model.total(self.model.losses(self.model(batch), batch))


def _step(total: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
    """The loss and the gradient's norm, still on the device: reading them would wait for it."""
    optimizer.zero_grad(set_to_none=True)
    with precision(batch.token_ids_BS.device):
        loss: Tensor = total(batch)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(total.parameters(), _CLIP_NORM)
    optimizer.step()
    return loss.detach(), norm.detach()


@contextmanager
def _waits(device: torch.device) -> Iterator[list[str]]:
    """The source lines at which the processor waited for the GPU meanwhile; known at the end, and on CUDA alone."""
    noticed: list[str] = []
    if device.type != "cuda":
        yield noticed
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield noticed
        finally:
            torch.cuda.set_sync_debug_mode("default")
    noticed += [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


@contextmanager
def _process_group(device: torch.device, wanted: bool) -> Iterator[None]:
    """A group of this process alone, on this machine's loopback."""
    if not wanted:
        yield
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _fill_zeros(model: nn.Module) -> None:
    """Give weights that start at zero, so that CLAMP starts as its text, random ones: they would hide the operators."""
    for parameter in model.parameters():
        if parameter.ndim >= 2 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)


def _digest(model: nn.Module) -> str:
    """16 hex digits of all parameters' bits."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
