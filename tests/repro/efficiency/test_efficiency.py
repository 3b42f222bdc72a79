"""Measuring costs, rehearsed at a tiny size: what is timed is what is said, and every section yields its rows."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_costs import report
from torch import nn

from clamp.config import ConfigError
from clamp.model import Clamp, Tagger
from repro.__main__ import main
from repro.efficiency import effort, measure, memory, steps
from repro.efficiency.corpus import PASSES, corpus_batches, passes
from repro.efficiency.generative import Generative
from repro.efficiency.names import (
    ANY_LENGTH,
    CONTRAST,
    EVERYTHING,
    FUSION,
    FUSION_ALONE,
    HEADS,
    IMAGE,
    ONE_LENGTH,
    OPTIMISER,
    PROFILE_VARIANTS,
    TEXT,
)
from repro.efficiency.systems import CLAMP, ENCODERS, TINY, Encoders, build, make_batch, systems
from repro.efficiency.timing import Rounds, ratios, spread, timed_rounds
from repro.evidence.measurements import read_efficiency, rows_of
from repro.records.measurements import KINDS
from repro.run.published import published

CPU = torch.device("cpu")
SECTIONS = {
    *("soundness", "counts", "latency", "sizes", "inference_parts"),
    *("training", "corpus", "compiled", "profile", "memory"),
}


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    shared = Encoders.of(TINY, TINY.image_size, CPU)
    return {name: build(name, TINY, CPU, shared) for name in systems(CPU)}


def clamp_of(models: dict[str, nn.Module]) -> Clamp:
    model = models["clamp_torch"]
    assert isinstance(model, Clamp)
    return model


# --- timing ---


def test_every_call_has_its_turn_in_every_round() -> None:
    order: list[str] = []
    found = timed_rounds({name: partial(order.append, name) for name in "abc"}, Rounds(4, 0.0), CPU)
    assert order == list("abcbcacababc")
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys("abc", 4)


def test_rounds_go_on_until_the_time_is_spent() -> None:
    found = timed_rounds({"a": partial(time.sleep, 0.01)}, Rounds(1, 0.05), CPU)
    assert 2 <= len(found["a"]) <= 6
    assert min(found["a"]) >= 0.01


def test_ratios_are_of_the_same_round() -> None:
    assert spread([2.0, 1.0, 3.0], 10.0)["p50"] == 20.0
    assert ratios([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == pytest.approx({"p10": 2.2, "p50": 3.0, "p90": 3.8})


# --- systems ---


def test_systems_share_the_encoders(models: dict[str, nn.Module]) -> None:
    taggers = [model for model in models.values() if isinstance(model, Tagger)]
    assert len(taggers) == len(models) - 1
    assert len({id(model.text_encoder) for model in taggers}) == 1
    assert len({id(model.vision_encoder) for model in taggers if model.uses_image}) == 1


def test_shared_or_not_a_system_is_of_the_same_size(models: dict[str, nn.Module]) -> None:
    def shapes(model: nn.Module) -> Counter[tuple[int, ...]]:
        return Counter(tuple(parameter.shape) for parameter in model.parameters())

    for name, model in models.items():
        assert shapes(build(name, TINY, CPU)) == shapes(model)


def test_batches_repeat_and_have_the_sizes_they_say() -> None:
    one, two = (make_batch(TINY, 3, CPU, tokens=5, image_size=16) for _ in range(2))
    assert torch.equal(one.token_ids_BS, two.token_ids_BS)
    assert one.token_ids_BS.shape == one.word_mask_BT.shape == (3, 5)
    assert one.pixels_BCHW is not None
    assert one.pixels_BCHW.shape == (3, 3, 16, 16)
    captioned = make_batch(TINY, 3, CPU, name="caption_concat")
    assert captioned.token_ids_BS.shape == (3, TINY.tokens + TINY.caption_tokens)
    assert captioned.word_mask_BT.shape == (3, TINY.tokens)


@torch.no_grad()
def test_a_wide_enough_beam_finds_the_best_sequence_of_all() -> None:
    """With a beam for every prefix the search is exhaustive, so it must agree with scoring every sequence whole."""
    model = Generative(replace(TINY.generative, beams=144, target=3)).eval()
    batch = make_batch(TINY, 2, CPU)
    found = model(batch)
    states_BND, choices_BPD, read_as_BPD = model._encode(batch)
    places = choices_BPD.shape[1]
    assert places == 12
    every_SL = torch.cartesian_prod(*[torch.arange(places)] * 3)
    for b, best in enumerate(found):
        inputs_SLD = read_as_BPD[b][torch.cat([torch.zeros_like(every_SL[:, :1]), every_SL[:, :2]], dim=1)]
        states_SND = states_BND[b].expand(len(every_SL), -1, -1)
        hidden_SLD = model.bart.decoder(inputs_embeds=inputs_SLD, encoder_hidden_states=states_SND).last_hidden_state
        log_probs_SLP = (hidden_SLD @ choices_BPD[b].T).log_softmax(dim=-1)
        score_S = log_probs_SLP.gather(2, every_SL[..., None]).sum(dim=(1, 2))
        assert every_SL[score_S.argmax()].tolist() == best.tolist()


def test_flops_are_counted_on_the_reference_operators(models: dict[str, nn.Module]) -> None:
    batch = make_batch(TINY, 1, CPU)
    counts = [
        measure.flops(models[name], partial(steps.infer, models[name], batch)) for name in CLAMP if name in models
    ]
    assert len(counts) == 2
    assert counts[0] == counts[1]
    assert clamp_of(models).fusion.stages[0].operators == "torch"  # as before


# --- steps ---


def test_a_step_by_part_is_the_whole_step(models: dict[str, nn.Module]) -> None:
    model, batch = clamp_of(models), make_batch(TINY, 4, CPU)
    model.eval()  # no dropout, whose draws would differ
    steps.train(model, batch, [])
    whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    seconds = steps.training_parts(model, batch, [])
    assert list(seconds) == [TEXT, IMAGE, FUSION, HEADS, CONTRAST, OPTIMISER]
    by_part = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert whole.keys() == by_part.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(by_part[name], gradient, rtol=1e-4, atol=1e-6)
    assert list(steps.inference_parts(model, batch)) == [TEXT, IMAGE, FUSION, HEADS]


@pytest.mark.parametrize("name", systems(CPU))
def test_a_training_step_moves_whatever_has_a_gradient(models: dict[str, nn.Module], name: str) -> None:
    model, batch = models[name], make_batch(TINY, 4, CPU, name=name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the first moves the layers that start at zero, behind which the image's encoder lies
        steps.train(model, batch, [optimizer])
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    model.load_state_dict(before)
    assert any("text_encoder" in key or "bart.encoder" in key for key in moved)
    assert any("vision_encoder" in key for key in moved) == (getattr(model, "uses_image", False))


# --- sections ---


def test_a_corpus_is_read_with_less_the_second_time(models: dict[str, nn.Module]) -> None:
    batches = corpus_batches(TINY, 8, 4, CPU)
    assert [tuple(batch.word_mask_BT.shape) for batch in batches] == [(4, 4), (4, 6)]
    rows = list(passes(clamp_of(models).eval(), batches, Rounds(2, 0.0), CPU))
    assert [row["variant"] for row in rows] == list(PASSES)
    assert all(row["same_output"] and row["tweets"] == 8 for row in rows)
    assert rows[1]["ratio"]["p50"] == 1.0


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command's files, with the memory of two systems only: each is a process."""
    out = tmp_path_factory.mktemp("costs")
    of_all = memory.peaks

    def of_two(names: list[str], *rest: Any) -> Any:
        return of_all(names[:2], *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "peaks", of_two)
        assert main(["efficiency", "--quick", "--device", "cpu", "--out", str(out)]) == 0
    return out


