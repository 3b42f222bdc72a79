"""Can this machine build and start a Triton kernel at all? Seconds, before minutes go into what could not end well."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import checked

MACHINE = "machine"  # a variant that is nobody's
STARTS = "starts a kernel"
_COMPILERS = ("clang", "gcc", "cc")


def rows(device: Device) -> Iterator[Row]:
    """A C compiler and Python's headers, with which Triton builds what starts a kernel; and a kernel of one line."""
    looks: dict[str, Callable[[], str]] = {"has a C compiler": _compiler, "has Python's headers": _headers}
    if device.impl == "triton":  # a rehearsal without the interpreter starts none
        looks[STARTS] = partial(_kernel, device)
    for check, look in looks.items():
        row = {"work": "preflight", "variant": MACHINE, "check": check}
        yield from checked(device, row, partial(_verdict, look))


def _verdict(look: Callable[[], str]) -> Row:
    missing = look()
    return {"right": not missing} | ({"error": missing} if missing else {})


def _compiler() -> str:
    named = os.environ.get("CC")
    if named:
        return "" if shutil.which(named) else f"CC is {named!r}, which is no program"
    found = any(shutil.which(name) for name in _COMPILERS)
    return "" if found else f"none of {', '.join(_COMPILERS)} is on the path: install one, or name it in CC"


def _headers() -> str:
    folder = Path(sysconfig.get_paths()["include"])
    return "" if (folder / "Python.h").is_file() else f"{folder} has no Python.h: install Python's development files"


def _kernel(device: Device) -> str:
    from kernels.bench.works.one_line import increments  # brings Triton

    return "" if increments(device.name) else "a kernel that adds one adds something else"
