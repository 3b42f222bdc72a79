"""What every operator asks of its arguments, in one place: shapes, types and devices, before any implementation runs.

A kernel reads what it is told to read: a mask that is too short would be read past its end. Nothing broadcasts. The
checks see no values, so that they cost about two microseconds a call and wait for no GPU.
"""

from __future__ import annotations

from typing import Any

import torch

COMPUTED = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})

Shape = tuple[int, ...]


def floats(name: str, x: Any, axes: str) -> tuple[Shape, torch.dtype, torch.device]:
    """Shape, type and device of an operator's first input: of these axes ("BHQD"), and of rows that are not empty.

    Raises TypeError for what is no tensor, ValueError otherwise.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} is {_named(x)}; it must be a tensor")
    shape = x.shape
    dtype = x.dtype
    if dtype not in COMPUTED:
        raise ValueError(f"{name} is {_short(dtype)}; it must be float16, bfloat16, float32 or float64")
    if axes and len(shape) != len(axes):
        raise ValueError(f"{name} is {tuple(shape)}; it must have {len(axes)} axes, {', '.join(axes)}")
    if not shape or shape[-1] == 0:
        raise ValueError(f"{name} is {tuple(shape)}; its last axis must have at least one element")
    return shape, dtype, x.device


def same(name: str, x: Any, dtype: torch.dtype, device: torch.device, shape: Shape) -> None:
    """x is a tensor of this type, on this device, of this shape."""
    try:
        right = x.dtype is dtype and x.shape == shape and x.device == device
    except AttributeError:
        right = False
    if not right:
        _refuse(name, x, frozenset({dtype}), device, shape)


def one_of(name: str, x: Any, dtypes: frozenset[torch.dtype], device: torch.device, shape: Shape) -> None:
    """The same of several types."""
    try:
        right = x.dtype in dtypes and x.shape == shape and x.device == device
    except AttributeError:
        right = False
    if not right:
        _refuse(name, x, dtypes, device, shape)


def seed(x: Any, device: torch.device) -> None:
    """x is a signed 64-bit int, or a 0-dim int64 tensor on `device`."""
    if isinstance(x, torch.Tensor):
        same("seed", x, torch.int64, device, ())
    elif not isinstance(x, int) or not -(2**63) <= x < 2**63:
        raise ValueError(f"seed is {x!r}; it must be a signed 64-bit int or a 0-dim int64 tensor")


def scale(x: Any, device: torch.device) -> None:
    """x is a number, or a tensor of one floating-point element on `device` or on the CPU."""
    if isinstance(x, torch.Tensor):
        if x.numel() != 1 or x.dtype not in COMPUTED:
            raise ValueError(f"scale is {tuple(x.shape)} {_short(x.dtype)}; it must have one floating-point element")
        if x.device != device and x.device.type != "cpu":
            raise ValueError(f"scale is on {x.device}; it must be on {device}")
    else:
        number("scale", x)


def number(name: str, x: Any) -> None:
    if not isinstance(x, (float, int)):
        raise TypeError(f"{name} is {_named(x)}; it must be a number")


def _refuse(name: str, x: Any, dtypes: frozenset[torch.dtype], device: torch.device, shape: Shape) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} is {_named(x)}; it must be a tensor")
    wanted = "floating point" if dtypes == COMPUTED else " or ".join(sorted(map(_short, dtypes)))
    raise ValueError(
        f"{name} is {tuple(x.shape)} {_short(x.dtype)} on {x.device}; it must be {tuple(shape)} {wanted} on {device}"
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _named(x: Any) -> str:
    return "None" if x is None else f"a {type(x).__name__}"
