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
from kernels.bench.measure.devices import Rehearsal
from kernels.bench.measure.rows import Earlier, Row
from kernels.bench.sections import PREFLIGHT, Emit, Section, run_apart, sections
from kernels.bench.targets import TARGETS
from kernels.bench.works import attention, ceilings, checks, contrast, fusion, peers, preflight, sweep

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
    assert {row["work"].partition(",")[0] for row in judged} == {*kernels.__all__[1:], "fusion", "sweep"}
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


def test_every_alternative_of_the_sweep_is_right_timed_and_compared(rehearsal: dict[str, Any]) -> None:
    swept = [row for row in rehearsal["rows"] if row["section"] == "sweep"]
    assert [row for row in swept if not row.get("right", True)] == []
    for one in sweep.SWEEPS:
        of_work = [row for row in swept if row["work"] == one.work]
        timed = {row["variant"]: row["ms"]["p50"] for row in of_work if "ms" in row}
        (best,) = [row for row in of_work if row["launch" if "launch" in row else "check"] == sweep.BEST]
        assert min(timed.values()) == timed[best["variant"]]
        assert best["times_shipped"] == pytest.approx(timed[best["variant"]] / timed["kernels"])
        if Rehearsal().impl == "triton":
            assert set(timed) == {"kernels", *one.alternatives()}
            assert 4 <= len(timed) <= 7


def test_an_alternative_takes_the_place_of_the_shipped_tiles_and_goes_again() -> None:
    configs = pytest.importorskip("kernels.attention.configs")
    asked = (90, torch.float16, 64, 197, 64, False, False)
    shipped = configs.forward_row(*asked)
    with sweep._instead("kernels.attention.configs", {"forward_row": "another"}):
        assert configs.forward_row(*asked) == "another"
    assert configs.forward_row(*asked) == shipped


def test_a_sweep_that_is_begun_again_times_what_was_right() -> None:
    device, one = Rehearsal(), sweep.SWEEPS[4]
    checked = [row for row in sweep._swept(device, one) if "check" in row]
    wrong = checked[-1] | {"right": False}
    device.earlier = Earlier().and_then([*checked[:-1], wrong], {"work": "another", "variant": "a peer"}, "died")
    again = list(sweep._swept(device, one))
    assert [row for row in again if "check" in row] == []
    assert [row["variant"] for row in again if "ms" in row] == [row["variant"] for row in checked[:-1]]


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
    assert capsys.readouterr().err.startswith(
        "error: no section 'attention'; there are 'preflight', 'check cross_attention"
    )


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


def run_planted(chosen: dict[str, Section], rows: list[Row]) -> dict[str, Any]:
    return run_apart(chosen, lambda _, row: rows.append(row), time.monotonic() + 100, planted_sections.child)


@pytest.mark.parametrize("how", ["dies", "is poisoned"])
def test_a_section_is_begun_again_without_what_ended_it(how: str) -> None:
    rows: list[Row] = []
    chosen = {f"begun again, {how}": Section(lambda _: iter(()), 60)}
    (outcome,) = run_apart(
        chosen, lambda _, row: rows.append(row), time.monotonic() + 100, planted_sections.child
    ).values()
    assert [restart["without"] for restart in outcome["restarts"]] == [["second", "peer"]]
    assert "error" not in outcome
    timed = [(row["work"], row["variant"]) for row in rows if "ms" in row]
    # each once: what the first try had is not measured again
    assert timed == [
        ("first", "kernels"),
        ("first", "eager"),
        ("first", "peer"),
        ("second", "kernels"),
        ("second", "eager"),
    ]
    (left_out,) = [row for row in rows if "error" in row]
    assert (left_out["work"], left_out["variant"]) == ("second", "peer")
    assert left_out["error"].startswith("left out, it ended the section's process: ")
    assert ("139" if how == "dies" else "illegal memory access") in left_out["error"]


def test_a_section_is_not_begun_again_for_ever() -> None:
    rows: list[Row] = []
    chosen = {"begun again, for ever": Section(lambda _: iter(()), 60)}
    (outcome,) = run_apart(
        chosen, lambda _, row: rows.append(row), time.monotonic() + 100, planted_sections.child
    ).values()
    assert [restart["without"][1] for restart in outcome["restarts"]] == ["kernels", "peer"]
    assert [(row["work"], row["variant"]) for row in rows if "ms" in row][-1] == ("second", "eager")


def test_nothing_is_begun_where_the_preflight_fails() -> None:
    rows: list[Row] = []
    chosen = {"whole": Section(lambda _: iter(()), 60, timed=False), PREFLIGHT: Section(lambda _: iter(()), 60)}
    outcomes = run_planted(chosen, rows)
    assert [row["check"] for row in rows] == ["has a C compiler"]
    assert outcomes["whole"]["error"] == "not begun: the preflight failed"


def test_the_preflight_says_what_the_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> dict[str, Row]:
        return {row["check"]: row for row in preflight.rows(Rehearsal())}

    assert all(row["right"] for row in said().values())
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": "/nowhere"})
    monkeypatch.setattr("kernels.bench.works.one_line.increments", lambda _: False)
    assert said()["has a C compiler"]["error"] == "CC is 'no-such-compiler', which is no program"
    assert "no Python.h" in said()["has Python's headers"]["error"]
    if preflight.STARTS in said():
        assert said()[preflight.STARTS]["error"] == "a kernel that adds one adds something else"
    assert not any(row["right"] for row in said().values())


def test_sections_leave_time_to_those_that_follow() -> None:
    """A third of what each of them may take."""
    chosen = {name: Section(lambda _: iter(()), 30) for name in ("hangs", "whole")}
    start = time.monotonic()
    outcomes = run_apart(chosen, lambda *_: None, start + 14, planted_sections.child)
    assert outcomes["hangs"]["error"] == "stopped after 4 s"
    assert "error" not in outcomes["whole"]


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
