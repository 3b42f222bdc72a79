"""The parts of a GPU report, what each may take, and how they are run: a failure in one leaves the others whole."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from kernels.bench.measure.devices import Cuda, Device, Rehearsal
from kernels.bench.measure.rows import Earlier, Poisoned, Row
from kernels.bench.measure.timing import explain
from kernels.bench.messages import Hearing, say
from kernels.bench.works import attention, ceilings, checks, contrast, fusion, norm, preflight, sweep

Rows = Callable[[Device], Iterator[Row]]
Emit = Callable[[str, Row], None]
Child = Callable[[str, Connection, Earlier], None]
Outcome = dict[str, Any]  # of a section: seconds, error where it did not end, and what it was begun again without

PREFLIGHT = "preflight"
_MOST_RESTARTS = 3
_KEPT_FOR_LATER = 1 / 3  # of what each section that is still to come may take


@dataclass(frozen=True)
class Section:
    rows: Rows
    seconds: float  # after which it is stopped, begun again or not
    timed: bool = True  # needs the GPU to itself


def sections(rehearse: bool) -> dict[str, Section]:
    """Name -> section, in the order in which they are run: checks first, and last what is worth least."""
    types = (torch.float16, torch.float32) if rehearse else (torch.bfloat16, torch.float16, torch.float32)
    found = {PREFLIGHT: Section(preflight.rows, 40)}
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
        "sweep": Section(sweep.rows, 120),
        "profile": Section(fusion.profile_rows, 30),
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
    except Poisoned as error:
        return {"error": str(error), "poisoned": True}
    except Exception as error:
        return {"error": explain(error)}
    return {}


def _child(name: str, sender: Connection, earlier: Earlier) -> None:
    """A section's process: its rows, each announced, then its outcome."""
    device = Cuda(earlier, partial(say, sender, "trying"))
    say(sender, "end", _guarded(sections(rehearse=False)[name], device, partial(say, sender, "row")))
    sender.close()
    # Tearing down a GPU process that has failed can hang or crash; all that it had to say is said.
    os._exit(0)


def run_apart(chosen: Mapping[str, Section], emit: Emit, deadline: float, child: Child = _child) -> dict[str, Outcome]:
    """On a GPU: every section in a process of its own, which a crash or a hang takes down alone.

    The preflight comes first, and where it fails nothing else is begun. What is not timed runs side by side, everything
    else alone, in order. A section whose process dies, or can do nothing more on its GPU, is begun again without what
    it was trying. deadline: of time.monotonic(), which sections share: each leaves a part of theirs to those that
    follow. child: what a process does.
    """
    failed = []

    def heard(section: str, row: Row) -> None:
        emit(section, row)
        if section == PREFLIGHT and not row["right"]:
            failed.append(row["check"])

    outcomes: dict[str, Outcome] = {}
    batches = _batches(chosen)
    for number, batch in enumerate(batches):
        if failed or "error" in outcomes.get(PREFLIGHT, {}):
            outcomes |= {name: {"error": "not begun: the preflight failed", "seconds": 0.0} for name in batch}
            continue
        later = sum(max(chosen[name].seconds for name in names) for names in batches[number + 1 :])
        until = max(deadline - _KEPT_FOR_LATER * later, time.monotonic()) if later else deadline
        outcomes |= _run_batch({name: chosen[name] for name in batch}, heard, min(until, deadline), child)
    return outcomes


def _batches(chosen: Mapping[str, Section]) -> list[list[str]]:
    untimed = [name for name, section in chosen.items() if not section.timed]
    alone = [[name] for name, section in chosen.items() if section.timed]
    first = [batch for batch in alone if batch == [PREFLIGHT]]
    return [*first, *([untimed] if untimed else []), *(batch for batch in alone if batch != [PREFLIGHT])]


@dataclass
class _Try:
    """A section at work: what its process has said, and what earlier tries had done."""

    name: str
    process: Any
    started: float  # the first try
    until: float
    hearing: Hearing
    earlier: Earlier
    restarts: list[dict[str, Any]]
    rows: list[Row] = field(default_factory=list)
    trying: Row | None = None


def _run_batch(batch: Mapping[str, Section], emit: Emit, deadline: float, child: Child) -> dict[str, Outcome]:
    running: dict[Connection, _Try] = {}
    outcomes: dict[str, Outcome] = {}

    def begin(name: str, started: float, until: float, earlier: Earlier, restarts: list[dict[str, Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(name, sender, earlier))
        process.start()
        sender.close()  # so that the receiver sees its end when the process dies
        running[receiver] = _Try(name, process, started, until, Hearing(receiver), earlier, restarts)

    for name, section in batch.items():
        now = time.monotonic()
        until = min(now + section.seconds, deadline)
        if until > now:
            begin(name, now, until, Earlier(), [])
        else:
            outcomes[name] = {"error": "not begun: the report's time was up", "seconds": 0.0}
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
            if outcome is None:
                continue
            one.process.join()
            del running[receiver]
            if outcome.pop("poisoned", False) and one.trying and len(one.restarts) < _MOST_RESTARTS:
                without = {"without": [one.trying["work"], one.trying["variant"]], "error": outcome["error"]}
                earlier = one.earlier.and_then(one.rows, one.trying, outcome["error"])
                begin(one.name, one.started, one.until, earlier, [*one.restarts, without])
            else:
                restarts = {"restarts": one.restarts} if one.restarts else {}
                outcomes[one.name] = outcome | restarts | {"seconds": time.monotonic() - one.started}
    return outcomes


def _receive(one: _Try, emit: Emit) -> Outcome | None:
    """Take what has come; the outcome, if that is among it. A process that died is as good as poisoned."""
    come = one.hearing.hear()
    if come is None:
        one.process.join()
        return {"error": f"its process died with exit code {one.process.exitcode}", "poisoned": True}
    for kind, content in come:
        if kind == "end":
            return content
        if kind == "trying":
            one.trying = content
        else:
            one.rows.append(content)
            emit(one.name, content)
    return None
