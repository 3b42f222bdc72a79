"""The GPU report, rehearsed on a CPU: every section runs, and one that fails leaves the others whole."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import kernels
import kernels.bench.__main__ as command
from kernels.bench.__main__ import main
from kernels.bench.measure.timing import Row
from kernels.bench.sections import Emit, Section, run_apart, sections
from kernels.bench.targets import TARGETS
from kernels.bench.works import attention, ceilings, checks, contrast, fusion, peers

sys.path.insert(0, str(Path(__file__).parents[1]))
import planted_sections

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="what a machine without a GPU says")


# --- the whole, rehearsed ---


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("report")
    code = main(["--rehearse", "--out", str(folder)])
    made = json.loads((folder / "rehearsal.json").read_text())
    return made | {"exit code": code}


def test_every_section_runs_to_its_end(rehearsal: dict[str, Any]) -> None:
    assert rehearsal["sections"].keys() == sections(rehearse=True).keys()
    assert {name: it["error"] for name, it in rehearsal["sections"].items() if "error" in it} == {}
    assert {row["section"] for row in rehearsal["rows"]} == set(rehearsal["sections"])
    assert rehearsal["complete"] is True


def test_every_operator_is_right_and_repeats_in_the_interpreter(rehearsal: dict[str, Any]) -> None:
    judged = [row for row in rehearsal["rows"] if "check" in row and row["variant"] == "kernels"]
    assert [row for row in judged if not row["right"]] == []
    assert {row["check"] for row in judged} >= {checks.PARITY, checks.REPEATS, checks.SEEDED}
    assert {row["work"].partition(",")[0] for row in judged} == {*kernels.__all__[1:], "fusion"}
    assert rehearsal["exit code"] == 0


def test_nothing_fails_in_a_rehearsal_but_peers_that_need_a_gpu(rehearsal: dict[str, Any]) -> None:
    need_a_gpu = {"SDPA efficient", "SDPA cudnn", "SDPA flash", peers.FLEX, peers.SIGLIP, peers.INF_CL}
    failed = {row["variant"]: row["error"] for row in rehearsal["rows"] if "error" in row}
    assert {name: why for name, why in failed.items() if name not in need_a_gpu} == {}


@pytest.mark.parametrize("launch", ["eager", "graph"])
def test_the_works_that_targets_speak_of_are_timed(rehearsal: dict[str, Any], launch: str) -> None:
    timed = {(row["work"], row["variant"]) for row in rehearsal["rows"] if "ms" in row and row["launch"] == launch}
    works = [attention.MASKED, attention.GUIDED, attention.DROPPING]
    works += [fusion.TRAINING, fusion.TRAINING_SMALL, fusion.INFERENCE]
    if launch == "eager":
        works += [contrast.work_of(n) for n in (2**14, 2**16)]
        assert (contrast.work_of(2**20), "kernels") in timed
        assert (ceilings.PRODUCT, "torch") in timed
    else:
        assert (fusion.TRAINING, fusion.PRODUCTS) in timed
    assert {(work, variant) for work in works for variant in ("kernels", "eager")} <= timed


def test_a_timing_has_its_percentiles_in_order_and_says_what_it_timed(rehearsal: dict[str, Any]) -> None:
    timed = [row for row in rehearsal["rows"] if "ms" in row]
    assert len(timed) > 80
    for row in timed:
        assert 0 < row["ms"]["p10"] <= row["ms"]["p50"] <= row["ms"]["p90"]
        assert row["calls"] >= 1


def test_provenance_names_machine_software_and_sources_and_no_path(rehearsal: dict[str, Any]) -> None:
    made = rehearsal["provenance"]
    assert made["packages"]["torch"] == torch.__version__
    assert made["python"] == sys.version.split()[0]
    assert len(made["kernels_hash"]) == 16
    assert str(Path.cwd()) not in json.dumps(rehearsal)


# --- the command line ---


@without_gpu
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no CUDA device")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_section_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rehearse", "--out", str(tmp_path), "--only", "attention"]) == 2
    assert capsys.readouterr().err.startswith("error: no section 'attention'; there are 'check cross_attention")


def test_some_sections_alone_make_no_complete_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rehearse", "--out", str(tmp_path), "--only", "ceilings"]) == 0
    made = json.loads((tmp_path / "rehearsal.json").read_text())
    assert (list(made["sections"]), made["complete"]) == (["ceilings"], False)
    assert capsys.readouterr().out.strip().endswith("rehearsal.json")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--rehearse", "--out", str(tmp_path / "file" / "below"), "--only", "ceilings"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- sections in processes of their own ---


NAMES = ("whole", "dies", "dies in mid-message", "hangs", "hangs in mid-message", *planted_sections.RAISED, "after")
OUTCOMES = {
    "whole": None,
    "dies": "its process died with exit code 11",
    "dies in mid-message": "its process died with exit code 9",
    "hangs": "stopped after 8 s",
    "hangs in mid-message": "stopped after 8 s",
    **planted_sections.RAISED,
    "after": None,
}


def planted(names: Sequence[str]) -> dict[str, Section]:
    def nothing(_: object) -> Iterator[Row]:
        return iter(())

    return {n: Section(nothing, 8 if n.startswith("hangs") else 60, timed=n == "after") for n in names}


@pytest.mark.parametrize(("names", "code"), [(NAMES, 3), (("whole", "wrong", "dies"), 1), (("whole", "after"), 0)])
def test_whatever_a_section_does_the_report_is_whole_judged_and_on_disk(
    names: Sequence[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = []

    def apart(chosen: dict[str, Section], emit: Emit) -> dict[str, Any]:
        def looked_at(name: str, row: Row) -> None:
            emit(name, row)
            on_disk.append(len(json.loads((tmp_path / "rehearsal.json").read_text())["rows"]))

        return run_apart(chosen, looked_at, time.monotonic() + 100, planted_sections.child)

    monkeypatch.setattr(command, "sections", lambda rehearse: planted(names))
    monkeypatch.setattr(command, "run_here", apart)
    assert main(["--rehearse", "--out", str(tmp_path)]) == code
    made = json.loads((tmp_path / "rehearsal.json").read_text())
    assert on_disk == list(range(1, len(names) + 1))  # each row before the next one came
    assert sorted(row["work"] for row in made["rows"]) == sorted(names)
    assert made["complete"] is True
    assert len(made["targets"]) == len(TARGETS)
    if code == 3:
        assert {name: outcome.get("error") for name, outcome in made["sections"].items()} == OUTCOMES


def test_time_counts_from_the_start_of_the_process() -> None:
    code = "import time; time.sleep(1); from kernels.bench.measure.machine import process_seconds as s; print(s())"
    start = time.monotonic()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 1 < float(said) < time.monotonic() - start + 0.1


def test_what_is_past_the_deadline_is_not_begun() -> None:
    chosen = {"late": Section(lambda _: iter(()), 60)}
    outcomes = run_apart(chosen, lambda *_: None, time.monotonic() - 1, planted_sections.child)
    assert outcomes["late"]["error"] == "not begun: the report's time was up"


@without_gpu
def test_a_section_that_finds_no_gpu_ends_with_its_reason() -> None:
    chosen = {"ceilings": sections(rehearse=False)["ceilings"]}
    outcome = run_apart(chosen, lambda *_: None, time.monotonic() + 100)["ceilings"]
    assert "CUDA" in outcome["error"] or "NVIDIA" in outcome["error"]
