"""The table of costs and its sentences, from the reports that `python -m repro efficiency` wrote.

What none of them holds is shown as not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from repro.efficiency.names import ANY_LENGTH, EVERYTHING, FUSION_ALONE, ONE_LENGTH
from repro.evidence.evidence import Evidence
from repro.evidence.measurements import OWN, Costs, one_row, rows_of, threads
from repro.plan.variants import VARIANTS
from repro.records.measurements import KINDS, CostReport, Measurement
from repro.report.table import BLOCK, Table
from repro.report.wording import NOT_MEASURED

LABELS = {
    "encoders": "the two encoders and a linear head",
    "clamp_reference": "CLAMP, reference operators",
    "clamp_torch": "CLAMP, PyTorch operators",
    "clamp_triton": "CLAMP, Triton operators",
    **{name: VARIANTS[name].label for name in (
        "text_only", "image_prefix", "caption_concat", "single_cross_attention", "cmmt", "dtca"
    )},
    "generative": "generative, BART-base (cost only)",
}  # fmt: skip
_BASELINES = ("image_prefix", "single_cross_attention", "cmmt", "dtca", "caption_concat", "text_only")
_SYSTEMS = ("encoders", "clamp_reference", "clamp_torch", "clamp_triton", *_BASELINES, "generative")
_BLOCKS = {"cpu": "On a CPU", "gpu": "On a GPU"}
_PRECISION = {"cpu": "float32", "gpu": "bfloat16 autocast"}

_ENOUGH_ROUNDS = 10  # to say what nine of ten do
MOST_OWN_FLOPS = 0.10  # of a tweet's FLOPs, beyond the two encoders
MOST_LATENCY = 1.10  # of the two encoders and a linear head, at batch 1 on a CPU
MOST_SECOND_PASS = 0.35  # of the first pass over a corpus, with its features cached


def _machine(report: CostReport | None) -> str:
    """Hardware, threads and precision in one line."""
    if report is None:
        return NOT_MEASURED
    made = report.provenance
    return f"{made.hardware}, {threads(report)}, {_PRECISION[report.kind]}"


def efficiency(evidence: Evidence) -> Table:
    """What every system costs."""
    reports = evidence.efficiency
    rows = [row for kind in KINDS for row in _block(kind, reports.get(kind))]
    findings = [sentence for kind in KINDS for sentence in _findings(kind, reports.get(kind))]
    return Table(
        name="efficiency",
        title="What the systems cost at the paper's size",
        about=" ".join([_setting(reports), *(f"{kind.upper()}: {_machine(reports.get(kind))}." for kind in KINDS)]),
        findings=tuple(findings),
        frame=pd.DataFrame(rows).fillna(""),
        footer=(
            "ms: median of rounds that time every system in turn, with the 10th to 90th percentile (of few rounds, "
            "counted below: about the range). Ratios: median of each round's ratio to the two encoders and a linear "
            "head; of two such medians where systems are set against CLAMP. From ids and pixels to tag logits, or to "
            "the generated sequence; decoding tags and reading images is left out.",
            "GFLOP: a multiply-add counted as two, CLAMP on the reference operators; docs/efficiency.md counts them "
            "by hand.",
            "GiB: peak memory in a process of its own; of the whole process on a CPU, of torch's allocator on a GPU.",
            "A training step: forward, backward, clipping and AdamW, all encoders trained.",
            "Generative: BART-base over the words and 36 region features, beam 4, keys and values cached, 7 steps "
            "(two aspects and the end), after VLP-MABSA (Ling, Yu and Xia, ACL 2022) and AoM (Zhou et al., Findings "
            "of ACL 2023). Left out, in its favour: the detector that yields the regions, AoM's graph convolution and "
            "attention per aspect.",
            "Baselines are our small versions on the same encoders.",
            *(line for kind in KINDS if kind in reports for line in _measured_again(reports[kind])),
            *(line for kind in KINDS if kind in reports for line in _provenance(reports[kind])),
        ),
    )


def _setting(reports: Costs) -> str:
    settings = list({json.dumps(r.setting, sort_keys=True): r.setting for r in reports.values()}.values())
    sizes = [f"{s['tokens']} tokens, all of them words, {s['regions']} regions, width {s['width']}" for s in settings]
    listed = f": {'; '.join(sizes)}" if sizes else ""
    return f"roberta-base and ViT-B/16 with random weights, on which cost does not depend{listed}."


def _provenance(report: CostReport) -> list[str]:
    made, label = report.provenance, report.kind.upper()
    counted = ", ".join(f"{name} {rounds}" for name, rounds in _rounds(report))
    software = ", ".join(f"{name} {version}" for name, version in made.packages.items())
    lines = [f"{label}: {software}; sources (hash) {made.source_hash}; rounds: {counted}."]
    for name, outcome in report.sections.items():
        if "error" in outcome or "skipped" in outcome:
            lines.append(f"{label}, {name}: {NOT_MEASURED}: {outcome.get('error') or outcome['skipped']}.")
    return lines


def _rounds(report: CostReport) -> list[tuple[str, str]]:
    """What was timed, and in how many rounds."""
    points = {f"batch {b}": rows_of(report, "latency", batch=b) for b in (1, 2, 4, 8, 16, 32)}
    points |= {"sizes": rows_of(report, "sizes"), "training": rows_of(report, "training", batch=16)}
    points |= {f"compiled, batch {b}": rows_of(report, "compiled", batch=b) for b in (1, 32)}
    rounds = []
    for name, rows in points.items():
        counts = sorted({row["rounds"] for row in rows if "rounds" in row})
        if counts:
            rounds.append((name, f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"))
    return rounds


# Rows


def _block(kind: str, report: CostReport | None) -> list[dict[str, str]]:
    if report is None:
        return [{BLOCK: _BLOCKS[kind], "system": "every system", **_cells({}, {}, {}, {}, {})}]
    shown = [name for name in _SYSTEMS if one_row(report, "counts", variant=name)]
    return [{BLOCK: _BLOCKS[kind], "system": LABELS[name], **_of_system(report, name)} for name in shown]


def _of_system(report: CostReport, name: str) -> dict[str, str]:
    def row(section: str, **facts: Any) -> Measurement:
        return one_row(report, section, variant=name, **facts) or {}

    return _cells(row("counts"), row("latency", batch=1), row("latency", batch=32), row("training"), row("memory"))


def _cells(
    counts: Measurement, small: Measurement, large: Measurement, training: Measurement, memory: Measurement
) -> dict[str, str]:
    speed = _number(32e3 / large["ms"]["p50"]) if large else NOT_MEASURED
    return {
        "parameters (M)": f"{counts['parameters'] / 1e6:.1f}" if counts else NOT_MEASURED,
        "GFLOP a tweet": f"{counts['flops'] / 1e9:.1f}" if counts else NOT_MEASURED,
        "ms, batch 1": _ms(small),
        "ratio, batch 1": _ratio(small),
        "ms, batch 32": _ms(large),
        "ratio, batch 32": _ratio(large),
        "tweets/s, batch 32": speed,
        "GiB, batch 32": _gibibytes(memory, "inference_bytes"),
        "ms, training step, batch 16": _ms(training),
        "ratio, training step": _ratio(training),
        "GiB, training step": _gibibytes(memory, "training_bytes"),
    }


def _ms(row: Measurement) -> str:
    if not row:
        return NOT_MEASURED
    middle, low, high = (_number(row["ms"][name]) for name in ("p50", "p10", "p90"))
    return f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    """About three digits."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _ratio(row: Measurement) -> str:
    return f"{row['ratio']['p50']:.2f}" if row else NOT_MEASURED