def test_every_section_yields_its_rows(rehearsal: Path) -> None:
    found = read_efficiency(rehearsal / "results" / "efficiency")["cpu"]
    assert found.quick
    assert {name for name, outcome in found.sections.items() if "error" in outcome} == set()
    assert found.sections["compiled"]["skipped"]
    names = set(systems(CPU))
    assert {row["variant"] for row in rows_of(found, "counts")} == names
    for batch in (1, 32):
        assert {row["variant"] for row in rows_of(found, "latency", batch=batch)} == names
    assert {row["variant"] for row in rows_of(found, "latency", batch=2)} == {ENCODERS, "clamp_torch"}
    assert {row.get("variant") for row in rows_of(found, "training")} == names | {None}
    assert {row["regions"] for row in rows_of(found, "sizes") if "regions" in row} == {4, 16}
    assert {row["tokens"] for row in rows_of(found, "sizes") if "tokens" in row} == {4, 8}
    assert {row["variant"] for row in rows_of(found, "profile", batch=1)} == set(PROFILE_VARIANTS)
    for row in rows_of(found, "memory"):
        assert 2**20 < row["empty_bytes"] < row["inference_bytes"] <= row["training_bytes"] < 2**33
    assert found.provenance.gpu is None
    assert found.provenance.source_hash


