"""The calls by which the kernels are judged without a GPU: what they compile to, and what they move.

Between them, an operator's calls launch each of its kernels in every config that is shipped. The launch functions are
the operators' own and choose tiles, warps and stages themselves: nothing of that is repeated here. Arguments are zeros,
on the meta device where only shapes matter: neither what is compiled nor what is moved depends on values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch

from kernels.dispatch import Mode

OPERATORS = ("cross_attention", "gated_residual_norm", "info_nce", "grouped_info_nce")

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """A call of one of an operator's launch functions."""

    operator: str
    case: str  # what is called with what, for the reader
    function: Callable[..., Any]
    arguments: Callable[[torch.device], Arguments]
    core: bool = False  # among the few that a short run compiles
    programs_per_sm: int = 1  # how many of its programs a multiprocessor of sm_90 must hold at a time


@dataclass(frozen=True)
class Case:
    """A call whose bytes are counted, or one too large to interpret, whose bytes follow exactly from parts of it.

    part(n) is the part with n heads, samples, ...: every n beyond the first in `interpreted` adds the same number of
    bytes. The whole is `times` independent parts of n = size.
    """

    whole: Call
    limit: float | None = None  # of moved / compulsory bytes; None: reported, not judged
    part: Callable[[int], Call] | None = None
    size: int = 1
    times: int = 1
    interpreted: tuple[int, int] = (1, 2)


def calls(operator: str, core: bool = False) -> list[Call]:
    """What must be compiled to have seen every config of `operator`, or only the core of it."""
    return [call for call in _CALLS[operator]() if call.core or not core]


def cases(operator: str) -> list[Case]:
    """What `operator` is for: the calls whose bytes are counted."""
    return list(_CASES[operator]())


_MASKED = frozenset({"mask"})
_EVERYTHING = frozenset({"mask", "bias", "mass", "dropout", "query mask"})


# With dropout, the number of tiles of 64 keys decides the code up to 8 of them. Without, so does what is left over.
_KEYS = (197, 50, 100, 150, 250, 300, 350, 400, 800)
_LEFT_OVER = tuple(64 * full + rest for full in range(5) for rest in (1, 30, 50, 64))


def _cross_attention_calls() -> Iterator[Call]:
    half, single = torch.bfloat16, torch.float32
    for dtype, queries in product((half, single), (64, 32, 128, 257)):
        for features in (_EVERYTHING, _MASKED):
            core = queries == 64 and (dtype == half or features == _EVERYTHING)
            core |= queries in (128, 257) and dtype == half and features == _EVERYTHING
            yield from cross_attention((256, 12, queries, 197, 64), dtype, features, core)
        lengths = _KEYS + _LEFT_OVER if dtype == half and queries in (64, 128) else _KEYS
        for width, features in product((64, 128, 32, 16, 80), (_EVERYTHING, _MASKED, _MASKED | {"mass"})):
            for keys in lengths:
                yield from cross_attention((256, 12, queries, keys, width), dtype, features)
        for features in (frozenset(), _MASKED | {"dropout"}, _MASKED | {"bias", "mass"}):
            yield from cross_attention((256, 12, queries, 197, 64), dtype, features)
        yield from cross_attention((256, 12, queries, 197, 64), torch.float16, _EVERYTHING)
        # Rows that do not begin at multiples of 16 elements: addresses take more registers.
        for width, keys, features in product((59, 100), _KEYS, (_EVERYTHING, _MASKED, _MASKED | {"mass"})):
            core = (width, queries, keys, features) == (59, 64, 197, _EVERYTHING)
            yield from cross_attention((256, 12, queries, keys, width), dtype, features, core)


def _cross_attention_cases() -> Iterator[Case]:
    limits = {_MASKED: (1.25, 1.1), _MASKED | {"mass"}: (1.25, 1.35), _MASKED | {"bias", "mass"}: (1.25, 1.35)}
    for queries, keys in ((32, 197), (64, 197), (128, 257)):
        for features, limit_of in limits.items():
            for direction in (0, 1):
                call = partial(_one_cross_attention, direction, queries, keys, features)
                # Samples share nothing, and heads only what is summed over them.
                yield Case(call(256, 12), limit_of[direction], partial(call, 1), size=12, times=256)
    for direction in (0, 1):  # two passes forward, two kernels backward
        call = partial(_one_cross_attention, direction, 192, 300, _MASKED)
        yield Case(call(256, 12), None, partial(call, 1), size=12, times=256)


def _one_cross_attention(
    direction: int, queries: int, keys: int, features: frozenset[str], batch: int, heads: int
) -> Call:
    return list(cross_attention((batch, heads, queries, keys, 64), torch.float16, features))[direction]


