"""The GPU report, rehearsed on a CPU: every section runs, and verdicts are what the rows say."""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import kernels
from kernels.bench import (
    attention,
    ceilings,
    checks,
    contrast,
    cpu,
    eager,
    fusion,
    inputs,
    parity,
    peers,
    report,
    targets,
)
from kernels.bench.__main__ import main
from kernels.bench.devices import Cpu, Rehearsal
from kernels.bench.sections import Section, run_apart, sections
from kernels.bench.timing import Row, Sample, Variant, compare, forward_backward

sys.path.insert(0, str(Path(__file__).parent))
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


def test_a_section_that_dies_hangs_or_fails_leaves_the_others_whole() -> None:
    def nothing(_: object) -> Iterator[Row]:
        return iter(())

    names = ("whole", "dies", "hangs", "fails", "after")
    chosen = {name: Section(nothing, 4 if name == "hangs" else 60, timed=name == "after") for name in names}
    rows: list[tuple[str, Row]] = []
    start = time.monotonic()
    outcomes = run_apart(chosen, lambda name, row: rows.append((name, row)), start + 100, planted_sections.child)
    assert time.monotonic() - start < 60
    assert sorted(rows) == sorted((name, {"work": name}) for name in names)
    assert {name: outcome.get("error") for name, outcome in outcomes.items()} == {
        "whole": None,
        "dies": "its process died with exit code 11",
        "hangs": "stopped after 4 s",
        "fails": "RuntimeError: planted",
        "after": None,
    }


def test_what_is_past_the_deadline_is_not_begun() -> None:
    chosen = {"late": Section(lambda _: iter(()), 60)}
    outcomes = run_apart(chosen, lambda *_: None, time.monotonic() - 1, planted_sections.child)
    assert outcomes["late"]["error"] == "not begun: the report's time was up"


# --- timing ---


def scaled_sample(factor: float = 1.0) -> Sample:
    return Sample({"x": torch.full((3,), factor).requires_grad_(), "mask": torch.ones(3)}, (torch.ones(3),))


def test_variants_take_turns_and_one_that_fails_is_left_out() -> None:
    order: list[tuple[str, float]] = []

    def noting(name: str) -> Variant:
        def step(sample: Sample) -> tuple[torch.Tensor, ...]:
            order.append((name, sample.arguments["x"][0].item()))
            time.sleep(2e-4)
            return ()

        return Variant(step)

    def refuses(_: Sample) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("No available kernel\nmore of it")

    variants = {"a": noting("a"), "peer": Variant(refuses), "b": noting("b")}
    samples = [scaled_sample(1.0), scaled_sample(2.0)]
    found = list(compare(Cpu(), {"work": "w"}, variants, samples, launches=("eager",), seconds=0.01))
    assert found[0] == {"work": "w", "variant": "peer", "launch": "eager", "error": "RuntimeError: No available kernel"}
    assert [(row["variant"], row["work"], row["inputs"]) for row in found[1:]] == [("a", "w", 2), ("b", "w", 2)]
    timed = order[-found[1]["calls"] - found[2]["calls"] :]
    assert {name for name, _ in timed} == {"a", "b"}
    switches = sum(x[0] != y[0] for x, y in itertools.pairwise(timed))
    assert switches >= 5
    assert {value for name, value in timed if name == "a"} == {1.0, 2.0}


def test_a_step_yields_outputs_and_the_gradients_of_what_wants_one() -> None:
    sample = scaled_sample(3.0)
    results = parity.named_results(forward_backward(lambda x, mask: x * x * mask), sample)
    assert list(results) == ["output 0", "gradient of x"]
    assert results["gradient of x"].tolist() == [6.0] * 3
    assert list(parity.named_results(forward_backward(lambda x, mask: x), Sample(sample.arguments))) == ["output 0"]


# --- parity ---


def test_limits_follow_the_pytorch_path_and_the_types_own_rounding() -> None:
    errors = {"output 0": 1e-2, "gradient of q": 1e-2, "gradient of k": 1e-9}
    assert parity.limits(errors, torch.float32) == dict.fromkeys(errors, 1e-5)
    bounds = parity.limits(errors, torch.bfloat16)
    assert bounds == {"output 0": 2e-2, "gradient of q": pytest.approx(3e-2), "gradient of k": 2**-8}
    assert parity.within(errors, bounds)
    assert not parity.within(errors | {"gradient of k": math.nan}, bounds)
    assert not parity.within(errors | {"output 0": 2.1e-2}, bounds)


