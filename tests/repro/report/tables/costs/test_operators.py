"""The operators' table and figures: what they show is what the reports hold, and an absent report is said to be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import BY_NAME, assert_whole, drawn, names_of, suffices_for, write_figures
from made_up import evidence_of
from matplotlib.colors import to_rgb

from kernels.bench import targets
from kernels.bench.works import attention, ceilings, contrast, fusion
from repro.__main__ import main
from repro.evidence.evidence import Evidence
from repro.evidence.measurements import read_operators
from repro.records.files import StoreError
from repro.records.measurements import OperatorReport
from repro.report.figures.costs import infonce
from repro.report.figures.figure import write_figure
from repro.report.figures.style import COLUMN
from repro.report.index import index
from repro.report.tables.contents import make_tables
from repro.report.tables.costs.operators import operators
from repro.report.wording import NOT_MEASURED

PROVENANCE = {"gpu": None, "driver": None, "cores": 2, "cpu": "Made-up", "packages": {"torch": "2.13.0"}}
PROVENANCE |= {"kernels_hash": "0123456789abcdef", "cuda": None, "cudnn": None, "python": "3.11.9"}
PROVENANCE |= {"git_sha": None, "git_dirty": None, "started": "2025-01-01T00:00:00+00:00"}


def timing(work: str, variant: str, p50: float, launch: str = "eager", **fields: Any) -> dict[str, Any]:
    ms = {"p10": 0.9 * p50, "p50": p50, "p90": 1.2 * p50}
    return {"section": "s", "work": work, "variant": variant, "launch": launch, "ms": ms, **fields}


def losses(work_of: Any, names: dict[str, float]) -> list[dict[str, Any]]:
    return [
        timing(work_of(n), name, factor * n * n * 1e-5, pairs=n, extra_bytes=int(factor * n * 2**10))
        for name, factor in names.items()
        for n in (256, 4096, 2**16)
    ]


GPU_ROWS = [
    timing(attention.MASKED, "kernels", 2.0),
    timing(attention.MASKED, "eager", 8.0),
    timing(attention.GUIDED, "kernels", 3.0),
    timing(fusion.TRAINING, "kernels", 6.0),
    timing(fusion.TRAINING, "eager", 9.0),
    timing(fusion.TRAINING, "kernels", 5.0, "graph"),
    timing(fusion.TRAINING, fusion.PRODUCTS, 4.0, "graph"),
    timing(fusion.INFERENCE, "eager", 1.0),
    timing(ceilings.PRODUCT, "torch", 1.4, rate=8e14),
    {"section": "s", "work": attention.MASKED, "variant": "SDPA flash", "launch": "eager", "error": "RuntimeError: no"},
    *losses(contrast.work_of, {"kernels": 1.0, "eager": 3.0}),
]
CPU_ROWS = losses(targets.on_a_cpu, {"torch, chunked": 1.0, "eager": 2.0, "reference": 3.0})
CPU_ROWS += [timing(targets.ATTENTION_ON_A_CPU, name, ms) for name, ms in (("torch", 3.0), ("SDPA", 4.0))]


def report(kind: str, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    made = {"schema": 1, "kind": kind, "complete": True, "provenance": PROVENANCE, "sections": {}, "rows": rows}
    return made | {"targets": []} | changes


def write_report(folder: Path, kind: str, rows: list[dict[str, Any]], **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}.json").write_text(json.dumps(report(kind, rows, **changes)))


@pytest.fixture
def both(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "kernels"
    write_report(folder, "gpu", GPU_ROWS, sections={"fusion": {"seconds": 1.0, "error": "stopped after 9 s"}})
    write_report(folder, "cpu", CPU_ROWS, provenance=PROVENANCE | {"threads": 2})
    return folder


def measured(folder: Path) -> Evidence:
    return evidence_of([], operators=read_operators(folder))


def axes_of(name: str, rows: list[dict[str, Any]]) -> list[Any]:
    kind = "cpu" if name == "infonce_cpu" else "gpu"
    made = OperatorReport.model_validate(report(kind, rows))
    return drawn(name, evidence_of([], operators={kind: made})).axes


def test_without_a_report_every_cell_says_so_and_nothing_is_drawn(tmp_path: Path) -> None:
    evidence = measured(tmp_path / "none")
    assert names_of(evidence) == []
    made = operators(evidence)
    assert made.findings == ("GPU: not measured.", "CPU: not measured.")
    assert set(made.frame["measured"]) == {NOT_MEASURED}
    assert len(made.frame) == len(targets.TARGETS) + len(targets.CPU_TARGETS)


def test_the_table_shows_each_verdict_and_what_made_it(both: Path) -> None:
    made = operators(measured(both))
    first = made.frame.set_index(["work", "measure"]).loc[(attention.MASKED, "times faster than eager")]
    assert (first["measured"], first["target"], first["met"]) == ("4", ">= 2.5", "yes")
    own = made.frame.set_index("measure").loc["times our own time without bias and mass"]
    assert (own["measured"], own["met"]) == ("1.5", "no")
    faster = made.frame[made.frame["work"] == targets.ATTENTION_ON_A_CPU].iloc[0]
    assert (faster["measured"], faster["met"]) == ("0.75", "yes")
    judged = targets.judge(GPU_ROWS)
    met = sum(verdict["met"] is True for verdict in judged)
    known = sum(verdict["met"] is not None for verdict in judged)
    assert made.findings[0] == f"GPU: {met} of {known} targets met, {len(judged) - known} not measured."
    text = "\n".join(made.footer)
    assert "2 x Made-up, 2 threads; torch 2.13.0; sources of kernels/ 0123456789abcdef." in text
    assert "ceiling, matrix product 800 T/s" in text
    assert "GPU, section fusion: stopped after 9 s" in text
    assert f"GPU, {attention.MASKED}, SDPA flash: RuntimeError: no" in text


FIGURES = ["kernel_targets", "kernel_latency", "infonce_gpu", "infonce_cpu"]


def test_the_same_reports_give_the_same_bytes(both: Path, tmp_path: Path) -> None:
    evidence = measured(both)
    assert names_of(evidence) == FIGURES
    first = write_figures(evidence, tmp_path / "a")
    again = [path for name in FIGURES if name != "infonce_gpu"  # one of two of a kind: drawing takes long
             for path in write_figure(BY_NAME[name], measured(both), tmp_path / "b")]  # fmt: skip
    assert len(again) == len(first) - 2
    assert all(path.read_bytes() == (tmp_path / "a" / path.name).read_bytes() for path in again)
    for path in first:
        if path.suffix == ".png":
            assert_whole(path, (round(COLUMN * 200), round(2 * COLUMN * 200)))


def test_its_figures_say_what_the_table_says(both: Path) -> None:
    evidence = measured(both)
    assert all(BY_NAME[name].sentences(evidence) == operators(evidence).findings for name in FIGURES)
    assert operators(evidence).findings[0].startswith("GPU: ")


def test_the_index_names_what_was_drawn(both: Path) -> None:
    evidence = measured(both)
    text = index(evidence, make_tables(evidence), suffices_for(evidence))
    assert [name for name in FIGURES if f"({name}.png)" in text] == FIGURES
    (both / "gpu.json").unlink()
    evidence = measured(both)
    text = index(evidence, make_tables(evidence), suffices_for(evidence))
    assert [name for name in FIGURES if f"({name}.png)" in text] == ["infonce_cpu"]


def test_a_picture_of_an_earlier_report_is_not_shown_as_this_ones(both: Path) -> None:
    out = both.parents[1]
    write_report(both, "gpu", [])
    assert main(["report", "--out", str(out)]) == 0
    assert "(infonce_cpu.png)" in (out / "README.md").read_text()
    assert "(infonce_cpu.png)" in (out / "report.md").read_text()
    write_report(both, "cpu", [row for row in CPU_ROWS if "pairs" not in row], provenance=PROVENANCE | {"threads": 2})
    assert main(["report", "--out", str(out)]) == 0
    assert not (out / "infonce_cpu.png").exists()
    for name in ("README.md", "report.md"):
        text = (out / name).read_text()
        assert "kernels" in text
        assert not [figure for figure in FIGURES if figure in text]


@pytest.mark.parametrize(
    ("name", "rows", "ours"), [("infonce_gpu", GPU_ROWS, "kernels"), ("infonce_cpu", CPU_ROWS, "torch, chunked")]
)
def test_time_and_memory_stand_against_the_pairs(name: str, rows: list[dict[str, Any]], ours: str) -> None:
    time_axis, memory_axis = axes_of(name, rows)
    of_ours = [row for row in rows if row["variant"] == ours and "pairs" in row]
    for axis, values in (
        (time_axis, [row["ms"]["p50"] for row in of_ours]),
        (memory_axis, [row["extra_bytes"] / 2**20 for row in of_ours]),
    ):
        line = next(line for line in axis.lines if line.get_label() == ours)
        assert list(line.get_xdata()) == [256, 4096, 2**16]
        np.testing.assert_allclose(line.get_ydata(), values)
    assert (time_axis.get_ylabel(), memory_axis.get_ylabel()) == ("forward + backward (ms)", "extra peak memory (MiB)")
    assert memory_axis.get_xlabel() == "pairs N"


def test_bars_are_longer_than_one_exactly_where_a_target_is_met() -> None:
    (axis,) = axes_of("kernel_targets", GPU_ROWS)
    judged = [verdict for verdict in targets.judge(GPU_ROWS) if verdict["value"]]
    assert len(axis.patches) == len(judged) > 3
    for bar, verdict in zip(axis.patches, judged, strict=True):
        end = bar.get_x() + bar.get_width()
        assert (end >= 1) == verdict["met"]
        assert math.isclose(end, (verdict["value"] / verdict["bound"]) ** (-1 if verdict["at_most"] else 1))
        assert (bar.get_hatch() is None) == verdict["met"]


def test_latency_shows_both_launches_of_every_variant_but_products_alone() -> None:
    first, second = axes_of("kernel_latency", GPU_ROWS)
    assert [label.get_text() for label in first.get_yticklabels()] == ["kernels", "eager"]
    assert sorted(bar.get_width() for bar in first.patches) == [5.0, 6.0, 9.0]
    assert [bar.get_width() for bar in second.patches] == [1.0]
    assert first.get_title() == "training step, B 256"


def test_every_curve_is_told_apart_by_more_than_its_colour() -> None:
    together = [name for name in infonce._CURVES if not name.startswith("torch, ")]
    styles = [infonce._CURVES[name] for name in together]
    assert len({(str(line), marker) for _, line, marker in styles}) == len(styles)
    assert all(to_rgb(color) for color, _, _ in styles)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "truncated or corrupt"),
        (json.dumps(report("cpu", [])), "a report of kind 'cpu'"),
        ('{"schema": 1, "kind": "gpu"}', "not such a report: sections: Field required"),
        ("[]", "not such a report"),
    ],
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "gpu.json").write_text(content)
    with pytest.raises(StoreError, match=rf"gpu\.json: {said}"):
        read_operators(tmp_path)


def test_a_rehearsal_is_never_read(tmp_path: Path) -> None:
    write_report(tmp_path, "rehearsal", GPU_ROWS)
    assert read_operators(tmp_path) == {}


def test_report_writes_it_beside_the_runs_tables(both: Path) -> None:
    (both / "gpu.json").unlink()
    out = both.parents[1]
    assert main(["report", "--out", str(out)]) == 0
    assert (out / "kernels.md").read_text().startswith("# Operators: targets and what was measured")
    text = (out / "README.md").read_text()
    assert "[kernels.md](kernels.md)" in text
    assert "(infonce_cpu.png)" in text
    assert (out / "infonce_cpu.png").is_file()
