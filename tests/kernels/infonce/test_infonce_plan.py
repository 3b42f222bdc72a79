"""Modes and blocks from sizes alone."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.dispatch import Mode
from kernels.infonce.plan import Footprint, plan

FOOTPRINT = Footprint(saved_bytes=4, block_bytes=2, row_block=8192, column_block=32768)

footprints = st.builds(
    Footprint,
    saved_bytes=st.sampled_from([2.0625, 4, 22.0]),
    block_bytes=st.sampled_from([0.125, 2, 16]),
    row_block=st.sampled_from([128, 1024, 8192]),
    column_block=st.sampled_from([128, 1024, 32768]),
    resident=st.booleans(),
    save_up_to=st.sampled_from([1024, 2**62]),
)


@given(
    count=st.integers(0, 2**21),
    mode=st.sampled_from(get_args(Mode)),
    workspace_bytes=st.integers(0, 2**34),
    differentiable=st.booleans(),
    footprint=footprints,
)
def test_what_is_planned_fits(
    count: int, mode: str, workspace_bytes: int, differentiable: bool, footprint: Footprint
) -> None:
    try:
        chosen = plan(count, mode, workspace_bytes, differentiable, footprint)
    except ValueError:
        smallest_bytes = footprint.block_bytes * min(count, 128) ** 2
        lacks_resident = mode == "resident" and not footprint.resident
        assert lacks_resident or smallest_bytes + (mode == "save") * footprint.saved_bytes * count**2 > workspace_bytes
        return
    held = footprint.block_bytes * min(chosen.row_block, count) * min(chosen.column_block, count)
    if chosen.mode == "save":
        held += footprint.saved_bytes * count**2
    assert held <= workspace_bytes
    assert chosen.row_block <= footprint.row_block
    assert chosen.column_block <= footprint.column_block
    assert chosen.row_block % 128 == chosen.column_block % 128 == 0
    assert chosen.mode in get_args(Mode)[1:]
    assert mode in ("auto", chosen.mode) or (mode == "save" and not differentiable)
    assert chosen.mode != "resident" or footprint.resident


def test_auto_keeps_the_logits_where_they_fit_and_a_gradient_asks_for_them() -> None:
    fits = 4 * 4096**2 + 2 * 4096**2
    assert plan(4096, "auto", fits, True, FOOTPRINT).mode == "save"
    assert plan(4096, "auto", fits, False, FOOTPRINT).mode == "chunked"
    assert plan(4096, "auto", 4 * 4096**2, True, FOOTPRINT).mode == "chunked"


def test_auto_does_not_keep_logits_where_that_is_slower() -> None:
    footprint = Footprint(saved_bytes=4, block_bytes=2, row_block=1024, column_block=1024, save_up_to=2000)
    assert [plan(count, "auto", 2**40, True, footprint).mode for count in (2000, 2001)] == ["save", "chunked"]
    assert plan(2001, "save", 2**40, True, footprint).mode == "save"


def test_auto_takes_the_smallest_blocks_only_where_no_larger_one_fits() -> None:
    chunk = 2 * 1024**2
    assert plan(2**20, "auto", chunk, True, FOOTPRINT).mode == "chunked"
    chosen = plan(2**20, "auto", chunk - 1, True, FOOTPRINT)
    assert (chosen.mode, chosen.row_block, chosen.column_block) == ("resident", 128, 128)
    without = Footprint(saved_bytes=4, block_bytes=2, row_block=8192, column_block=32768, resident=False)
    assert plan(2**20, "auto", chunk - 1, True, without).mode == "chunked"


def test_blocks_halve_along_their_longer_side() -> None:
    def blocks(workspace_bytes: int) -> tuple[int, int]:
        chosen = plan(2**20, "chunked", workspace_bytes, True, FOOTPRINT)
        return chosen.row_block, chosen.column_block

    assert blocks(2**30) == (8192, 32768)
    assert blocks(2**29) == (8192, 32768)
    assert blocks(2**29 - 1) == (8192, 16384)
    assert blocks(2**26) == (8192, 4096)


@pytest.mark.parametrize(
    ("count", "mode", "message"),
    [
        (4096, "fast", "mode is 'fast'; the choices are 'auto', 'save', 'chunked', 'resident'"),
        (4096, "save", "mode='save' takes at least 67141632 bytes for 4096 pairs; workspace_bytes is 30000"),
        (4096, "chunked", "mode='chunked' takes at least 32768 bytes for 4096 pairs; workspace_bytes is 30000"),
        (4096, "resident", "mode='resident' takes at least 32768 bytes for 4096 pairs; workspace_bytes is 30000"),
        (4096, "auto", "mode='auto' takes at least 32768 bytes for 4096 pairs; workspace_bytes is 30000"),
    ],
)
def test_what_cannot_be_planned_says_why(count: int, mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        plan(count, mode, 30_000, True, FOOTPRINT)


def test_a_width_without_the_resident_mode_is_told_so() -> None:
    footprint = Footprint(saved_bytes=4, block_bytes=2, row_block=8192, column_block=32768, resident=False)
    with pytest.raises(ValueError, match="mode='resident' has no kernel"):
        plan(4096, "resident", 2**30, True, footprint)
