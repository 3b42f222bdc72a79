"""Reports for the tests of the table and figures of cost. All of it is made up: no number here was ever measured."""

from __future__ import annotations

from typing import Any

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
    SCHEMA,
    TEXT,
)
from repro.evidence.measurements import OWN

# system -> milliseconds of a tweet, and GFLOP
SYSTEMS = {
    "encoders": (200.0, 46.0),
    "clamp_reference": (240.0, 50.0),
    "clamp_torch": (216.0, 50.0),
    "text_only": (60.0, 11.0),
    "image_prefix": (208.0, 47.6),
    "caption_concat": (75.0, 14.0),
    "single_cross_attention": (207.0, 47.5),
    "cmmt": (206.0, 47.4),
    "dtca": (205.0, 47.3),
    "generative": (310.0, 17.4),
}
PARTS = {
    "inference parts": {TEXT: 60.0, IMAGE: 140.0, FUSION: 15.0, HEADS: 0.2},
    "training": {TEXT: 2100.0, IMAGE: 5600.0, FUSION: 700.0, HEADS: 40.0, CONTRAST: 90.0, OPTIMISER: 300.0},
}


def timing(section: str, variant: str, ms: float, ratio: float, **facts: Any) -> dict[str, Any]:
    def around(middle: float) -> dict[str, float]:
        return {"p10": 0.97 * middle, "p50": middle, "p90": 1.05 * middle}

    return {
        "section": section, **facts, "variant": variant, "ms": around(ms), "ratio": around(ratio), "rounds": 5,
    }  # fmt: skip


def rows(kind: str = "cpu", speed: float = 1.0) -> list[dict[str, Any]]:
    """Every section's rows; `speed` divides all times."""
    systems = {name: (ms / speed, gflop) for name, (ms, gflop) in SYSTEMS.items()}
    if kind == "gpu":
        systems["clamp_triton"] = (205.0 / speed, 50.0)
    own, encoders = systems[OWN[kind]], systems["encoders"]
    found: list[dict[str, Any]] = []
    for name, (ms, gflop) in systems.items():
        ratio = ms / encoders[0]
        memory = {"inference_bytes": int(2e9), "training_bytes": int(9e9)}
        found += [
            {"section": "counts", "variant": name, "parameters": int(2e8 * ratio), "flops": int(1e9 * gflop)},
            timing("latency", name, ms, ratio, batch=1),
            timing("latency", name, 30 * ms, ratio, batch=32),
            timing("training", name, 50 * ms, ratio, batch=16),
            {"section": "memory", "variant": name, **memory},
        ]
    for name, (ms, gflop) in ((OWN[kind], own), ("encoders", encoders)):
        found += [timing("latency", name, 0.98 * n * ms, ms / encoders[0], batch=n) for n in (2, 4, 8, 16)]
        for what, counts in (("regions", (49, 100, 196, 400)), ("tokens", (16, 32, 64, 128))):
            for count in counts:
                share = 0.3 + 0.7 * count / (196 if what == "regions" else 64)
                row = timing("sizes", name, share * ms, ms / encoders[0], **{what: count})
                found.append(row | {"flops": int(1e9 * share * gflop)})
    for section, parts in PARTS.items():
        batch = 1 if section == "inference parts" else 16
        for part, ms in parts.items():
            row = timing(section, "", ms / speed, 1.0, batch=batch)
            found.append({name: row[name] for name in ("section", "batch", "ms")} | {"part": part})
    for name, ms, ratio in (("no cache", 6000.0, 0.98), ("first pass", 6100.0, 1.0), ("second pass", 1200.0, 0.2)):
        found.append(timing("corpus", name, ms / speed, ratio) | {"same_output": True})
    for what, form, batch, gain, ratio in (
        (FUSION_ALONE, ANY_LENGTH, 1, 0.98, 1.06),
        (FUSION_ALONE, ONE_LENGTH, 1, 0.97, 1.05),
        (EVERYTHING, ANY_LENGTH, 1, 0.88, 1.12),
        (EVERYTHING, ONE_LENGTH, 1, 0.77, 1.07),
        (EVERYTHING, ANY_LENGTH, 32, 0.80, 1.11),
    ):
        more = {
            "gain": timing("", "", 1.0, gain)["ratio"],
            "compilation_seconds": 50.0,
            "rounds": 3 if batch == 32 else 60,
        }
        facts = {"compiled": what, "form": form, "batch": batch}
        found.append(timing("compiled", "clamp_torch", 216.0 * gain, ratio, **facts) | more)
        if what == EVERYTHING:
            found.append(timing("compiled", "encoders", 200.0 * gain, 1.0, **facts) | more)
    for k, name in enumerate(PROFILE_VARIANTS):
        found.append(timing("profile", name, (5.0 - 0.5 * k) / speed, 1 - 0.1 * k, batch=1))
    return found


def report(kind: str = "cpu", **changes: Any) -> dict[str, Any]:
    gpu = "Made-up GPU" if kind == "gpu" else None
    made_by = {
        "hardware": "Made-up GPU (16 x Made-up)" if gpu else "2 x Made-up (no GPU)",
        "cpu": "Made-up",
        "gpu": gpu,
        "driver": None,
        "threads": 2,
        "packages": {"torch": "2.13.0"},
        "source_hash": "0123456789abcdef",
        "python": "3.11.9",
        "cores": 2,
        "git_sha": None,
        "git_dirty": None,
        "determinism": {},
        "data": {},
        "weights_revision": None,
        "argv": [],
        "started": "2025-01-01T00:00:00+00:00",
    }
    made = {"schema": SCHEMA, "kind": kind, "quick": False, "provenance": made_by}
    made |= {"setting": {"tokens": 64, "regions": 196, "width": 768}, "sections": {"counts": {"seconds": 1.0}}}
    return made | {"rows": rows(kind, 40.0 if gpu else 1.0)} | changes
