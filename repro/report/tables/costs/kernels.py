"""The operators' table and figures, as pure functions of the reports that `python -m kernels.bench` wrote.

Reports are committed as results/kernels/gpu.json and cpu.json. What neither holds is shown as not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kernels.bench import targets
from kernels.bench.report import SCHEMA
from kernels.bench.works import fusion
from repro.report.figures.training import BLACK, BLUE, COLUMN, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION, save
from repro.report.table import BLOCK, Table, write_table
from repro.run.store import read_measurements

Report = dict[str, Any]

KINDS = ("gpu", "cpu")
NOT_MEASURED = "not measured"
_TARGETS = {"gpu": targets.TARGETS, "cpu": targets.CPU_TARGETS}
_BLOCKS = {"gpu": "On a GPU", "cpu": "PyTorch implementations on a CPU"}
_MET = {True: "yes", False: "no", None: ""}
# variant -> (colour, line style, marker)
_CURVES = {
    "kernels": (BLACK, "-", "o"),
    "torch, chunked": (BLACK, "-", "o"),
    "torch, auto": (SKY, (0, (3, 1)), "v"),
    "eager": (VERMILION, "--", "s"),
    "eager, one product": (ORANGE, "-.", "D"),
    "reference": (PURPLE, ":", "x"),
    "torch.compile": (BLUE, (0, (5, 1, 1, 1)), "^"),
    "siglip-kernel": (GREEN, ":", "P"),
    "Inf-CL": (PURPLE, (0, (1, 1)), "X"),
}
_LAUNCHES = {"eager": "launched one by one", "graph": "CUDA graph"}
_LATENCY_WORKS = {
    fusion.TRAINING: "training step, B 256",
    fusion.TRAINING_SMALL: "training step, B 16",
    fusion.INFERENCE: "inference, B 1",
}


def read_reports(folder: Path) -> dict[str, Report]:
    """The reports in `folder`, by kind. Raises StoreError, naming the file, for one that is no such report."""
    return read_measurements(folder, KINDS, SCHEMA)


def write_kernel_report(folder: Path, out: Path) -> list[Path]:
    """Write kernels.md, .tex and .csv, and the figures that the reports in `folder` suffice for, into `out`."""
    reports = read_reports(folder)
    paths = write_table(table(reports), out)
    for name, (_, kind, draw) in FIGURES.items():
        if kind in reports:
            with rc_context(STYLE):
                figure = draw(reports[kind]["rows"])
                paths += [] if figure is None else save(figure, out, name)
    return paths


def table(reports: dict[str, Report]) -> Table:
    """Every target with what was measured."""
    rows, findings, footer = [], [], []
    for kind in KINDS:
        report = reports.get(kind)
        verdicts = targets.judge(report["rows"] if report else [], _TARGETS[kind])
        rows += [_row(_BLOCKS[kind], verdict) for verdict in verdicts]
        judged = [verdict["met"] for verdict in verdicts if verdict["met"] is not None]
        label = kind.upper()
        findings.append(
            f"{label}: {judged.count(True)} of {len(judged)} targets met, {len(verdicts) - len(judged)} not measured."
            if report
            else f"{label}: not measured."
        )
        if report:
            footer.append(f"{label}: {_made_on(report)}")
            footer += [f"{label}, {line}" for line in _unfinished(report)]
    footer.append("Targets are ours: ratios within one run, medians, forward and backward unless they say otherwise.")
    return Table(
        "kernels", "Operators: targets and what was measured", tuple(findings), pd.DataFrame(rows), tuple(footer)
    )


def _row(block: str, verdict: dict[str, Any]) -> dict[str, str]:
    value = NOT_MEASURED if verdict["value"] is None else f"{verdict['value']:.3g}"
    against = f" ({verdict['against']})" if verdict["against"] else ""
    return {
        BLOCK: block,
        "work": verdict["work"],
        "measure": verdict["measure"] + against,
        "target": verdict["target"],
        "measured": value,
        "met": _MET[verdict["met"]],
    }


def _made_on(report: Report) -> str:
    """Machine and software in one line."""
    made = report["provenance"]
    machine = made["gpu"] or f"{made['cores']} x {made['cpu']}"
    driver = f", driver {made['driver']}" if made["driver"] else ""
    software = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    threads = f", {made['threads']} threads" if "threads" in made else ""
    ceilings = {row["work"]: row["rate"] for row in report["rows"] if "rate" in row}
    measured = "".join(f"; {work} {rate / 1e12:.3g} T/s" for work, rate in ceilings.items())
    return f"{machine}{driver}{threads}; {software}; sources of kernels/ {made['kernels_hash']}{measured}."


def _unfinished(report: Report) -> list[str]:
    """What the report itself says it could not do or found wrong."""
    lines = [f"section {name}: {it['error']}" for name, it in report["sections"].items() if "error" in it]
    for row in report["rows"]:
        if "check" in row and not row.get("right"):
            lines.append(f"{row['variant']} not right: {row['work']}, {row.get('dtype', '')}, {row['check']}")
        elif "error" in row:
            lines.append(f"{row['work']}, {row['variant']}: {row['error']}")
    return lines


# Figures


def _target_bars(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """How much better than its target each value is: more than 1 where the target is met, whichever way it points."""
    judged = [v for v in targets.judge(rows) if v["value"] is not None and v["value"] > 0 and v["bound"] > 0]
    if not judged:
        return None
    figure = Figure(figsize=(2 * COLUMN, 0.7 + 0.24 * len(judged)), dpi=200, layout="constrained")
    axis = figure.subplots()
    for place, verdict in enumerate(judged):
        ratio = verdict["value"] / verdict["bound"]
        reached = 1 / ratio if verdict["at_most"] else ratio
        color, hatch = (BLUE, None) if verdict["met"] else (ORANGE, "////")
        axis.barh(place, reached - 1, left=1, color=color, hatch=hatch, edgecolor="white", linewidth=0.3, height=0.7)
    axis.axvline(1, color=BLACK, linewidth=0.8)
    axis.set_yticks(range(len(judged)), [f"{v['work']}: {_short(v['measure'])}" for v in judged], fontsize=6.5)
    axis.set_ylim(len(judged) - 0.5, -0.5)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.margins(x=0.1)
    values = axis.secondary_yaxis("right")
    values.set_yticks(range(len(judged)), [f"{v['value']:.3g} ({v['target']})" for v in judged], fontsize=6.5)
    values.spines["right"].set_visible(False)
    values.tick_params(length=0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("times better than its target (hatched: not met)")
    return figure


def _short(measure: str) -> str:
    return measure.replace(" whose gradients are right", "").replace("times faster than", "faster than")


def _against_pairs(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """InfoNCE's time and extra memory against the number of pairs."""
    timed = [row for row in rows if "pairs" in row and "ms" in row]
    if not timed:
        return None
    figure = Figure(figsize=(COLUMN, 4.6), dpi=200, layout="constrained")
    time_axis, memory_axis = figure.subplots(2, 1, sharex=True)
    for variant, (color, line, marker) in _CURVES.items():
        points = sorted((row for row in timed if row["variant"] == variant), key=lambda row: row["pairs"])
        style: Any = {"color": color, "linestyle": line, "marker": marker, "markersize": 3.5, "label": variant}
        if points:
            time_axis.plot([p["pairs"] for p in points], [p["ms"]["p50"] for p in points], **style)
        held = [p for p in points if p.get("extra_bytes")]
        if held:
            memory_axis.plot([p["pairs"] for p in held], [p["extra_bytes"] / 2**20 for p in held], **style)
    for axis in (time_axis, memory_axis):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
    memory_axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    memory_axis.tick_params(axis="x", rotation=30)
    time_axis.set_ylabel("forward + backward (ms)")
    memory_axis.set_ylabel("extra peak memory (MiB)")
    memory_axis.set_xlabel("pairs N")
    handles, labels = time_axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=3)
    return figure


