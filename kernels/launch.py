"""How a Triton kernel is started: one function, which `inspect` can watch.

Operators choose their tiles by `architecture` and start their kernels with `launch`. An observer sees the very launches
that a GPU would: compiled ahead of time or run in the interpreter, they need no second list of signatures that could
go stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Grid = tuple[int, ...]
Observer = Callable[[Any, Grid, tuple[Any, ...], Mapping[str, Any]], None]

INTERPRETED_ARCHITECTURE = 90  # whose tiles the interpreter runs

_observer: Observer | None = None
_observed_architecture = INTERPRETED_ARCHITECTURE


def architecture(device: torch.device) -> int:
    """The compute capability, 10 x major + minor, that kernels on `device` are configured for."""
    if device.type != "cuda":
        return _observed_architecture
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def launch(kernel: Any, grid: Grid, *args: Any, **options: Any) -> None:
    """Start `kernel` on `grid`; options are its constexpr arguments, num_warps and num_stages."""
    if _observer is None:
        kernel[grid](*args, **options)
    else:
        _observer(kernel, grid, args, options)


@contextmanager
def observed(observer: Observer, arch: int) -> Iterator[None]:
    """Within it, launches on tensors that are not on a GPU go to `observer`, configured for `arch`."""
    global _observer, _observed_architecture
    before = _observer, _observed_architecture
    _observer, _observed_architecture = observer, arch
    try:
        yield
    finally:
        _observer, _observed_architecture = before
