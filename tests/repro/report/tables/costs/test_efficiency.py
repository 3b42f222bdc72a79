"""The table and figures of cost: what they say is what the reports hold, and an absent report is said to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import BY_NAME, assert_whole, drawn, names_of
from made_up import evidence_of, record, set_f1
from made_up_costs import PARTS, SYSTEMS, report, timing

from repro.efficiency.names import FUSION, PROFILE_VARIANTS
from repro.evidence.evidence import Evidence
from repro.evidence.measurements import read_efficiency
from repro.records.files import StoreError
from repro.records.measurements import CostReport
from repro.report.figures.figure import write_figure
from repro.report.figures.style import COLUMN
from repro.report.table import BLOCK, Table, as_latex
from repro.report.tables.costs.efficiency import LABELS, efficiency
from repro.report.wording import NOT_MEASURED

BOTH = {"cpu": report("cpu"), "gpu": report("gpu")}
FIGURES = ["efficiency_f1", "efficiency_batch", "efficiency_size", "efficiency_parts"]


def generated() -> list[dict[str, Any]]:
    """Three seeds of CLAMP and its baselines, each a little worse and cheaper than the one before."""
    made = []
    for k, variant in enumerate(PROFILE_VARIANTS):
        for seed in range(3):
            one = record(variant, seed, f1=0.93 - 0.04 * k)
            one["result"]["cost"]["flops_per_tweet"] = int(1e6 * (9 - k))
            made.append(one)
    return made


def changed(section: str, change: Callable[[dict[str, Any]], dict[str, Any] | None], **facts: Any) -> dict[str, Any]:
    """The made-up CPU report with some rows replaced, or left out where `change` gives None."""
    made = report("cpu")
    rows = []
    for row in made["rows"]:
        hit = row["section"] == section and all(row.get(name) == value for name, value in facts.items())
        rows.append(change(row) if hit else row)
    return made | {"rows": [row for row in rows if row is not None]}


def costs(reports: dict[str, Any], records: list[dict[str, Any]]) -> Evidence:
    return evidence_of(records, efficiency={kind: CostReport.model_validate(made) for kind, made in reports.items()})


def table(reports: dict[str, Any]) -> Table:
    return efficiency(costs(reports, []))


def sentences(name: str, evidence: Evidence) -> list[str]:
    return list(BY_NAME[name].sentences(evidence))


def finding(made: dict[str, Any], start: str) -> str:
    (found,) = [line for line in table({"cpu": made}).findings if line.startswith(f"CPU: {start}")]
    return found


def axes_of(name: str, reports: dict[str, Any], records: list[dict[str, Any]] | None = None) -> list[Any]:
    return drawn(name, costs(reports, records or [])).axes


# --- the table ---


def test_without_a_report_every_cell_says_so_and_nothing_is_drawn(tmp_path: Path) -> None:
    made = table(read_efficiency(tmp_path))
    cells = made.frame.drop(columns=[BLOCK, "system"]).to_numpy().ravel()
    assert set(cells) == {NOT_MEASURED}
    assert made.findings == (f"CPU: {NOT_MEASURED}.", f"GPU: {NOT_MEASURED}.")
    assert made.about.endswith(f"CPU: {NOT_MEASURED}. GPU: {NOT_MEASURED}.")
    assert names_of(costs({}, [])) == []


def test_the_caption_names_machine_and_threads() -> None:
    about = table(BOTH).about
    assert "64 tokens, all of them words, 196 regions, width 768" in about
    assert "CPU: 2 x Made-up (no GPU), 2 threads, float32." in about
    assert "GPU: Made-up GPU (16 x Made-up), 2 threads, bfloat16 autocast." in about
    alone = report("cpu")
    alone["provenance"] = {**alone["provenance"], "threads": 1}
    assert "one thread," in table({"cpu": alone}).about


def test_cells_are_the_reports() -> None:
    frame = table(BOTH).frame
    assert list(frame.groupby(BLOCK, sort=False).size()) == [len(SYSTEMS), len(SYSTEMS) + 1]
    row = frame[(frame[BLOCK] == "On a CPU") & (frame.system == LABELS["clamp_torch"])].iloc[0]
    assert row["parameters (M)"] == "216.0"
    assert row["GFLOP a tweet"] == "50.0"
    assert row["ms, batch 1"] == "216 (210 to 227)"
    assert row["ratio, batch 1"] == "1.08"
    assert row["ms, batch 32"] == "6,480 (6,286 to 6,804)"
    assert row["tweets/s, batch 32"] == "4.94"
    assert row["ms, training step, batch 16"].startswith("10,800")
    assert row["GiB, batch 32"] == "1.86"
    assert row["GiB, training step"] == "8.38"


def test_a_section_without_rows_is_not_measured_and_says_why() -> None:
    made = changed("training", lambda row: None)
    made["sections"] = {"training": {"error": "RuntimeError: out of memory"}}
    found = table({"cpu": made})
    assert set(found.frame[found.frame[BLOCK] == "On a CPU"]["ms, training step, batch 16"]) == {NOT_MEASURED}
    assert "CPU, training: not measured: RuntimeError: out of memory." in found.footer
    assert "a training step: not measured" in finding(made, "CLAMP")


def test_a_rehearsal_is_no_result() -> None:
    assert table({"cpu": report("cpu", quick=True)}).findings[0] == (
        "CPU: a rehearsal at a tiny size; none of it is a result."
    )


# --- sentences follow the numbers ---


def test_targets_are_met_or_not() -> None:
    met = finding(report("cpu"), "targets")
    assert "at most 10.0%: 8.0%, met" in met
    assert "encoders', both as they are, at most 1.100: 1.080, met; " in met
    assert (
        "encoders', fusion compiled for any length, the encoders in both as they are, at most 1.100: 1.060, met; "
        in met
    )
    assert (
        "encoders', fusion compiled for one length, the encoders in both as they are, at most 1.100: 1.050, met; "
        in met
    )
    assert "encoders', both compiled for any length, at most 1.100: 1.120, not met; " in met
    assert "encoders', both compiled for one length, at most 1.100: 1.070, met; " in met
    assert "at most 0.35: 0.20, met; its output is the same to the bit" in met
    slow = changed("latency", lambda row: timing("latency", "clamp_torch", 230, 1.15, batch=1), variant="clamp_torch")
    assert "both as they are, at most 1.100: 1.150, not met" in finding(slow, "targets")
    eager = finding(changed("compiled", lambda row: None), "targets")
    assert "both as they are, at most 1.100: 1.080, met" in eager
    assert eager.count("at most 1.100: not measured") == 4
    heavy = changed("counts", lambda row: row | {"flops": int(52e9)}, variant="clamp_torch")
    assert "at most 10.0%: 11.5%, not met" in finding(heavy, "targets")
    wrong = changed("corpus", lambda row: row | {"same_output": False})
    assert "its output is NOT THE SAME" in finding(wrong, "targets")
    none = changed("corpus", lambda row: None)
    assert "at most 0.35: not measured" in finding(none, "targets")


def test_only_the_cpu_has_a_target_of_latency() -> None:
    (targets,) = [line for line in table(BOTH).findings if line.startswith("GPU: targets")]
    assert "latency" not in targets


def test_own_cost_is_of_the_operators_of_the_device() -> None:
    said = table(BOTH).findings
    assert any(line.startswith("CPU: CLAMP, PyTorch operators, as a multiple") for line in said)
    assert any(line.startswith("GPU: CLAMP, Triton operators, as a multiple") for line in said)
    assert "FLOPs: 1.087 x; time at batch 1: 1.08 x (1.05 to 1.13 over rounds)" in said[0]


def test_compilation_pays_where_nine_of_ten_rounds_are_faster() -> None:
    said = finding(report("cpu"), "torch.compile")
    assert "everything for any length, batch 1: 0.88 x (0.85 to 0.92 over rounds) the time without it, it pays" in said
    assert (
        "fusion alone for one length, batch 1: 0.97 x (0.94 to 1.02 over rounds) the time without it, it does" in said
    )
    assert (
        "everything for any length, batch 32: 0.80 x (0.78 to 0.84 over rounds) the time without it, undecided" in said
    )
    none = changed("compiled", lambda row: None)
    assert (
        finding(none, "torch.compile")
        == "CPU: torch.compile of CLAMP, PyTorch operators, weights frozen: not measured."
    )


def test_others_are_set_against_clamp() -> None:
    said = finding(report("cpu"), "time at batch 1")
    assert f"{LABELS['generative']} {310 / 216:.2f}" in said
    assert f"{LABELS['text_only']} {60 / 216:.2f}" in said


def test_no_sentence_has_milliseconds() -> None:
    assert not any(" ms" in line for line in table(BOTH).findings)


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 1, "kind": "gpu"}', '{"schema": 0, "kind": "cpu"}'])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "cpu.json").write_text(content)
    with pytest.raises(StoreError, match=r"cpu\.json"):
        read_efficiency(tmp_path)


def test_latex_has_the_caption() -> None:
    assert "2 threads" in as_latex(table(BOTH))


# --- figures ---


def test_all_is_drawn_and_nothing_touches_an_edge(tmp_path: Path) -> None:
    evidence = costs(BOTH, generated())
    assert [name for name in names_of(evidence) if name.startswith("efficiency")] == FIGURES
    for path in (path for name in FIGURES for path in write_figure(BY_NAME[name], evidence, tmp_path)):
        if path.suffix == ".png":
            assert_whole(path, (round(COLUMN * 200), round(2 * COLUMN * 200)))


def test_f1_is_that_of_generated_tweets_alone() -> None:
    foreign = [
        record("full", profile="offline", dataset="twitter2015"),
        record("text_only", profile="offline", dataset="twitter2015"),
    ]
    assert "efficiency_f1" not in names_of(costs(BOTH, foreign))
    flops_axis, cpu_axis, _ = axes_of("efficiency_f1", BOTH, generated() + foreign)
    points = [line for line in flops_axis.lines if not line.get_label().startswith("_")]
    assert points[0].get_label() == "CLAMP"
    assert [line.get_xdata()[0] for line in points] == [9, 8, 7, 6, 5, 4, 3]
    seeds = [100 * r["result"]["metrics"]["test"]["joint"]["f1"] for r in generated() if r["variant"] == "full"]
    assert points[0].get_ydata()[0] == pytest.approx(np.mean(seeds))
    timed = [line.get_xdata()[0] for line in cpu_axis.lines if not line.get_label().startswith("_")]
    assert timed == pytest.approx([5.0 - 0.5 * k for k in range(7)])
    assert (flops_axis.get_xlabel(), cpu_axis.get_xlabel()) == ("MFLOP a tweet", "ms a tweet, batch 1")


def test_gaps_in_f1_are_over_shared_seeds_and_say_how_many() -> None:
    made = [r for r in generated() if r["variant"] in ("full", "text_only", "cmmt")]
    for r in made:
        f1 = {"full": (0.9, 0.8, 0.7), "text_only": (0.7, 0.7, 0.7), "cmmt": (0.5, 0.5, 0.5)}[r["variant"]][r["seed"]]
        set_f1(r, f1)
    kept = [r for r in made if r["variant"] == "full" or (r["variant"], r["seed"]) in {("text_only", 0), ("cmmt", 1)}]
    (sentence,) = sentences("efficiency_f1", costs({}, kept))
    assert "text only 0.33 x at -20.0 points (one seed)" in sentence  # not -10 points, from CLAMP's mean
    assert "small CMMT 0.78 x at -30.0 points (one seed)" in sentence
    apart = [r for r in made if (r["variant"], r["seed"]) in {("full", 0), ("text_only", 1)}]
    (sentence,) = sentences("efficiency_f1", costs({}, apart))
    assert "text only 0.33 x with no seed in common" in sentence


def test_without_a_report_f1_has_flops_alone() -> None:
    assert len(axes_of("efficiency_f1", {}, generated())) == 1


def test_latency_of_a_tweet_falls_with_the_batch() -> None:
    axis, _ = axes_of("efficiency_batch", BOTH)
    clamp = axis.lines[0]
    assert clamp.get_label() == "CLAMP"
    assert list(clamp.get_xdata()) == [1, 2, 4, 8, 16, 32]
    np.testing.assert_allclose(clamp.get_ydata(), [216, *[0.98 * 216] * 4, 30 * 216 / 32])
    assert axis.get_ylim()[0] == 0


def test_sizes_show_flops_once_and_time_by_device() -> None:
    axes = axes_of("efficiency_size", BOTH)
    assert len(axes) == 6
    assert list(axes[0].lines[0].get_xdata()) == [49, 100, 196, 400]
    assert list(axes[1].lines[0].get_xdata()) == [16, 32, 64, 128]
    assert [axis.get_ylabel() for axis in axes[::2]] == ["GFLOP a tweet", "ms, batch 1 (CPU)", "ms, batch 1 (GPU)"]


def test_bars_are_whole_and_have_their_parts() -> None:
    axis = axes_of("efficiency_parts", {"cpu": report("cpu")})[0]
    by_bar: dict[float, float] = {}
    for bar in axis.patches:
        by_bar[bar.get_y()] = by_bar.get(bar.get_y(), 0.0) + bar.get_width()
    assert list(by_bar.values()) == pytest.approx([1.0, 1.0])
    assert len(axis.patches) == sum(map(len, PARTS.values()))
    share = PARTS["training"][FUSION] / sum(PARTS["training"].values())
    assert f"{FUSION} {share:.1%}" in sentences("efficiency_parts", costs({"cpu": report("cpu")}, []))[1]


def test_one_point_measured_more_than_once_is_said_so() -> None:
    made = report("cpu")
    (line,) = [line for line in table({"cpu": made}).footer if "was measured 3 times" in line]
    assert "at batch 1, 64 tokens and 196 regions" in line
    made["rows"] = [row for row in made["rows"] if row["section"] != "sizes"]
    assert not [line for line in table({"cpu": made}).footer if "was measured" in line]


def test_rounds_are_counted_for_every_point() -> None:
    (line,) = [line for line in table({"cpu": report("cpu")}).footer if "rounds: " in line]
    assert line.endswith("batch 32 5, sizes 5, training 5, compiled, batch 1 60, compiled, batch 32 3.")
    made = changed("latency", lambda row: row | {"rounds": 9}, variant="cmmt", batch=1)
    (line,) = [line for line in table({"cpu": made}).footer if "rounds: " in line]
    assert "rounds: batch 1 5 to 9, batch 2 5, " in line
