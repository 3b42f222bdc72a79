"""The static judgement of the kernels, and that it finds what it must: faults planted in small kernels of our own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
from kernels.inspect import __main__ as command
from kernels.inspect import compilation, reports, shipped, traffic

Row = dict[str, Any]


@pytest.fixture(scope="module")
def planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted", Path(__file__).parents[1] / "planted.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def planted_rows(planted: ModuleType) -> dict[tuple[str, int], Row]:
    """By what is planted and the architecture."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(Path(reports.__file__).parents[2])}
    program = [sys.executable, planted.__file__]
    done = subprocess.run(program, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return {(row["case"], row["arch"]): row for row in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("an atomic", "atomics"),
        ("plain TF32", "TF32"),
        ("a spill", "spills"),
        ("too much shared memory", "shared memory"),
        ("too few programs", "room for 16 programs, not 33"),
    ],
)
def test_a_planted_fault_is_found(planted_rows: dict[tuple[str, int], Row], what: str, fault: str) -> None:
    assert fault in reports.compile_faults(planted_rows[what, 90])[0]


def test_a_kernel_without_fault_passes(planted_rows: dict[tuple[str, int], Row]) -> None:
    clean = {key: row for key, row in planted_rows.items() if key[0].startswith("nothing")}
    assert len(clean) == 5
    assert {key: reports.compile_faults(row) for key, row in clean.items() if reports.compile_faults(row)} == {}


def test_matrix_instructions_are_told_apart(planted_rows: dict[tuple[str, int], Row]) -> None:
    by_arch = {arch: planted_rows["nothing, in a product", arch] for arch in command.ARCHITECTURES}
    used = {arch: [name for name in ("hmma", "wgmma", "tcgen05") if row[name]] for arch, row in by_arch.items()}
    assert used == {80: ["hmma"], 90: ["wgmma"], 100: ["tcgen05"]}
    scalar = by_arch[90] | {"wgmma": 0}
    assert reports.compile_faults(scalar) == ["multiplies 16-bit matrices without matrix instructions"]


def test_a_row_has_the_promised_figures(planted_rows: dict[tuple[str, int], Row]) -> None:
    row = planted_rows["nothing, in a product", 90]
    assert row["config"] == "bfloat16 BLOCK=64 PRECISION=tf32 num_warps=4 num_stages=2"
    assert row["kernel"] == "product_kernel"
    assert row["shared_bytes"] == 2 * 2 * 64 * 64 * 2  # two stages of two tiles
    assert 32 <= row["registers"] <= 255
    assert row["stack_bytes"] == 0 < planted_rows["a spill", 90]["stack_bytes"]
    assert row["triton"].count(".") == 2


