"""Figures of made-up records: which are drawn, that what they show is the records', and that bytes repeat."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from drawing import BY_NAME, assert_whole, drawn, names_of, write_figures
from made_up import evidence_of, record, suite, with_bounds
from matplotlib.colors import to_rgb

from repro.evidence.stats import summarise
from repro.plan.variants import SUITE
from repro.records.files import StoreError
from repro.report.figures.loss_weights import TASK_STYLES, _named_bounds
from repro.report.figures.style import COLUMN, CURVES, SHORT
from repro.report.wording import interval

BOARDS = ["board", "board_phone"]
OF_RECORDS = [*BOARDS, "learning_curves", "loss_weights", "ablations"]
FEW = [record(variant, seed, epochs=8 - seed) for variant in ("full", "text_only") for seed in range(3)]


def axes_of(name: str, records: list) -> list:
    return drawn(name, evidence_of(records)).axes


def test_no_record_no_figure(tmp_path: Path):
    assert write_figures(evidence_of([]), tmp_path) == []
    assert names_of(evidence_of([])) == []


def test_only_what_the_records_suffice_for_is_drawn(tmp_path: Path):
    text_only = [record("text_only", profile="offline", dataset="twitter2015")]
    assert names_of(evidence_of(text_only)) == [*BOARDS, "learning_curves"]
    paths = write_figures(evidence_of(text_only), tmp_path)
    assert [path.name for path in paths[4:]] == ["learning_curves.png", "learning_curves.pdf"]
    assert names_of(evidence_of(FEW)) == [*OF_RECORDS, "efficiency_f1"]


def test_the_same_records_give_the_same_bytes(tmp_path: Path):
    first = write_figures(evidence_of(FEW), tmp_path / "a")
    second = write_figures(evidence_of(FEW[::-1]), tmp_path / "b")
    assert len(first) == len(second) == 12
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]
    for path in first:
        content = path.read_bytes()
        assert not re.search(rb"CreationDate|matplotlib (v|3)", content)


def test_pictures_are_one_or_two_columns_wide_and_nothing_touches_their_edge(tmp_path: Path):
    for path in write_figures(evidence_of(FEW), tmp_path):
        if path.stem == "board":
            continue  # wider than a page of print: it is for screens, and as .pdf it can be turned
        if path.suffix == ".png":
            columns = 2 if path.stem == "loss_weights" else 1  # uncertainties stand beside the weights
            assert_whole(path, (round(columns * COLUMN * 200),))


def test_learning_curves_show_the_mean_over_seeds_as_far_as_all_go():
    (axis,) = axes_of("learning_curves", FEW)
    curves = {line.get_label(): line for line in axis.lines}
    assert set(curves) == {"CLAMP", "text only"}
    runs = [[100 * e["dev_f1"] for e in r["result"]["curve"]] for r in FEW if r["variant"] == "full"]
    assert [len(run) for run in runs] == [8, 7, 6]
    np.testing.assert_allclose(curves["CLAMP"].get_ydata(), np.mean([run[:6] for run in runs], axis=0))
    assert list(curves["CLAMP"].get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert len(axis.collections) == 2  # a band each
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(min(run[0] for run in runs))
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "dev joint F1 (%)")


def test_one_seed_has_no_band():
    (axis,) = axes_of("learning_curves", [record("full")])
    assert len(axis.collections) == 0


def test_loss_weights_are_those_of_the_log_with_their_bounds():
    lowest = {"tagging": -4.0, "aspect": 2.0, "global": 2.0, "local": 2.0}
    records = [with_bounds(record("full", seed, epochs=8 - seed), **lowest) for seed in range(3)]
    axis, beside = axes_of("loss_weights", records)
    lines = {line.get_label(): line for line in axis.lines}
    assert set(TASK_STYLES) < set(lines)
    logged = [np.array(r["result"]["weighting"]["s"]["tagging"]) for r in records]
    np.testing.assert_allclose(lines["tagging"].get_ydata(), np.mean(np.exp(-np.array(logged)) / 2, axis=0))
    assert list(lines["tagging"].get_xdata()) == FEW[0]["result"]["weighting"]["step"]
    bounds = [line for line in axis.lines if line.get_linewidth() == 0.8 and len(line.get_ydata())]
    heights = sorted({line.get_ydata()[0] for line in bounds})
    np.testing.assert_allclose(heights, [np.exp(-2) / 2, np.exp(4) / 2])
    assert [text.get_text() for text in axis.texts] == ["most for tagging: 27.3", "most for the others: 0.0677"]
    assert beside.get_ylabel() == "uncertainty sigma = exp(s/2)"
    sigmas = {line.get_label(): line for line in beside.lines}
    np.testing.assert_allclose(sigmas["tagging"].get_ydata(), np.mean(np.exp(logged) ** 0.5, axis=0))
    said = BY_NAME["loss_weights"].caption
    assert "Dotted, where s had them: its lower bounds, which are upper limits of the weights" in said
    assert [text.get_text() for text in beside.texts] == ["least for tagging: 0.135", "least for the others: 2.72"]


def test_loss_weights_without_bounds_have_no_limit():
    records = [record("full", seed) for seed in range(2)]
    for r in records:
        assert "lowest" not in r["config"]["model"]["aggregation"]
    figure = drawn("loss_weights", evidence_of(records))
    for axis in figure.axes:
        assert [line for line in axis.lines if line.get_linewidth() == 0.8] == []
        assert list(axis.texts) == []
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(TASK_STYLES)


def test_bounds_are_named_by_their_tasks():
    assert _named_bounds({}) == {}
    assert _named_bounds({"tagging": 0.0, "aspect": 0.0}) == {0.0: "all"}
    apart = {"tagging": -4.0, "aspect": 1.0, "global": 2.0}
    assert _named_bounds(apart) == {-4.0: "tagging", 1.0: "aspect", 2.0: "global"}


def test_a_weight_that_some_seeds_lack_has_no_curve():
    records = [record("full", seed) for seed in range(2)]
    del records[1]["result"]["weighting"]["s"]["local"]
    axis, _ = axes_of("loss_weights", records)
    assert {line.get_label() for line in axis.lines} == set(TASK_STYLES) - {"local"}


def test_ablation_dots_show_every_seed_mean_and_interval():
    records = [*FEW, record("one_stage", 0, f1=0.8)]
    (axis,) = axes_of("ablations", records)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["CLAMP (3)", "one stage (1)", "text only (3)"]
    for row, variant in enumerate(("full", "one_stage", "text_only")):
        values = [100 * r["result"]["metrics"]["test"]["joint"]["f1"] for r in records if r["variant"] == variant]
        at_row = [line for line in axis.lines if len(line.get_ydata()) and abs(np.mean(line.get_ydata()) - row) < 0.01]
        dots = next(line for line in at_row if line.get_marker() == "o")
        assert list(dots.get_xdata()) == values
        spans = [line.get_xdata() for line in at_row if line.get_marker() == "None" and len(set(line.get_xdata())) == 2]
        summary = summarise(values)
        assert [list(span) for span in spans] == ([[summary.low, summary.high]] if summary.n >= 3 else [])


def test_an_interval_ends_where_f1_does():
    records = [record("full", seed, f1=f1) for seed, f1 in enumerate((0.67, 0.73, 0.98))]
    (axis,) = axes_of("ablations", [*records, record("text_only", 0)])
    ends = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert summarise([67, 73, 98]).high > 100
    assert max(map(max, ends)) == 100
    assert interval([0.67, 0.73, 0.98]).endswith(" to 100.0")
    assert interval([0.02, 0.08, 0.33]).startswith("0.0 to ")


def test_panels_stand_in_the_order_of_profiles_and_mark_other_sources():
    records = [*FEW, record("full", profile="offline", dataset="twitter2015", source_hash="f" * 16)]
    titles = [axis.get_title() for axis in axes_of("learning_curves", records)]
    assert titles == ["Generated tweets", "Twitter-2015, offline†"]


def test_every_variant_has_a_short_name_and_every_curve_two_ways_to_tell_it():
    assert set(SHORT) == set(SUITE)
    for styles in (list(CURVES.values()), [(task, *style[:2]) for task, style in TASK_STYLES.items()]):
        assert len({to_rgb(color) for _, color, _ in styles}) == len({str(line) for *_, line in styles}) == len(styles)


def test_all_variants_fit_without_overlap():
    figure_axes = axes_of("ablations", suite())
    figure = figure_axes[0].figure
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure_axes[0].get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "board.png"
    target.write_text("what was there before")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StoreError, match=re.escape("board.png: No space left")):
        write_figures(evidence_of(FEW), tmp_path)
    assert target.read_text() == "what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["board.png"]