def test_errors_are_relative_and_a_scalars_is_measured_against_the_largest() -> None:
    expected = {"output 0": torch.tensor([30.0, 40.0]), "gradient of scale": torch.tensor(0.01)}
    actual = {"output 0": torch.tensor([30.0, 41.0]), "gradient of scale": torch.tensor(0.02)}
    errors = parity.relative_errors(actual, expected)
    assert errors == {"output 0": pytest.approx(1 / 50), "gradient of scale": pytest.approx(0.01 / 50)}
    assert math.isnan(
        parity.relative_errors(actual | {"output 0": torch.tensor([1.0, math.nan])}, expected)["output 0"]
    )


def test_a_result_whose_bits_change_is_named() -> None:
    runs = iter([0.0, 0.0, -0.0])

    def step() -> dict[str, torch.Tensor]:
        return {"steady": torch.tensor([math.nan]), "changing": torch.tensor(next(runs))}

    assert parity.differing(step, 2) == ["changing"]


@pytest.mark.parametrize("operator", ["cross_attention", "gated_residual_norm", "grouped_info_nce"])
def test_a_planted_error_in_an_operator_is_found(operator: str) -> None:
    cases = {"cross_attention": checks.ATTENTION[1], "gated_residual_norm": checks.NORM[0]}
    case = cases.get(operator, checks.GROUPS[0])

    def wrong(*tensors: Any, impl: str, **options: Any) -> Any:
        result = case.operator(*tensors, impl=impl, **options)
        return (
            result
            if impl != "triton"
            else tuple(1.01 * r for r in result)
            if isinstance(result, tuple)
            else 1.01 * result
        )

    planted = checks.Case(case.name, wrong, case.draw, case.tiny)
    found = list(checks.rows(Rehearsal(), (planted,), torch.float32))
    assert [row["right"] for row in found if row["check"] == checks.PARITY] == [False]


# --- the eager forms compute what the operators compute ---


ATTENTION_SHAPE = (2, 3, 5, 7, 16)
FORMS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Sample]]] = {
    "attention": (eager.cross_attention, kernels.cross_attention, partial(inputs.attention, guided=False)),
    "guided attention": (eager.cross_attention, kernels.cross_attention, partial(inputs.attention, guided=True)),
    "SDPA": (peers.sdpa, kernels.cross_attention, partial(inputs.attention, guided=False)),
    "gate": (eager.gated_residual_norm, kernels.gated_residual_norm, partial(inputs.norm, gated=True, dropout_p=0.0)),
    "no gate": (eager.gated_residual_norm, kernels.gated_residual_norm, partial(inputs.norm, gated=False, dropout_p=0)),
    "pairs": (eager.info_nce, kernels.info_nce, inputs.pairs),
    "pairs, one product": (eager.info_nce_one_product, kernels.info_nce, inputs.pairs),
    "groups": (eager.grouped_info_nce, kernels.grouped_info_nce, inputs.groups),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_an_eager_form_is_its_operator(name: str) -> None:
    form, operator, draw = FORMS[name]
    shape = {"groups": (3, 7, 16), "gate": (2, 3, 16), "no gate": (2, 3, 16)}.get(name, ATTENTION_SHAPE)
    sample = parity.in_float64(draw(Cpu(), (9, 16) if name.startswith("pairs") else shape, torch.float64, 0))
    expected = parity.named_results(forward_backward(partial(operator, impl="reference")), sample)
    errors = parity.relative_errors(parity.named_results(forward_backward(form), sample), expected)
    assert len(errors) >= 4
    assert max(errors.values()) < 1e-6, errors  # the eager mass is float32 whatever the inputs are


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


def test_eager_holds_its_logits_and_the_measurement_sees_them() -> None:
    sent: list[tuple[list[float], int]] = []

    class Sender:
        def send(self, message: tuple[list[float], int]) -> None:
            sent.append(message)

    cpu._measure("eager", 1500, Sender())  # type: ignore[arg-type]
    ((times, extra),) = sent
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
