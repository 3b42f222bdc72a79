"""How one InfoNCE is cut into blocks of logits: a pure function of sizes, never of what memory happens to be free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from kernels.dispatch import Mode

_MODES: tuple[str, ...] = get_args(Mode)

_SMALLEST_BLOCK = 128  # rows and columns
_SMALLEST_CHUNK = 1024  # what "auto" still calls a chunk: smaller products cost more than the storage is worth


_Attempt = tuple[Mode, tuple[int, int], int]  # the mode, the block to begin with, and how far it may shrink


@dataclass(frozen=True)
class Footprint:
    """What an implementation holds beyond inputs, outputs and O(N D)."""

    saved_bytes: float  # for a logit that mode "save" keeps from forward to backward
    block_bytes: float  # for a logit of the block in work
    row_block: int  # the block it works best on: powers of two of at least 128
    column_block: int
    resident: bool = True  # whether it has that mode for rows of this width
    save_up_to: int = 2**62  # pairs; with more, "auto" does not keep logits even where they fit, because it is slower


@dataclass(frozen=True)
class Plan:
    """`mode` is never "auto". A block of logits has at most row_block rows and column_block columns."""

    mode: Mode
    row_block: int
    column_block: int


def plan(count: int, mode: Mode, workspace_bytes: int, differentiable: bool, footprint: Footprint) -> Plan:
    """The mode and the blocks for count x count logits that `workspace_bytes` has room for.

    "auto" keeps the logits for the backward pass where they fit and that pays ("save"), and forms them block by block
    and twice elsewhere ("chunked"); only where no 1024 x 1024 block fits does it take the smallest blocks ("resident").
    Without a gradient there is nothing to keep, and "save" becomes "chunked".

    Raises ValueError for an unknown mode, one that does not fit and one that the implementation has not.
    """
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}; the choices are {', '.join(map(repr, _MODES))}")
    if mode == "resident" and not footprint.resident:
        raise ValueError("mode='resident' has no kernel for rows of this width; mode='auto' picks one that has")
    preferred = (footprint.row_block, footprint.column_block)
    smallest = (_SMALLEST_BLOCK, _SMALLEST_BLOCK)
    last_resort: tuple[Mode, tuple[int, int]] = ("resident", smallest) if footprint.resident else ("chunked", preferred)
    save: _Attempt = ("save", preferred, _SMALLEST_CHUNK)
    attempts: dict[Mode, list[_Attempt]] = {
        "auto": [save] * (differentiable and count <= footprint.save_up_to)
        + [("chunked", preferred, _SMALLEST_CHUNK), (*last_resort, _SMALLEST_BLOCK)],
        "save": [("save", preferred, _SMALLEST_BLOCK)],
        "chunked": [("chunked", preferred, _SMALLEST_BLOCK)],
        "resident": [("resident", smallest, _SMALLEST_BLOCK)],
    }
    needed_bytes = 0.0
    for attempt, block, shrunk_to in attempts[mode]:
        kept_bytes = footprint.saved_bytes * count**2 if attempt == "save" else 0
        needed_bytes = kept_bytes + footprint.block_bytes * min(count, shrunk_to) ** 2
        if needed_bytes <= workspace_bytes:
            block = _shrink(block, count, workspace_bytes - kept_bytes, footprint.block_bytes)
            return Plan("chunked" if attempt == "save" and not differentiable else attempt, *block)
    raise ValueError(
        f"mode={mode!r} takes at least {math.ceil(needed_bytes)} bytes for {count} pairs;"
        f" workspace_bytes is {workspace_bytes}"
    )


def _shrink(block: tuple[int, int], count: int, available_bytes: float, bytes_per_logit: float) -> tuple[int, int]:
    """Halve the longer side until what it covers of count x count logits fits."""
    rows, columns = block
    while bytes_per_logit * min(rows, count) * min(columns, count) > available_bytes:
        rows, columns = (rows, columns // 2) if columns >= rows else (rows // 2, columns)
    return rows, columns