@pytest.mark.parametrize(
    ("precision", "operands", "instruction", "expected"),
    [
        ("tf32", "f32", "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 1),
        ("tf32", "bf16", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 0),
        ("tf32x3", "f32", "wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32", 0),
        (None, "f32", "fma.rn.f32", 0),  # "ieee" goes unsaid
        (None, "f32", "tcgen05.mma.cta_group::1.kind::tf32", 1),
    ],
)
def test_tf32_is_found_in_the_wish_and_in_the_deed(
    precision: str | None, operands: str, instruction: str, expected: int
) -> None:
    wish = f", inputPrecision = {precision}" if precision else ""
    ttir = f"%5 = tt.dot %3, %4, %2{wish} : tensor<64x32x{operands}> * tensor<32x64x{operands}> -> tensor<64x64xf32>"
    assert compilation.plain_tf32(ttir, f"\t@%p1 {instruction} [%r1], %r2;") == expected


@pytest.mark.parametrize(
    ("registers", "warps", "shared_bytes", "columns", "arch", "programs"),
    [
        (236, 4, 0, 0, 90, 2),  # 8 warps fit into 65,536 registers at up to 256 each
        (218, 8, 0, 0, 90, 1),
        (128, 8, 0, 0, 90, 2),
        (129, 8, 0, 0, 90, 1),  # registers are handed out by 8 a thread: 136 leave room for 12 warps
        (32, 4, 0, 0, 90, 16),  # 64 warps
        (16, 1, 0, 0, 90, 16),  # warps are handed out in fours
        (64, 4, 113 * 1024, 0, 90, 2),  # 2 x (113 + 1) KiB
        (64, 4, 113 * 1024 + 1, 0, 90, 1),
        (64, 4, 81 * 1024, 0, 80, 2),
        (64, 4, 113 * 1024, 0, 80, 1),
        (64, 4, 1024, 256, 100, 2),
    ],
)
def test_programs_on_a_multiprocessor(
    registers: int, warps: int, shared_bytes: int, columns: int, arch: int, programs: int
) -> None:
    assert compilation.programs_per_sm(registers, warps, shared_bytes, columns, arch) == programs


def test_bytes_of_a_copy(planted: ModuleType) -> None:
    copy = planted.call(planted.copy_kernel, 1000, torch.float16, BLOCK=256)
    assert traffic.count(copy) == {"copy_kernel": 2 * 1000 * 2}  # not of the 24 lanes beyond the end
    assert traffic.compulsory_bytes(copy) == 2 * 1000 * 2


def test_reading_twice_is_found(planted: ModuleType) -> None:
    def copy_twice(batch: int) -> shipped.Call:
        return planted.call(planted.copy_twice_kernel, 100 * batch, torch.float16, BLOCK=256)

    row = traffic.measure(shipped.Case(copy_twice(256), 1.25, copy_twice, size=128, times=2))
    assert (row["moved_bytes"], row["compulsory_bytes"]) == (3 * 25600 * 2, 2 * 25600 * 2)
    assert reports.traffic_faults(row) == ["moves 1.500 x the compulsory bytes, and 1.25 x is allowed"]
    assert reports.traffic_faults(row | {"limit": 1.5}) == []
    assert reports.traffic_faults(row | {"limit": None}) == []


def test_what_torch_moves_around_the_kernels_counts(planted: ModuleType) -> None:
    copy = planted.call(planted.copy_kernel, 1000, torch.float16, BLOCK=256)

    def copy_and_sum(x: torch.Tensor) -> torch.Tensor:
        return copy.function(x).view(10, 100).sum(1)

    moved = traffic.count(shipped.Call("planted", "", copy_and_sum, copy.arguments))
    assert moved == {"copy_kernel": 4000, "torch sum": 2000 + 20}


def _faults(rows: list[Row], faults_of: Callable[[Row], list[str]], *names: str) -> list[str]:
    return [" ".join([*(str(row[name]) for name in names), *faults]) for row in rows if (faults := faults_of(row))]


@pytest.mark.timeout(900)  # 84 compilations: a minute on two free cores
def test_the_core_of_what_is_shipped_has_no_fault() -> None:
    rows = reports.compile_reports(shipped.OPERATORS, command.ARCHITECTURES, core=True)
    assert {(row["operator"], row["arch"]) for row in rows} == set(product(shipped.OPERATORS, command.ARCHITECTURES))
    assert _faults(rows, reports.compile_faults, "arch", "kernel", "config") == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arch", command.ARCHITECTURES)
@pytest.mark.parametrize("operator", shipped.OPERATORS)
def test_nothing_that_is_shipped_has_a_fault(operator: str, arch: int) -> None:
    assert _faults(reports.compile_report(operator, arch), reports.compile_faults, "arch", "kernel", "config") == []


@pytest.mark.parametrize("operator", ["cross_attention", "grouped_info_nce"])
def test_bytes_moved_are_within_their_limits(operator: str) -> None:
    rows = reports.traffic_report(operator)
    assert sum(row["limit"] is not None for row in rows) == {"cross_attention": 18, "grouped_info_nce": 4}[operator]
    assert _faults(rows, reports.traffic_faults, "case") == []


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["gated_residual_norm", "info_nce"])
def test_bytes_of_what_takes_longer_are_within_their_limits(operator: str) -> None:
    rows = reports.traffic_report(operator)
    assert all(row["moved_bytes"] >= row["compulsory_bytes"] for row in rows)
    assert _faults(rows, reports.traffic_faults, "case") == []


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, planted_rows: dict[tuple[str, int], Row]) -> None:
    """The command judges the planted kernels, and a call that moves half as much again as it must."""
    moved = {"case": "copying", "moved_bytes": 3, "compulsory_bytes": 2, "ratio": 1.5, "limit": 1.25, "by_kernel": {}}
    monkeypatch.setattr(command, "compile_reports", lambda *_: [planted_rows["an atomic", 90]])
    monkeypatch.setattr(command, "traffic_reports", lambda _: [moved])


@pytest.mark.usefixtures("judged")
def test_the_command_names_the_offenders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--arch", "90", "--json", str(tmp_path / "facts.json")]) == 1
    out, err = capsys.readouterr()
    faults = [line.removeprefix("FAULT ") for line in err.splitlines()]
    assert faults[0].startswith("atomic_kernel [float32 BLOCK=256 num_warps=1 num_stages=1] on sm_90 has")
    assert faults[1] == "copying moves 1.500 x the compulsory bytes, and 1.25 x is allowed"
    assert "atomic_kernel" in out
    assert "1.500" in out
    assert json.loads((tmp_path / "facts.json").read_text())["faults"] == faults


@pytest.mark.usefixtures("judged")
def test_the_command_is_content_where_there_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, planted_rows: dict[tuple[str, int], Row]
) -> None:
    monkeypatch.setattr(command, "compile_reports", lambda *_: [planted_rows["nothing, in a product", 90]])
    monkeypatch.setattr(command, "traffic_reports", lambda _: [])
    assert command.main(["--arch", "90"]) == 0


def test_the_command_says_what_it_cannot_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--operator", "softmax"])
    assert "softmax" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: triton is not installed, and there is nothing to inspect without it"
    ]


def test_a_kernel_that_does_not_compile_is_a_fault() -> None:
    assert reports.compile_faults({"error": "tile.py:3: error: no"}) == ["does not compile: tile.py:3: error: no"]
