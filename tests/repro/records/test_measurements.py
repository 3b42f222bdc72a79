"""Reports of measurements are read whole, or refused in one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_costs import report

from repro.records.files import StoreError
from repro.records.measurements import CostReport, OperatorReport, read_reports


def operators(kind: str = "cpu") -> dict[str, Any]:
    made_by = dict.fromkeys(("gpu", "driver", "cuda", "cudnn", "git_sha", "git_dirty"))
    made_by |= {"started": "2025-01-01T00:00:00+00:00", "packages": {"torch": "2.13.0"}, "python": "3.11.9"}
    made_by |= {"cpu": "Made-up", "cores": 2, "kernels_hash": "0123456789abcdef"}
    row = {"section": "s", "work": "w", "ms": {"p50": 2.0}}
    made = {"schema": 1, "kind": kind, "complete": True, "provenance": made_by, "sections": {}, "rows": [row]}
    return made | {"targets": []}


def write(folder: Path, device: str, content: dict[str, Any] | str) -> Path:
    path = folder / f"{device}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(kind: type[CostReport] | type[OperatorReport], folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        read_reports(kind, folder)
    return str(caught.value)


def test_reports_are_read_by_device_and_absent_ones_are_left_out(tmp_path: Path):
    assert read_reports(CostReport, tmp_path / "none") == {}
    write(tmp_path, "gpu", report("gpu"))
    write(tmp_path, "rehearsal", "{")
    found = read_reports(CostReport, tmp_path)
    assert list(found) == ["gpu"]
    assert (found["gpu"].kind, found["gpu"].rows) == ("gpu", report("gpu")["rows"])
    assert (found["gpu"].provenance.gpu, found["gpu"].setting["tokens"]) == ("Made-up GPU", 64)
    assert read_reports(CostReport, tmp_path, ["cpu"]) == {}


def test_reports_on_operators_are_read_too(tmp_path: Path):
    write(tmp_path, "cpu", operators())
    found = read_reports(OperatorReport, tmp_path)["cpu"]
    assert (found.rows[0]["ms"], found.provenance.kernels_hash) == ({"p50": 2.0}, "0123456789abcdef")


def without(made: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key != name}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (report("gpu"), "a report of kind 'gpu'"),
        (report("cpu") | {"kind": "tpu"}, "not such a report: kind: Input should be 'cpu' or 'gpu'"),
        (report("cpu", schema=2), "not such a report: schema: Input should be 3"),
        (operators(), "not such a report: schema: Input should be 3"),
        (without(report("cpu"), "setting"), "not such a report: setting: Field required"),
        (report("cpu", rows=[1]), "not such a report: rows.0: Input should be a valid dictionary"),
        (report("cpu", more=1), "not such a report: more: Extra inputs are not permitted"),
        (json.dumps(report("cpu"))[:-1], "truncated or corrupt: Expecting ',' delimiter"),
        ("", "truncated or corrupt: Expecting value"),
        ("[]", "not such a report: Input should be a valid dictionary"),
    ],
)
def test_what_is_no_report_is_refused_in_a_line_that_names_the_file(tmp_path: Path, content: Any, said: str):
    path = write(tmp_path, "cpu", content)
    line = refusal(CostReport, tmp_path)
    assert line.startswith(f"{path}: {said}")
    assert "\n" not in line


@pytest.mark.parametrize("spoil", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe{")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, spoil: Callable[[Path], object]):
    path = tmp_path / "cpu.json"
    spoil(path)
    line = refusal(OperatorReport, tmp_path)
    assert str(path) in line
    assert "\n" not in line


def test_a_cost_report_is_no_report_on_operators(tmp_path: Path):
    path = write(tmp_path, "cpu", report("cpu"))
    assert refusal(OperatorReport, tmp_path).startswith(f"{path}: not such a report: ")
