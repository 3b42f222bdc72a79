"""What the static judgement compiles is all there is: no call of an operator launches a config that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")
from kernels.infonce import tiles
from kernels.inspect import compilation, shipped
from kernels.inspect.__main__ import ARCHITECTURES

# Constants that follow from the inputs' shape, and do not choose among configs.
_SHAPES = ("D", "WIDTH")

_DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
_ATTENTION_SHAPES = st.tuples(
    st.just(2),
    st.just(3),
    st.integers(1, 300),
    st.one_of(st.integers(1, 280), st.integers(1, 900)),
    st.integers(1, 128),
)
_ARCHITECTURES = st.sampled_from(ARCHITECTURES)
_FEATURES = st.frozensets(st.sampled_from(["mask", "bias", "mass", "dropout", "query mask"]))
_MODES = st.sampled_from(["save", "chunked", "resident"])


def _tiles(started: compilation.Launch) -> tuple[Any, ...]:
    """The kernel, whether it has 16-bit tensors, and its integer constants and options."""
    config = started.config.items()
    chosen = {name: value for name, value in config if type(value) is int and name not in _SHAPES}
    return started.name, any(value in ("bfloat16", "float16") for _, value in config), *sorted(chosen.items())


@cache
def _shipped(operator: str, arch: int) -> list[compilation.Launch]:
    return compilation.launches(shipped.calls(operator), arch)


@cache
def _shipped_tiles(operator: str, arch: int) -> set[tuple[Any, ...]]:
    return {_tiles(started) for started in _shipped(operator, arch)}


def _assert_shipped(calls: Iterable[shipped.Call], arch: int) -> None:
    for started in compilation.launches(calls, arch):
        assert _tiles(started) in _shipped_tiles(started.calls[0].operator, arch)


@settings(deadline=None)
@given(_ARCHITECTURES, _ATTENTION_SHAPES, _DTYPES, _FEATURES)
def test_of_cross_attention(arch: int, shape: tuple[int, ...], dtype: torch.dtype, features: frozenset[str]) -> None:
    _assert_shipped(shipped.cross_attention(shape, dtype, features), arch)


@settings(deadline=None)
@given(_ARCHITECTURES, st.integers(1, 5000), st.integers(1, 4096), _DTYPES, st.booleans(), st.booleans())
def test_of_gated_residual_norm(
    arch: int, rows: int, width: int, dtype: torch.dtype, gated: bool, dropping: bool
) -> None:
    _assert_shipped(shipped.gated_residual_norm(rows, width, dtype, gated, dropping), arch)


@settings(deadline=None)
@given(_ARCHITECTURES, st.tuples(st.integers(1, 9), st.integers(1, 128), st.integers(1, 1024)), _DTYPES, st.booleans())
def test_of_grouped_info_nce(arch: int, shape: tuple[int, int, int], dtype: torch.dtype, masked: bool) -> None:
    _assert_shipped(shipped.grouped_info_nce(shape, dtype, masked), arch)


@settings(deadline=None, max_examples=50)
@given(_ARCHITECTURES, st.integers(1, 12000), st.integers(1, 1024), _DTYPES, _MODES, st.booleans())
def test_of_info_nce(arch: int, count: int, width: int, dtype: torch.dtype, mode: str, masked: bool) -> None:
    assume(mode != "resident" or width <= tiles.RESIDENT_WIDTH)
    _assert_shipped(shipped.info_nce(count, width, dtype, mode, masked), arch)


def test_a_config_that_was_forgotten_is_found() -> None:
    calls = shipped.cross_attention((2, 3, 64, 197, 64), torch.bfloat16, frozenset())
    (forward, _backward) = (compilation.launches([call], 90)[0] for call in calls)
    forgotten = compilation.Launch(forward.kernel, forward.arguments, {**forward.options, "num_warps": 16}, 90)
    assert _tiles(forward) in _shipped_tiles("cross_attention", 90)
    assert _tiles(forgotten) not in _shipped_tiles("cross_attention", 90)


@pytest.mark.parametrize("operator", shipped.OPERATORS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_core_has_nearly_every_kernel(operator: str, arch: int) -> None:
    core = {started.name for started in compilation.launches(shipped.calls(operator, core=True), arch)}
    assert {started.name for started in _shipped(operator, arch)} - core <= {"info_nce_resident_kernel"}