def _gibibytes(row: Measurement, name: str) -> str:
    return f"{row[name] / 2**30:.2f}" if row else NOT_MEASURED


# Sentences: ratios, not milliseconds


def _findings(kind: str, report: CostReport | None) -> list[str]:
    label = kind.upper()
    if report is None:
        return [f"{label}: {NOT_MEASURED}."]
    sentences = [_own_cost(report), _targets(report), _others(report), _compilation(report)]
    rehearsal = ["a rehearsal at a tiny size; none of it is a result."] if report.quick else []
    return [f"{label}: {sentence}" for sentence in [*rehearsal, *sentences] if sentence]


def own_share(report: CostReport) -> float | None:
    """CLAMP's share of its FLOPs beyond the two encoders."""
    ours, encoders = (one_row(report, "counts", variant=name) for name in (OWN[report.kind], "encoders"))
    return 1 - encoders["flops"] / ours["flops"] if ours and encoders else None


def _times(ratio: Mapping[str, float]) -> str:
    """A ratio with its spread over rounds."""
    return "{p50:.2f} x ({p10:.2f} to {p90:.2f} over rounds)".format(**ratio)


def _own_cost(report: CostReport) -> str:
    own, share = OWN[report.kind], own_share(report)
    timed = {
        "time at batch 1": one_row(report, "latency", variant=own, batch=1),
        "time at batch 32": one_row(report, "latency", variant=own, batch=32),
        "a training step": one_row(report, "training", variant=own),
    }
    parts = {"FLOPs": f"{1 / (1 - share):.3f} x" if share is not None else NOT_MEASURED}
    parts |= {what: _times(row["ratio"]) if row else NOT_MEASURED for what, row in timed.items()}
    listed = "; ".join(f"{what}: {times}" for what, times in parts.items())
    return f"{LABELS[own]}, as a multiple of the two encoders and a linear head. {listed}."


