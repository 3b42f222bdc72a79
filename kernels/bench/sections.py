"""The parts of a GPU report, what each may take, and how they are run: a failure in one leaves the others whole."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from kernels.bench.measure.devices import Cuda, Device, Rehearsal
from kernels.bench.measure.timing import Row, explain
from kernels.bench.messages import Hearing, say
from kernels.bench.works import attention, ceilings, checks, contrast, fusion, norm

Rows = Callable[[Device], Iterator[Row]]
Emit = Callable[[str, Row], None]
Outcome = dict[str, Any]  # of a section: seconds, and error where it did not end


@dataclass(frozen=True)
class Section:
    rows: Rows
    seconds: float  # after which it is stopped
    timed: bool = True  # needs the GPU to itself


def sections(rehearse: bool) -> dict[str, Section]:
    """Name -> section, in the order in which they are run. Checks come first."""
    types = (torch.float16, torch.float32) if rehearse else (torch.bfloat16, torch.float16, torch.float32)
    found = {}
    for dtype in types:
        for operator, cases in (("cross_attention", checks.ATTENTION), ("info_nce", checks.PAIRS)):
            found[f"check {operator} {_short(dtype)}"] = _check(partial(checks.rows, cases=cases, dtype=dtype))
    others = (*checks.NORM, *checks.GROUPS)
    found["check gated_residual_norm, grouped_info_nce"] = _check(partial(_every_type, types=types, cases=others))
    found["check fusion"] = _check(checks.stack_rows)
    return found | {
        "ceilings": Section(ceilings.rows, 30),
        "cross_attention": Section(attention.rows, 120),
        "fusion": Section(fusion.rows, 150),
        "info_nce": Section(contrast.pair_rows, 140),
        "gated_residual_norm": Section(norm.rows, 40),
        "grouped_info_nce": Section(contrast.group_rows, 30),
    }


def _check(rows: Rows) -> Section:
    return Section(rows, 150, timed=False)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _every_type(device: Device, types: Sequence[torch.dtype], cases: tuple[checks.Case, ...]) -> Iterator[Row]:
    for dtype in types:
        yield from checks.rows(device, cases, dtype)


def run_here(chosen: Mapping[str, Section], emit: Emit) -> dict[str, Outcome]:
    """A rehearsal: every section in this process, one after another."""
    device = Rehearsal()
    outcomes = {}
    for name, section in chosen.items():
        start = time.monotonic()
        outcomes[name] = _guarded(section, device, partial(emit, name)) | {"seconds": time.monotonic() - start}
    return outcomes


def _guarded(section: Section, device: Device, emit: Callable[[Row], None]) -> Outcome:
    try:
        for row in section.rows(device):
            emit(row)
    except Exception as error:
        return {"error": explain(error)}
    return {}


def _child(name: str, sender: Connection) -> None:
    """A section's process: its rows, then its outcome."""
    outcome = _guarded(sections(rehearse=False)[name], Cuda(), partial(say, sender, "row"))
    say(sender, "end", outcome)
    sender.close()
    # Tearing down a GPU process that has failed can hang or crash; all that it had to say is said.
    os._exit(0)


def run_apart(
    chosen: Mapping[str, Section], emit: Emit, deadline: float, child: Callable[[str, Connection], None] = _child
) -> dict[str, Outcome]:
    """On a GPU: every section in a process of its own, which a crash or a hang takes down alone.

    What is not timed runs side by side, everything else alone, in order. deadline: of time.monotonic(). child: what a
    process does.
    """
    untimed = [name for name, section in chosen.items() if not section.timed]
    batches = [untimed] if untimed else []
    batches += [[name] for name, section in chosen.items() if section.timed]
    outcomes: dict[str, Outcome] = {}
    for batch in batches:
        outcomes |= _run_batch({name: chosen[name] for name in batch}, emit, deadline, child)
    return outcomes


@dataclass(frozen=True)
class _Running:
    name: str
    process: Any
    started: float
    until: float
    hearing: Hearing


def _run_batch(
    batch: Mapping[str, Section], emit: Emit, deadline: float, child: Callable[[str, Connection], None]
) -> dict[str, Outcome]:
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, _Running] = {}
    outcomes: dict[str, Outcome] = {}
    for name, section in batch.items():
        now = time.monotonic()
        until = min(now + section.seconds, deadline)
        if until <= now:
            outcomes[name] = {"error": "not begun: the report's time was up", "seconds": 0.0}
            continue
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(name, sender))
        process.start()
        sender.close()  # so that the receiver sees its end when the process dies
        running[receiver] = _Running(name, process, now, until, Hearing(receiver))
    while running:
        nearest = min(one.until for one in running.values())
        ready = wait(list(running), timeout=max(0.0, nearest - time.monotonic()))
        for receiver, one in list(running.items()):
            outcome = None
            if time.monotonic() >= one.until:
                one.process.kill()
                outcome = {"error": f"stopped after {one.until - one.started:.0f} s"}
            elif receiver in ready:
                outcome = _receive(one, emit)
            if outcome is not None:
                one.process.join()
                outcomes[one.name] = outcome | {"seconds": time.monotonic() - one.started}
                del running[receiver]
    return outcomes


def _receive(one: _Running, emit: Emit) -> Outcome | None:
    """Take what has come; the outcome, if that is among it."""
    come = one.hearing.hear()
    if come is None:
        one.process.join()
        return {"error": f"its process died with exit code {one.process.exitcode}"}
    for kind, content in come:
        if kind == "end":
            return content
        emit(one.name, content)
    return None
