"""Tiles of the attention kernels: what spills no register, with a mass, a bias and dropout or without.

`python -m kernels.inspect` compiles every one of them. Rows whose width is no multiple of 16 are called scattered: they
do not all begin at multiples of 16 elements, and each element's address then takes registers of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

# Left to itself, the compiler may rather spill registers than give up a program more a multiprocessor.
ALL_REGISTERS = 255


class RowConfig(NamedTuple):
    """Queries of a program that keeps whole rows, and whether it asks for the values before the softmax."""

    block_q: int
    num_warps: int
    early_values: bool


class LoopConfig(NamedTuple):
    """Queries and keys of a tile, and how the compiler spreads and pipelines it."""

    block_q: int
    block_k: int
    num_warps: int
    num_stages: int
    maxnreg: int | None = None  # registers of a thread; None leaves them to the compiler


def _operands(arch: int) -> str:
    """Where products read their operands from: Hopper and datacenter Blackwell read shared memory."""
    return "hopper" if arch == 90 else "blackwell" if 100 <= arch < 120 else "registers"


def forward_row(arch: int, dtype: torch.dtype, Lq: int, Lk: int, D: int, mass: bool, dropout: bool) -> RowConfig | None:
    """Tiles of the kernel that keeps whole rows; None where it would spill registers, or the other one is as good.

    From 209 to 272 keys that is for the mass alone, for which the other kernel reads the keys twice.
    """
    longest = 272 if mass and not dropout else 208
    if arch != 90 or dtype == torch.float32 or Lk > longest or D > 64 or D % 16:
        return None
    block_q, num_warps = (64, 4) if Lq <= 64 else (128, 8)
    return RowConfig(block_q, num_warps, early_values=Lk <= 208)


def forward_loop(arch: int, dtype: torch.dtype, Lq: int, D: int, mass: bool, dropout: bool) -> LoopConfig:
    """Tiles of the kernel that walks over the keys."""
    scattered = D > 64 and D % 16 != 0
    if dtype == torch.float32:
        num_warps = 8 if scattered or (dropout and D > 32 and D % 16) else 4
        return LoopConfig(16 if D > 64 or dropout else 32, 32, num_warps, 1, ALL_REGISTERS)
    maxnreg = ALL_REGISTERS if mass or dropout else None
    in_registers, blackwell = _operands(arch) == "registers", _operands(arch) == "blackwell"
    if scattered and not blackwell:
        return LoopConfig(32 if dropout else 64, 16, 8, 2, maxnreg)
    if dropout and blackwell:
        return LoopConfig(64, 32, 8, 2, maxnreg)
    if dropout and in_registers and D > 32 and D % 16:
        return LoopConfig(64, 16, 8, 2, maxnreg)
    if dropout and D > 64 and (in_registers or Lq <= 64):
        return LoopConfig(32, 32, 4, 2, maxnreg)
    block_k = 32 if in_registers or dropout or D > 64 else 64
    if Lq <= 64 or (dropout and in_registers):
        return LoopConfig(64, block_k, 4, 2, maxnreg)
    return LoopConfig(128, block_k, 8, 2, maxnreg)


class BackwardConfig(NamedTuple):
    """Tiles of the kernel by queries, and of the kernel by keys: None where the first one does everything."""

    by_queries: LoopConfig
    by_keys: LoopConfig | None = None


_MOST = 2**62
_Ladder = tuple[tuple[int, BackwardConfig], ...]  # (the most queries, their tiles), ascending


def _one(block_q: int, block_k: int, num_warps: int, maxnreg: int | None = ALL_REGISTERS) -> BackwardConfig:
    return BackwardConfig(LoopConfig(block_q, block_k, num_warps, 2, maxnreg))


def _two(
    queries: tuple[int, int], keys: tuple[int, int], warps: tuple[int, int], maxnreg: int | None = ALL_REGISTERS
) -> BackwardConfig:
    return BackwardConfig(LoopConfig(*queries, warps[0], 2, maxnreg), LoopConfig(*keys, warps[1], 2, maxnreg))


def _float32(queries: tuple[int, int], keys: tuple[int, int], num_warps: int) -> BackwardConfig:
    """Products in three parts hold each operand as two, and leave no registers for a second stage."""
    configs = (LoopConfig(*block, num_warps, 1, ALL_REGISTERS) for block in (queries, keys))
    return BackwardConfig(*configs)


_FLOAT32_ONE = BackwardConfig(LoopConfig(32, 16, 4, 1, ALL_REGISTERS))
_FLOAT32: dict[str, _Ladder] = {
    "16": ((32, _FLOAT32_ONE), (_MOST, _float32((16, 32), (16, 16), 4))),
    "32": ((32, _FLOAT32_ONE), (_MOST, _float32((16, 32), (16, 16), 4))),
    "64": ((32, _FLOAT32_ONE), (_MOST, _float32((16, 32), (16, 32), 4))),
    "64 scattered": ((_MOST, _float32((16, 32), (16, 16), 4)),),
    "128": ((_MOST, _float32((16, 32), (16, 16), 8)),),
    "128 scattered": ((_MOST, _float32((16, 16), (16, 16), 8)),),
}


def _small(maxnreg: int | None) -> _Ladder:
    """Operands in registers, rows of up to 64."""
    return (
        (32, _one(32, 32, 4, maxnreg)),
        (64, _one(64, 16, 4, maxnreg)),
        (128, _one(128, 16, 8, maxnreg)),
        (_MOST, _two((128, 32), (64, 32), (8, 4), maxnreg)),
    )


def _large(maxnreg: int | None) -> _Ladder:
    """Operands in shared memory, rows of up to 64."""
    return (
        (32, _one(32, 32, 4, maxnreg)),
        (64, _one(64, 32, 4, maxnreg)),
        (128, _one(128, 32, 8, maxnreg)),
        (_MOST, _two((128, 32), (32, 64), (8, 4), maxnreg)),
    )


_LARGE_SCATTERED: _Ladder = (
    (32, _one(32, 32, 4)),
    (64, _one(64, 16, 4)),
    (128, _one(128, 16, 8)),
    (_MOST, _two((128, 16), (32, 64), (8, 4))),
)
_LARGE_WIDE: _Ladder = (
    (32, _one(32, 32, 8)),
    (64, _one(64, 16, 8)),
    (128, _one(128, 16, 8)),
    (_MOST, _two((64, 32), (32, 64), (8, 8))),
)
# Of 64 keys at a time all products are Hopper's own; of 32, those for dk and dv are Ampere's, at half the rate. With
# dropout it would spill, and 128 queries without a mass would leave a multiprocessor one program where it holds two.
_WGMMA_ONLY: _Ladder = ((32, _one(32, 32, 4, None)), (64, _one(64, 64, 4)), *_large(None)[2:])
_WGMMA_ONLY_MASS: _Ladder = (*_WGMMA_ONLY[:2], (128, _one(128, 64, 8)), *_large(None)[3:])
_WIDE_SCATTERED: _Ladder = ((32, _one(32, 32, 8)), (_MOST, _two((32, 16), (32, 32), (8, 8))))
_BITS16: dict[str, dict[str, _Ladder]] = {
    "registers": {
        "16": _small(ALL_REGISTERS),
        "32": _small(None),
        "64": _small(None),
        "64 scattered": ((32, _one(32, 32, 4)), (_MOST, _two((32, 16), (32, 32), (4, 4)))),
        "128": ((32, _one(32, 32, 8)), (64, _one(64, 16, 8)), (_MOST, _two((64, 32), (32, 64), (8, 8)))),
        "128 scattered": _WIDE_SCATTERED,
    },
    "hopper": {
        "16": _large(ALL_REGISTERS),
        "32": _large(None),
        "64": _large(None),
        "64 scattered": _LARGE_SCATTERED,
        "128": _LARGE_WIDE,
        "128 scattered": _WIDE_SCATTERED,
    },
    "blackwell": {
        "16": _large(ALL_REGISTERS),
        "32": _large(ALL_REGISTERS),
        "64": _large(ALL_REGISTERS),
        "64 scattered": _LARGE_SCATTERED,
        "128": _LARGE_WIDE,
        "128 scattered": _WIDE_SCATTERED,
    },
}


def backward(arch: int, dtype: torch.dtype, Lq: int, D: int, mass: bool, dropout: bool) -> BackwardConfig:
    """What the tables have for this compute capability (10 x major + minor), type, number of queries and head width.

    mass: whether it has a gradient.
    """
    table = _FLOAT32 if dtype == torch.float32 else _BITS16[_operands(arch)]
    width = next(most for most in (16, 32, 64, 128) if most >= D)
    name = f"{width}{' scattered' if D > 32 and D % 16 else ''}"
    ladder = table[name]
    if name == "64" and dtype != torch.float32 and _operands(arch) == "hopper" and not dropout:
        ladder = _WGMMA_ONLY_MASS if mass else _WGMMA_ONLY
    return next(config for most, config in ladder if Lq <= most)


def backward_precision(dtype: torch.dtype, D: int) -> str:
    """How matrices of float32 are multiplied: on tensor cores, in three parts, where registers suffice for these."""
    return "ieee" if dtype == torch.float32 and D > 64 and D % 16 else "tf32x3"
