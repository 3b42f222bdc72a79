"""Whether training is sound on a device: really on the CPU, and with planted courses that are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.attention import api as attention_api
from repro.efficiency import soundness
from repro.efficiency.soundness import AGREES, DDP, REPEATS, Course
from repro.efficiency.systems import TINY

CPU = torch.device("cpu")
CHECKS = [("clamp_reference", AGREES), ("clamp_torch", AGREES), ("clamp_torch", REPEATS), ("clamp_torch", DDP)]


def test_training_is_sound_on_this_processor() -> None:
    rows = list(soundness.rows(TINY, CPU, "clamp_torch", 3))
    assert [(row["variant"], row["check"]) for row in rows] == CHECKS
    assert [row for row in rows if not row["right"]] == []
    for row in rows[:2]:
        assert len(row["losses"]) == len(row["norms"]) == 3
        assert row["losses"][0] != row["losses"][1]  # other tweets
        assert row["ms"]["p50"] > 0
        assert (row["peak_bytes"], row["waits"]) == (None, [])
    assert rows[1]["loss_difference"] < 1e-5


def test_an_operator_that_is_a_little_wrong_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though CLAMP starts as its text, as if it had no attention."""

    def norms() -> list[float]:
        try:
            return soundness.course_of("clamp_torch", TINY, "cpu", 2, False, False, torch.get_num_threads()).norms
        finally:
            torch.use_deterministic_algorithms(False)

    right, attend = norms(), attention_api._IMPLEMENTATIONS["torch"]

    def attend_too_much(*arguments: Any) -> Any:
        found = attend(*arguments)
        return (1.02 * found[0], found[1]) if isinstance(found, tuple) else 1.02 * found

    monkeypatch.setitem(attention_api._IMPLEMENTATIONS, "torch", attend_too_much)
    assert max(abs(a - b) / b for a, b in zip(norms(), right, strict=True)) > soundness._BOUNDS["cpu"][1]


def course(loss: float = 2.0, norm: float = 1.0, weights: str = "same") -> Course:
    return Course([3.0, loss], [2.0, norm], [0.1, 0.1], None, [], weights)


def planted(monkeypatch: pytest.MonkeyPatch, *courses: Course | Exception) -> list[bool]:
    """The verdicts on these courses: of the reference operators, others, once, again, over DDP."""
    left = list(courses)

    def apart(*_: Any) -> Course:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(soundness, "_apart", apart)
    rows = list(soundness.rows(TINY, CPU, "clamp_torch", 2))
    assert not left
    assert all(row["right"] or "error" in row or row["check"] for row in rows)
    return [row["right"] for row in rows]


@pytest.mark.parametrize(
    ("courses", "verdicts"),
    [
        ([course()] * 5, [True, True, True, True]),
        ([course(), course(loss=2.0001), *[course()] * 3], [True, False, True, True]),
        ([course(), course(norm=1.0001), *[course()] * 3], [True, False, True, True]),
        ([course(loss=float("nan")), *[course()] * 4], [False, False, True, True]),
        ([*[course()] * 3, course(weights="other"), course()], [True, True, False, True]),
        ([*[course()] * 4, course(loss=2.0000001)], [True, True, True, False]),
        ([course(), RuntimeError("died"), *[course()] * 3], [True, False, True, True]),
        ([*[course()] * 2, RuntimeError("died"), *[course()] * 2], [True, True, False, False, False]),
        ([*[course()] * 4, RuntimeError("no NCCL")], [True, True, True, False]),
    ],
)
def test_what_is_not_sound_is_told(
    courses: list[Course | Exception], verdicts: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planted(monkeypatch, *courses) == verdicts
