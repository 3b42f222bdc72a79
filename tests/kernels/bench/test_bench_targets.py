"""Verdicts are what the rows say, and a report says what it holds: as a file, as text, and of a CPU."""

from __future__ import annotations

import json
import math
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

import kernels
from kernels.bench import report, targets
from kernels.bench.measure.rows import Row
from kernels.bench.works import attention, ceilings, checks, contrast, cpu, fusion

# --- targets ---


def timing(work: str, variant: str, p50: float, launch: str = "eager", **fields: Any) -> Row:
    ms = {"p10": p50 / 2, "p50": p50, "p90": 2 * p50}
    return {"section": "s", "work": work, "variant": variant, "launch": launch, "ms": ms, **fields}


def peer_check(variant: str, right: bool) -> Row:
    return {"work": attention.MASKED, "variant": variant, "check": "gradients at the timed shape", "right": right}


PLANTED = [
    peer_check("SDPA cudnn", False),
    peer_check("SDPA efficient", True),
    peer_check("SDPA math", True),
    peer_check("kernels", True),
    peer_check("eager", True),
    timing(attention.MASKED, "kernels", 2.0),
    timing(attention.MASKED, "kernels", 1.0, "graph"),
    timing(attention.MASKED, "eager", 8.0),
    timing(attention.MASKED, "SDPA cudnn", 1.0),
    timing(attention.MASKED, "SDPA efficient", 3.0),
    timing(attention.MASKED, "SDPA math", 6.0),
    {"work": attention.MASKED, "variant": "SDPA flash", "launch": "eager", "error": "refuses"},
    timing(attention.GUIDED, "kernels", 3.0),
    timing(attention.GUIDED, "eager", 6.0),
    timing(attention.DROPPING, "kernels", 2.5),
    timing(attention.DROPPING, "SDPA efficient", 5.0),
    timing(attention.DROPPING, "SDPA math", 4.0),
    timing(attention.MASKED, "eager", 3.0, "graph"),
    timing(attention.MASKED, "SDPA cudnn", 0.5, "graph"),
    timing(attention.MASKED, "SDPA efficient", 2.1, "graph"),
    timing(attention.GUIDED, "kernels", 2.0, "graph"),
    timing(attention.GUIDED, "eager", 6.0, "graph"),
    timing(attention.DROPPING, "kernels", 2.0, "graph"),
    timing(attention.DROPPING, "SDPA math", 2.0, "graph"),
    timing(fusion.TRAINING, "kernels", 6.0),
    timing(fusion.TRAINING, "eager", 9.0),
    timing(fusion.TRAINING, "torch.compile", 6.6),
    timing(fusion.TRAINING, "kernels", 5.5, "graph"),
    timing(fusion.TRAINING, "eager", 8.5, "graph"),
    timing(fusion.TRAINING, fusion.PRODUCTS, 4.5, "graph"),
    timing(fusion.TRAINING_SMALL, "kernels", 3.0),
    timing(fusion.TRAINING_SMALL, "kernels", 1.0, "graph"),
    timing(fusion.TRAINING_SMALL, "eager", 3.5),
    timing(fusion.TRAINING_SMALL, "eager", 1.1, "graph"),
    timing(fusion.INFERENCE, "kernels", 0.5, "graph"),
    timing(fusion.INFERENCE, "eager", 1.0),
    timing(fusion.INFERENCE, "eager", 0.75, "graph"),
    timing(contrast.work_of(2**14), "kernels", 4.0),
    timing(contrast.work_of(2**14), "eager", 12.0),
    timing(contrast.work_of(2**14), "torch.compile", 5.0),
    timing(contrast.work_of(2**14), "Inf-CL", 40.0),
    timing(contrast.work_of(2**16), "kernels", 50.0, extra_bytes=10**9),
    timing(contrast.work_of(2**16), "eager", 200.0, extra_bytes=5 * 10**10),
    timing(contrast.work_of(2**16), "siglip-kernel", 40.0),
    timing(contrast.work_of(2**20), "kernels", 15e3, extra_bytes=7 * 10**9, input_bytes=3 * 10**9),
    timing(ceilings.PRODUCT, "torch", 1.4, rate=8e14),
    {"work": "a", "variant": "kernels", "check": checks.REPEATS, "differing": ["output 0", "x"], "right": False},
    {"work": "b", "variant": "kernels", "check": checks.REPEATS, "right": False, "error": "RuntimeError"},
    {"work": "c", "variant": "kernels", "check": checks.REPEATS, "differing": [], "right": True},
]  # fmt: skip
EXPECTED = [
    (1.5, True), (4.0, True), (2.0, False), (1.5, False), (1.6, True), (1.25, True),  # attention
    (2.1, True), (3.0, True), (3.0, True), (1.0, False),  # in graphs
    (0.25, True), (1.5, True), (1.1, True), (3.5, True), (1.1, False), (2.0, False), (1.5, True),  # the fusion stack
    (3.0, True), (1.25, False), (10.0, True),  # info_nce
    (0.8, False), (4 * 2 * 2**32 * 768 / 0.05 / 8e14, True), (0.02, True), (10.0, True), (15.0, True),
    (3.0, False),  # bits that changed, and a check that failed
]  # fmt: skip


