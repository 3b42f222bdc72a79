"""The model of time: its arithmetic by hand, and that what it says of the operators is within reason."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("triton")
from kernels.inspect.__main__ import main
from kernels.inspect.prediction import (
    BYTES_PER_SECOND,
    CLOCK,
    MULTIPROCESSORS,
    TENSOR_FLOPS_PER_CLOCK,
    Work,
    seconds_of,
)
from kernels.inspect.reports import prediction_report


def compiled(held: int = 4, **more: Any) -> dict[str, Any]:
    """A kernel of 100 instructions, ten of them within a loop."""
    instructions = {"FADD": 80, "MUFU": 10, "LDG": 10, "NOP": 50}
    loop = {"FADD": 4, "MUFU": 5, "LDG": 1}
    return {"instructions": instructions, "loops": [loop], "warps": 4, "programs_per_sm": held, **more}


def test_a_launch_by_hand() -> None:
    """Two programs of four warps on each multiprocessor: two warps a quarter, which together issue one a clock."""
    work = Work(grid=2 * MULTIPROCESSORS, trips=11, tensor_flops=1e9, bytes=48_000_000)
    found = seconds_of(compiled(), work)
    assert found["issue"] * CLOCK == pytest.approx((100 + 10 * 10) * 2)
    assert found["MUFU"] * CLOCK == pytest.approx((10 + 10 * 5) * 8 * 2)
    assert found["LSU"] * CLOCK == pytest.approx((10 + 10 * 1) * 4 * 2)
    assert found["tensor"] == pytest.approx(1e9 / (MULTIPROCESSORS * TENSOR_FLOPS_PER_CLOCK * CLOCK))
    assert found["memory"] == pytest.approx(48e6 / BYTES_PER_SECOND)


def test_one_program_too_many_is_another_round() -> None:
    full, more = (Work(grid, 1, 1e9 * grid, 0) for grid in (MULTIPROCESSORS, MULTIPROCESSORS + 1))
    for name in ("MUFU", "LSU", "tensor"):
        assert seconds_of(compiled(), more)[name] == pytest.approx(2 * seconds_of(compiled(), full)[name])


def test_a_multiprocessor_that_holds_few_programs_issues_less() -> None:
    work = Work(grid=8 * MULTIPROCESSORS, trips=1, tensor_flops=0, bytes=0)
    assert seconds_of(compiled(held=1), work)["issue"] == 2 * seconds_of(compiled(held=2), work)["issue"]
    assert seconds_of(compiled(held=2), work)["issue"] == seconds_of(compiled(held=8), work)["issue"]


@pytest.mark.slow
def test_every_operator_is_predicted_between_its_floor_and_what_eager_moves(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["work"]: row for row in prediction_report()}
    assert {work.partition(",")[0] for work in rows} == {
        *("cross_attention", "gated_residual_norm", "grouped_info_nce", "info_nce")
    }
    for row in rows.values():
        assert row["floor_seconds"] < row["least_seconds"]
        assert row["most_seconds"] is None or row["least_seconds"] <= row["most_seconds"]
        assert 0 < row["bound_share"] <= 1
    plain, eager = rows["cross_attention, key mask"], rows["cross_attention, key mask: eager, counted"]
    assert plain["most_seconds"] < eager["least_seconds"]
    assert rows["info_nce, N 16384"]["bound"] == "library"  # cuBLAS, for the gradients of both sides
    # its four products of 16384 x 16384 x 768 at the tensor cores' rate
    assert rows["info_nce, N 16384"]["floor_seconds"] == pytest.approx(
        4 * 2 * 16384**2 * 768 / (MULTIPROCESSORS * TENSOR_FLOPS_PER_CLOCK * CLOCK), rel=0.01
    )
    assert main(["--predict"]) == 0
    said = capsys.readouterr().out
    assert "nothing of it was measured" in said
    assert "cross_attention, key mask: eager, counted" in said