def _targets(report: CostReport) -> str:
    second, share = one_row(report, "corpus", variant="second pass"), own_share(report)
    parts = [_target("CLAMP's own share of its FLOPs", share, MOST_OWN_FLOPS, "{:.1%}")]
    if report.kind == "cpu":
        latency = "its latency at batch 1 as a multiple of the encoders'"
        parts += [_target(f"{latency}, {how}", ratio, MOST_LATENCY, "{:.3f}") for how, ratio in _latencies(report)]
    ratio = second["ratio"]["p50"] if second else None
    parts.append(_target("a second pass over a corpus against the first", ratio, MOST_SECOND_PASS, "{:.2f}"))
    if second:
        parts.append(f"its output is {'the same to the bit' if second['same_output'] else 'NOT THE SAME'}")
    return f"targets, ours: {'; '.join(parts)}."


def _latencies(report: CostReport) -> list[tuple[str, float | None]]:
    """CLAMP's time at batch 1 as a multiple of the encoders', by what is compiled."""
    rows = {"both as they are": one_row(report, "latency", variant=OWN[report.kind], batch=1)}
    for what, how in ((FUSION_ALONE, "fusion compiled for {}, the encoders in both as they are"),
                      (EVERYTHING, "both compiled for {}")):  # fmt: skip
        for form in (ANY_LENGTH, ONE_LENGTH):
            facts = {"compiled": what, "form": form, "batch": 1}
            rows[how.format(form)] = one_row(report, "compiled", variant="clamp_torch", **facts)
    return [(how, row["ratio"]["p50"] if row else None) for how, row in rows.items()]


def _target(what: str, value: float | None, most: float, form: str) -> str:
    verdict = NOT_MEASURED if value is None else f"{form.format(value)}, {'met' if value <= most else 'not met'}"
    return f"{what}, at most {form.format(most)}: {verdict}"


def _measured_again(report: CostReport) -> list[str]:
    """How far apart measurements of one point are: the table's, and those over image and text sizes."""
    own, setting = OWN[report.kind], report.setting
    rows = [one_row(report, "latency", variant=own, batch=1)]
    rows += [one_row(report, "sizes", variant=own, **{what: setting[what]}) for what in ("regions", "tokens")]
    ratios = [f"{row['ratio']['p50']:.2f}" for row in rows if row]
    if len(ratios) < 2:
        return []
    return [
        f"{LABELS[own]} at batch 1, {setting['tokens']} tokens and {setting['regions']} regions was measured "
        f"{len(ratios)} times, in rounds apart: {' and '.join(ratios)} times the encoders, in this table first. Closer "
        "differences than these are not settled by one of them."
    ]


def _others(report: CostReport) -> str:
    """CLAMP on other operators, the baselines and the generative family, against CLAMP."""
    own = OWN[report.kind]
    ours = one_row(report, "latency", variant=own, batch=1)
    timed = {name: one_row(report, "latency", variant=name, batch=1) for name in _SYSTEMS if name != own}
    of_ours = {n: row["ratio"]["p50"] / ours["ratio"]["p50"] for n, row in timed.items() if row and ours}
    parts = [f"{LABELS[name]} {ratio:.2f}" for name, ratio in of_ours.items()]
    return f"time at batch 1 as a multiple of that of {LABELS[own]}: {'; '.join(parts)}." if parts else ""


def _compilation(report: CostReport) -> str:
    parts = [
        f"{row['compiled']} for {row['form']}, batch {row['batch']}: {_times(row['gain'])} the time without it, "
        f"{_verdict(row)}, after {row['compilation_seconds']:.0f} s of compilation"
        for row in rows_of(report, "compiled", variant="clamp_torch")
    ]
    label = LABELS["clamp_torch"]
    return f"torch.compile of {label}, weights frozen: {'; '.join(parts) or NOT_MEASURED}."


def _verdict(row: Measurement) -> str:
    """Does it pay? Where nine of ten rounds are faster, the compilation set aside."""
    if row["rounds"] < _ENOUGH_ROUNDS:
        return f"undecided from {row['rounds']} rounds"
    return "it pays" if row["gain"]["p90"] < 1 else "it does not pay"