def test_verdicts_are_what_the_rows_say() -> None:
    verdicts = targets.judge(PLANTED)
    assert len(verdicts) == len(EXPECTED)
    for verdict, (value, met) in zip(verdicts, EXPECTED, strict=True):
        assert (verdict["value"], verdict["met"]) == (pytest.approx(value), met), verdict
    # the fastest backend is wrong, and the fastest without dropout is not the fastest with it
    assert [verdicts[k]["against"] for k in (0, 4, 1)] == ["SDPA efficient", "SDPA math", None]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    verdicts = targets.judge([])
    assert {(verdict["value"], verdict["met"]) for verdict in verdicts} == {(None, None)}
    assert {verdict["met"] for verdict in targets.judge(PLANTED[3:], targets.CPU_TARGETS)} == {None}


@pytest.mark.parametrize("at_most", [False, True])
def test_a_target_that_is_just_reached_is_met(at_most: bool) -> None:
    target = targets.Target("w", "m", 1.5, lambda m: 1.5, at_most=at_most)
    assert targets.judge([], [target])[0]["met"]
    assert target.wanted == ("<= 1.5" if at_most else ">= 1.5")


# --- the file and the text ---


def test_a_report_is_strict_json_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "below" / "gpu.json"
    report.write({"rows": [{"errors": {"output 0": math.nan}}], "nothing": [], "value": math.inf}, path)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "rows": [{"errors": {"output 0": "nan"}}],
        "nothing": [],
        "value": "inf",
    }


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gpu.json"
    path.write_text("what was there before")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        report.write({"rows": []}, path)
    assert path.read_text() == "what was there before"
    assert [file.name for file in tmp_path.iterdir()] == ["gpu.json"]


def test_the_text_names_failures_and_ends_with_the_verdicts() -> None:
    wrong = {
        "work": "cross_attention",
        "variant": "kernels",
        "dtype": "float16",
        "check": checks.PARITY,
        "right": False,
    }
    wrong |= {"errors": {"output 0": 0.5, "gradient of q": 1e-9}, "limits": {"output 0": 0.1, "gradient of q": 0.1}}
    made = {"sections": {"ceilings": {"seconds": 1.0, "error": "stopped after 30 s"}}, "rows": [*PLANTED, wrong]}
    text = report.text(made | {"targets": targets.judge(PLANTED)})
    assert "WRONG: cross_attention, float16, against float64: {'output 0': 0.5}" in text
    assert "section ceilings: stopped after 30 s" in text
    assert "cross_attention, key mask, SDPA flash, eager: refuses" in text
    assert "eager 8 (4.00)" in text
    lines = text.splitlines()[-len(EXPECTED) :]
    assert sum("NOT MET" in line for line in lines) == sum(not met for _, met in EXPECTED)


# --- on a CPU ---


def _measured_after_a_peak(sender: Connection) -> None:
    torch.ones(50 * 1500**2)
    cpu._measure("eager", 1500, sender)


def test_eager_holds_its_logits_and_the_measurement_sees_them() -> None:
    """In a process of its own, as the report does it: what other tests freed is memory that a step takes unseen."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured_after_a_peak, args=(sender,))
    process.start()
    sender.close()
    times, extra = receiver.recv()
    process.join()
    assert min(times) > 0
    assert 2 * 4 * 1500**2 < extra < 20 * 4 * 1500**2


def test_a_cpu_report_pools_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter(range(100))
    monkeypatch.setattr(cpu, "_in_a_process", lambda name, count: ([1.0, 3.0], 100 + next(held)))
    monkeypatch.setattr(cpu, "_attention", lambda device: iter([timing(targets.ATTENTION_ON_A_CPU, "SDPA", 2.0)]))
    made = cpu.measured(lambda line: None, pairs=(16,), rounds=3)
    row = made["rows"][0]
    assert (row["variant"], row["calls"], row["ms"]["p50"], row["extra_bytes"]) == ("eager", 6, 2.0, 105)
    assert made["kind"] == "cpu"
    assert {verdict["met"] for verdict in made["targets"]} == {None}


# --- what the documentation says ---


def test_the_documented_targets_are_those_that_are_judged() -> None:
    text = (Path(kernels.__file__).parents[1] / "docs" / "kernels.md").read_text()
    rows = [line for line in text.splitlines() if "| <= " in line or "| >= " in line]
    both = (*targets.TARGETS, *targets.CPU_TARGETS)
    assert rows == [f"| {target.work} | {target.measure} | {target.wanted} |" for target in both]