def test_the_command_writes_the_tables_too_and_the_report_repeats_them(rehearsal: Path) -> None:
    text, index = (rehearsal / "report.md").read_text(), (rehearsal / "README.md").read_text()
    assert "CPU: a rehearsal at a tiny size; none of it is a result." in text
    for name in ("efficiency_batch", "efficiency_size", "efficiency_parts"):
        assert f'<a id="figure_{name}"></a>' in text
        assert f"[{name}.png]({name}.png)" in index
    assert '<a id="efficiency"></a>' in text
    assert "[efficiency.md](efficiency.md)" in index
    before = {path.name: path.read_bytes() for path in rehearsal.iterdir() if path.is_file()}
    assert main(["report", "--out", str(rehearsal)]) == 0
    assert {path.name: path.read_bytes() for path in rehearsal.iterdir() if path.is_file()} == before


def test_a_section_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(self: measure.Bench) -> Any:
        raise RuntimeError("out of memory")
        yield

    for name in SECTIONS - {"counts"}:
        monkeypatch.setattr(measure.Bench, f"_{name}", fails)
    assert measure.run(tmp_path, ["cpu"], True, []) == 1
    written = json.loads((tmp_path / "results" / "efficiency" / "cpu.json").read_text())
    assert written["sections"]["latency"]["error"] == "RuntimeError: out of memory"
    assert {row["section"] for row in written["rows"]} == {"counts"}


def test_every_row_is_kept_when_it_is_there_and_nothing_is_begun_after_the_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "results" / "efficiency" / "cpu.json"
    kept = []

    def planted(self: measure.Bench) -> Any:
        for number in range(3):
            if number:
                kept.append(len(json.loads(file.read_text())["rows"]))
            yield {"variant": "encoders", "number": number}

    for name in SECTIONS:
        monkeypatch.setattr(measure.Bench, f"_{name}", lambda self: iter(()))
    monkeypatch.setattr(measure.Bench, "_counts", planted)
    assert measure.run(tmp_path, ["cpu"], True, []) == 0
    assert kept == [1, 2]
    assert measure.run(tmp_path, ["cpu"], True, [], minutes=0) == 0
    written = json.loads(file.read_text())
    assert {outcome["skipped"] for outcome in written["sections"].values()} == {"not begun: the minutes were up"}
    assert written["rows"] == []


def test_training_that_is_not_sound_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SECTIONS:
        monkeypatch.setattr(measure.Bench, f"_{name}", lambda self: iter(()))
    for right, code in ((True, 0), (False, 1)):
        monkeypatch.setattr(measure.Bench, "_soundness", lambda self, right=right: iter([{"right": right}]))
        assert measure.run(tmp_path, ["cpu"], True, []) == code