def _latency_bars(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """The fusion stack's latency, launched kernel by kernel and as a CUDA graph."""
    timed = {
        (r["work"], r["variant"], r["launch"]): r["ms"] for r in rows if r.get("work") in _LATENCY_WORKS and "ms" in r
    }
    timed = {key: ms for key, ms in timed.items() if key[1] != fusion.PRODUCTS}
    works = [work for work in _LATENCY_WORKS if any(key[0] == work for key in timed)]
    if not works:
        return None
    figure = Figure(figsize=(COLUMN, 1.35 * len(works) + 0.6), dpi=200, layout="constrained")
    for axis, work in zip(figure.subplots(len(works), 1, squeeze=False)[:, 0], works, strict=True):
        variants = list(dict.fromkeys(key[1] for key in timed if key[0] == work))
        for offset, (launch, color, hatch) in enumerate((("eager", ORANGE, "////"), ("graph", BLUE, None))):
            for place, variant in enumerate(variants):
                ms = timed.get((work, variant, launch))
                if ms is not None:
                    spread = [[ms["p50"] - ms["p10"]], [ms["p90"] - ms["p50"]]]
                    axis.barh(
                        place + 0.36 * offset - 0.18, ms["p50"], xerr=spread, height=0.34, color=color, hatch=hatch,
                        edgecolor="white", linewidth=0.3, error_kw={"elinewidth": 0.8},
                        label=_LAUNCHES[launch] if place == 0 else None,
                    )  # fmt: skip
        axis.set_yticks(range(len(variants)), variants)
        axis.invert_yaxis()
        axis.set_title(_LATENCY_WORKS[work])
        axis.grid(axis="y", visible=False)
    figure.axes[-1].set_xlabel("ms (median; line: 10th to 90th percentile)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


FIGURES: dict[str, tuple[str, str, Callable[[Sequence[dict[str, Any]]], Figure | None]]] = {
    "kernel_targets": ("Targets on a GPU: what was measured, relative to each target", "gpu", _target_bars),
    "kernel_latency": ("Latency of the fusion stack on a GPU", "gpu", _latency_bars),
    "infonce_gpu": ("InfoNCE on a GPU: time and extra memory against the number of pairs", "gpu", _against_pairs),
    "infonce_cpu": ("InfoNCE on a CPU: time and extra memory against the number of pairs", "cpu", _against_pairs),
}


def captions(drawn: Collection[str]) -> dict[str, str]:
    """Name -> caption of those figures that are among what was drawn."""
    return {name: what for name, (what, _, _) in FIGURES.items() if name in drawn}


def index_lines(folder: Path, drawn: Collection[str]) -> list[str]:
    """What the index of tables and figures says of the operators; `drawn` names the figures that it may link."""
    first = f"- [kernels.md](kernels.md): {' '.join(table(read_reports(folder)).findings)}"
    return [
        first,
        *(f"- [{name}.png]({name}.png) ([pdf]({name}.pdf)): {what}" for name, what in captions(drawn).items()),
    ]