def cross_attention(
    shape: tuple[int, int, int, int, int], dtype: torch.dtype, features: frozenset[str], core: bool = False
) -> Iterator[Call]:
    """Forward and backward at shape (B, H, Lq, Lk, D); features are some of _EVERYTHING."""
    from kernels.attention import backward as attention_backward
    from kernels.attention import forward as attention_forward

    batch, heads, queries, keys, width = shape
    dropout = 0.1 if "dropout" in features else 0.0

    def rows(device: torch.device, length: int) -> torch.Tensor:
        """(B, H, L, D) as a projection leaves it: the heads of a token lie side by side."""
        return torch.zeros((batch, length, heads, width), dtype=dtype, device=device).transpose(1, 2)

    def inputs(device: torch.device) -> tuple[list[torch.Tensor], torch.Tensor | None, torch.Tensor | None]:
        mask = torch.ones((batch, keys), dtype=torch.bool, device=device) if "mask" in features else None
        bias = torch.zeros((batch, keys), dtype=dtype, device=device) if "bias" in features else None
        return [rows(device, queries), rows(device, keys), rows(device, keys)], mask, bias

    def seed(device: torch.device) -> torch.Tensor | None:
        return torch.zeros((), dtype=torch.int64, device=device) if dropout else None

    def query_mask(device: torch.device) -> torch.Tensor | None:
        return torch.ones((batch, queries), dtype=torch.bool, device=device) if "query mask" in features else None

    def forward(device: torch.device) -> Arguments:
        tensors, mask, bias = inputs(device)
        return (*tensors, mask, bias, 0.125, dropout, seed(device), "mass" in features, query_mask(device))

    def backward(device: torch.device) -> Arguments:
        dmass = torch.zeros((batch, keys), device=device) if "mass" in features else None
        lse = torch.zeros((batch, heads, 2, queries), device=device)
        given = forward(device)
        return (rows(device, queries), dmass, rows(device, queries), lse, given[4] is not None, *given)

    wanted = 2 if width == 64 and queries <= 64 and dtype != torch.float32 else 1
    case = " ".join([str(shape), _short(dtype), *sorted(features)])
    yield Call("cross_attention", f"forward {case}", attention_forward.forward, forward, core, wanted)
    yield Call("cross_attention", f"backward {case}", attention_backward.backward, backward, core, wanted)


def _gated_residual_norm_calls() -> Iterator[Call]:
    features = ((True, True), (True, False), (False, True), (False, False))
    for width in (768, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 384, 1536, 3072, 59, 770, 2047, 4095):
        for dtype, (gated, dropping) in product((torch.bfloat16, torch.float32), features):
            core = width == 768 and dtype == torch.bfloat16 and gated and dropping
            yield from gated_residual_norm(256 * 64, width, dtype, gated, dropping, core)


def _gated_residual_norm_cases() -> Iterator[Case]:
    for gated in (True, False):
        for direction, limit in ((0, 1.25), (1, 1.35)):
            call = partial(_one_gated_residual_norm, direction, gated)
            # Backward, a fixed number of programs share the rows: from 1,056 rows on, each of them has some.
            yield Case(call(256), limit, call, size=256, interpreted=(17, 18))


def _one_gated_residual_norm(direction: int, gated: bool, batch: int) -> Call:
    return list(gated_residual_norm(64 * batch, 768, torch.float16, gated, False))[direction]


def gated_residual_norm(
    rows: int, width: int, dtype: torch.dtype, gated: bool, dropping: bool, core: bool = False
) -> Iterator[Call]:
    """Forward and backward of rows x width elements."""
    from kernels.gated_norm import op

    dropout = 0.1 if dropping else 0.0

    def inputs(device: torch.device) -> list[torch.Tensor | None]:
        x, residual, gate = (torch.zeros((rows, width), dtype=dtype, device=device) for _ in range(3))
        weight, bias = (torch.zeros(width, device=device) for _ in range(2))
        return [x, residual, gate if gated else None, weight, bias]

    def seed(device: torch.device) -> torch.Tensor | None:
        return torch.zeros((), dtype=torch.int64, device=device) if dropping else None

    def forward(device: torch.device) -> Arguments:
        return (*inputs(device), 1e-5, dropout, seed(device))

    def backward(device: torch.device) -> Arguments:
        mean, rstd = (torch.zeros(rows, device=device) for _ in range(2))
        gradient = torch.zeros((rows, width), dtype=dtype, device=device)
        return (gradient, *inputs(device), mean, rstd, dropout, seed(device))

    case = f"{rows} x {width} {_short(dtype)}{' gate' * gated}{' dropout' * dropping}"
    yield Call("gated_residual_norm", f"forward {case}", op.forward, forward, core)
    yield Call("gated_residual_norm", f"backward {case}", op.backward, backward, core)