def test_a_rehearsal_takes_no_measurements_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results" / "efficiency" / "cpu.json"
    file.parent.mkdir(parents=True)
    measured = json.dumps(report("cpu"))
    end = len(measured) - 1
    rehearse = ["efficiency", "--quick", "--device", "cpu", "--out", str(tmp_path)]
    for content, error in (
        (measured, "holds a measurement; give the rehearsal an --out of its own"),
        (measured[:-1], f"truncated or corrupt: Expecting ',' delimiter: line 1 column {end + 1} (char {end})"),
    ):
        file.write_text(content)
        assert main(rehearse) == 2
        assert capsys.readouterr().err == f"error: {file}: {error}\n"
        assert file.read_text() == content


def test_a_device_that_is_absent_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "devices", lambda: ["cpu"])
    assert main(["efficiency", "--quick", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "error: --device cuda: there is none here\n"


def test_fewer_seconds_leave_the_least_rounds() -> None:
    shortened = effort.FULL.shortened(0.5)
    assert shortened.small == Rounds(effort.FULL.small.least, effort.FULL.small.seconds / 2)
    assert shortened.batches == effort.FULL.batches


def test_records_are_not_disturbed(rehearsal: Path) -> None:
    assert published(rehearsal / "results") == ([], [])
    assert set(read_efficiency(rehearsal / "results" / "efficiency")) < set(KINDS)


def test_compiled_systems_are_timed_against_each_other_and_against_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def slowed(forward: Any, *, any_length: bool) -> Any:
        asked.append((type(forward.__self__).__name__, any_length))
        delays = iter([0.3])  # seconds of compilation

        def slower(*args: Any, **options: Any) -> Any:
            time.sleep(next(delays, 0.1))
            return forward(*args, **options)

        return slower

    monkeypatch.setattr(measure, "compiled", slowed)
    rows = list(measure.Bench(TINY, replace(effort.QUICK, compiles=True), CPU)._compiled())
    assert [(row["compiled"], row["form"], row["batch"], row["variant"]) for row in rows] == [
        (FUSION_ALONE, ANY_LENGTH, 1, "clamp_torch"),
        (FUSION_ALONE, ONE_LENGTH, 1, "clamp_torch"),
        (EVERYTHING, ANY_LENGTH, 1, ENCODERS),
        (EVERYTHING, ANY_LENGTH, 1, "clamp_torch"),
        (EVERYTHING, ONE_LENGTH, 1, ENCODERS),
        (EVERYTHING, ONE_LENGTH, 1, "clamp_torch"),
        (EVERYTHING, ANY_LENGTH, 32, ENCODERS),
        (EVERYTHING, ANY_LENGTH, 32, "clamp_torch"),
    ]
    assert [owner for owner, _ in asked] == [*["ProgressiveFusion"] * 2, *["EncodersAlone", "Clamp"] * 3]
    assert [any_length for _, any_length in asked] == [True, False, True, True, False, False, True, True]
    assert all((row["ratio"]["p50"] == 1.0) == (row["variant"] == ENCODERS) for row in rows)
    assert all(row["gain"]["p50"] > 1.5 and row["compilation_seconds"] >= 0.3 for row in rows)
    alone, both = (row["ratio"]["p50"] for row in (rows[0], rows[3]))
    assert alone > 1.5 > both  # the encoders are as they are in one, and as slow in the other


def test_without_a_compiler_the_section_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(forward: Any, *, any_length: bool) -> Any:
        raise ConfigError("no compiler")

    monkeypatch.setattr(measure, "compiled", absent)
    with pytest.raises(measure.Skipped, match="no compiler"):
        next(measure.Bench(TINY, replace(effort.QUICK, compiles=True), CPU)._compiled())