def _grouped_info_nce_calls() -> Iterator[Call]:
    for rows, dtype, masked in product((128, 64, 100, 32, 16, 2), (torch.bfloat16, torch.float32), (True, False)):
        for width in (256, 59):
            core = masked and (rows, width, dtype) == (128, 256, torch.bfloat16)
            yield from grouped_info_nce((256, rows, width), dtype, masked, core)


def _grouped_info_nce_cases() -> Iterator[Case]:
    for rows in (64, 128):
        for direction, limit in ((0, 1.25), (1, 1.6)):
            call = partial(_one_grouped_info_nce, direction, rows)
            yield Case(call(256), limit, call, size=256)


def _one_grouped_info_nce(direction: int, rows: int, groups: int) -> Call:
    return list(grouped_info_nce((groups, rows, 256), torch.float16, True))[direction]


def grouped_info_nce(
    shape: tuple[int, int, int], dtype: torch.dtype, masked: bool, core: bool = False
) -> Iterator[Call]:
    """Forward and backward at shape (G, N, D); masked: with weights too."""
    from kernels.grouped_infonce import op

    def inputs(device: torch.device) -> list[torch.Tensor]:
        a, b = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        return [a, b, torch.ones((), device=device)]

    def forward(device: torch.device) -> Arguments:
        mask = torch.ones(shape[:2], dtype=torch.bool, device=device) if masked else None
        weights = torch.ones(shape[:2], device=device) if masked else None
        return (*inputs(device), mask, weights)

    def backward(device: torch.device) -> Arguments:
        share_row_column = (torch.zeros(shape[:2], device=device) for _ in range(3))
        return (torch.ones((), device=device), *inputs(device), *share_row_column, torch.ones((), device=device))

    case = f"{shape} {_short(dtype)}{' mask weights' * masked}"
    yield Call("grouped_info_nce", f"forward {case}", op.forward, forward, core)
    yield Call("grouped_info_nce", f"backward {case}", op.backward, backward, core)


def _info_nce_calls() -> Iterator[Call]:
    half, single = torch.bfloat16, torch.float32
    modes: tuple[Mode, ...] = ("chunked", "save")
    for mode, dtype, masked in product(modes, (half, single), (False, True)):
        for count, width in product((16384, 8000, 2501, 256), (512, 768, 96, 32, 123)):
            core = (count, width, dtype, masked) in (
                (16384, 512, half, False),
                (2501, 123, half, True),
                (2501, 768, half, True),
            )
            yield from info_nce(count, width, dtype, mode, masked, core)
    for dtype, masked, width in product(
        (half, single), (False, True), (512, 256, 128, 64, 32, 16, 380, 123, 52, 20, 4)
    ):
        yield from info_nce(1000, width, dtype, "resident", masked)


def _info_nce_cases() -> Iterator[Case]:
    for mode in ("chunked", "save", "resident"):
        for call in info_nce(512, 256, torch.float16, mode, False):
            yield Case(call)


def info_nce(
    count: int, width: int, dtype: torch.dtype, mode: Mode, masked: bool, core: bool = False
) -> Iterator[Call]:
    """Forward and backward of count pairs; the blocks are those of 16 GiB of workspace."""
    from kernels.infonce import op, plan, tiles

    cut = plan.plan(count, mode, 2**34, True, tiles.footprint(width, dtype))
    blocks = (cut.mode, cut.row_block, cut.column_block)

    def forward(device: torch.device) -> Arguments:
        a, b = (torch.zeros((count, width), dtype=dtype, device=device) for _ in range(2))
        mask = torch.ones(count, dtype=torch.bool, device=device) if masked else None
        return (a, b, torch.ones((), device=device), mask, *blocks)

    def backward(device: torch.device) -> Arguments:
        arguments = forward(device)
        _loss, *saved = torch.ops.clamp_kernels.info_nce(*arguments)
        return (torch.ones((), device=device), *arguments[:4], *saved, *blocks, [True, True, True])

    case = f"({count}, {width}) {_short(dtype)} {mode}{' mask' * masked}"
    yield Call("info_nce", f"forward {case}", op.forward, forward, core)
    yield Call("info_nce", f"backward {case}", op.backward, backward, core)


def _short(dtype: torch.dtype) -> str:
    return {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]


_CALLS = {
    "cross_attention": _cross_attention_calls,
    "gated_residual_norm": _gated_residual_norm_calls,
    "info_nce": _info_nce_calls,
    "grouped_info_nce": _grouped_info_nce_calls,
}
_CASES = {
    "cross_attention": _cross_attention_cases,
    "gated_residual_norm": _gated_residual_norm_cases,
    "info_nce": _info_nce_cases,
    "grouped_info_nce": _grouped_info_nce_cases,
}
