"""Records for the tests of tables and figures. All of it is made up: no number here was ever measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from clamp.config import Config, config_from_dict
from clamp.data import SPLITS
from repro.evaluate.conditions import conditions
from repro.evidence.evidence import Evidence, gather
from repro.evidence.trials import Trials
from repro.plan.grid import GRIDS, TRIED
from repro.plan.profiles import PROFILES, plan
from repro.plan.variants import GROUPS, SUITE
from repro.records.evaluation import SCORING_RULES, EvaluationRecord
from repro.records.run import RunRecord

SOURCE = "0123456789abcdef"  # of a run on a CPU
TODAYS = (SOURCE, "e" * 16)
TWEETS = 200
RESAMPLES = 400
_MANY = 10**8
STAGES = ("pooled", "patch", "patch")


def record(
    variant: str = "full",
    seed: int = 0,
    *,
    profile: str = "synthetic",
    dataset: str = "synthetic",
    f1: float = 0.9,
    source_hash: str = SOURCE,
    epochs: int = 12,
    tweets: int = TWEETS,
) -> dict[str, Any]:
    """One made-up record with the fields of a real one, its joint test F1 near `f1`."""
    rng = np.random.default_rng([seed, *variant.encode(), *dataset.encode()])
    counts = _counts(f1, tweets, rng)
    tp, predicted, gold = (int(n) for n in counts.sum(axis=0))
    joint = _scores(tp, predicted, gold)
    mate = _scores(min(predicted, gold, round(1.03 * tp)), predicted, gold)
    steps = list(range(20, 1501, 20))
    run = plan(profile, only=[variant], datasets=[dataset], seeds=seed + 1)[seed]
    return {
        "schema_version": 2,
        "profile": profile,
        "experiment": dataset,
        "variant": variant,
        "seed": seed,
        "key": f"{profile}-{dataset}-{variant}-{seed}",
        "config": run.config_dict(),
        "result": {
            "best_epoch": epochs - 2,
            "metrics": {split: _metrics(joint, mate, dataset, variant, rng) for split in ("dev", "test")},
            "per_tweet": {"test": counts.tolist()},
            "curve": [
                {
                    "epoch": epoch,
                    "loss": {"tagging": 2.0 / epoch},
                    "loss_sd": {"tagging": 1.0 / epoch, "aspect": 0.5 / epoch, "global": 0.25, "local": 0.125},
                    "gradient_norm": {"mean": 2.0, "sd": 1.0 / epoch},
                    "dev_f1": max(0.0, f1 * (1 - np.exp(-epoch / 2.5)) + rng.normal(0, 0.01)),
                    "dev_mate_f1": f1,
                    "test_f1": joint["f1"] - 0.01 * abs(epoch - (epochs - 2)) + 0.005 * (epoch == epochs),
                    "seconds": 4.0,
                }
                for epoch in range(1, epochs + 1)
            ],
            "weighting": _weighting(variant, steps, rng),
            "interference": {
                "step": steps[:4],
                "cosine": {"tagging~aspect": [0.4, 0.2, 0.1, 0.3], "tagging~global": [-0.2, 0.1, -0.1, None]},
            },
            "cost": {
                "parameters": 1,
                "flops_per_tweet": 1,
                "train_seconds": 1.0,
                "cpu_seconds": 1.0,
                "peak_memory_bytes": 1,
            },
            "images": {split: {"present": 1, "absent": 0} for split in ("train", "dev", "test")},
        },
        "provenance": {
            "git_sha": None,
            "git_dirty": None,
            "source_hash": source_hash,
            "packages": {"torch": "2.13.0", "numpy": "2.4.0", "scipy": "1.17.1"},
            "python": "3.11.9",
            "cpu": "Example CPU",
            "cores": 2,
            "gpu": None,
            "driver": None,
            "threads": 1,
            "determinism": {},
            "weights_revision": None,
            "argv": [],
            "data": _manifest(run.config),
            "hardware": "2 x Example CPU (no GPU)",
            "started": "2025-01-01T00:00:00+00:00",
        },
    }


def suite(profile: str = "synthetic", dataset: str = "synthetic", top: float = 0.93) -> list[dict[str, Any]]:
    """Made-up records of all variants with the profile's seeds, each a little worse than the one before."""
    seeds = PROFILES[profile].seeds[dataset]
    return [
        record(variant, seed, profile=profile, dataset=dataset, f1=top - 0.02 * i, epochs=12 - (seed == 1))
        for i, variant in enumerate(SUITE)
        for seed in range(seeds.get(variant, 0))
    ]


def evaluation(of: dict[str, Any], fall: float = 0.1, **falls: float) -> dict[str, Any]:
    """The made-up evaluation of a made-up record, every condition `fall` below the clean F1 or as `falls` says."""
    config = config_from_dict(of["config"], "made up")
    shown = {name: c.group for name, c in conditions(config, None).items()}
    if config.data.name != "synthetic":
        shown = {name: group for name, group in shown.items() if group == "robustness"} | {"other_data_set": "shift"}
    clean = of["result"]["metrics"]["test"]["joint"]
    joint = {name: scores_of(clean["f1"] - falls.get(name, fall)) for name in shown}
    return {
        **{name: of[name] for name in ("schema_version", "profile", "experiment", "variant", "seed", "key")},
        "evaluation_hash": "e" * 16,
        "evaluation": {
            "clean": {"joint": clean, "mate": clean, "masc_accuracy": clean["f1"]},
            "conditions": {name: {"joint": j, "mate": clean, "masc_accuracy": j["f1"]} for name, j in joint.items()},
            "rules": {
                "joint": {rule: clean["f1"] - 0.002 * k for k, rule in enumerate(SCORING_RULES)},
                "masc": {"macro": clean["f1"] - 0.02, "harmonic": clean["f1"] - 0.015, "micro": clean["f1"]},
            },
            "mechanism": _mechanism(of["variant"]),
        },
    }


def set_f1(of: dict[str, Any], f1: float, split: str = "test") -> None:
    """Give a made-up record counts of spans whose joint F1 is this."""
    of["result"]["metrics"][split]["joint"] = scores_of(f1)


def scores_of(f1: float) -> dict[str, float]:
    """Of spans so many that their F1 is this to eight digits."""
    return _scores(round(f1 * _MANY), _MANY, _MANY)


def run_of(one: dict[str, Any] | RunRecord) -> RunRecord:
    """The record of a made-up one, whose F1 must be what its counts amount to: `set_f1` changes both."""
    run = RunRecord.model_validate(one)
    if isinstance(one, dict):
        for split, metrics in one["result"]["metrics"].items():
            assert metrics["joint"]["f1"] == run.result.metrics[split].joint.f1
    return run


def runs_of(records: Iterable[dict[str, Any] | RunRecord]) -> list[RunRecord]:
    return [run_of(one) for one in records]


def _mechanism(variant: str) -> dict[str, Any]:
    followed = {"n": 200, "followed": 180, "unchanged": 20}
    rest = {kind: {"n": 200, "unchanged": 190} for kind in ("own_told_by_text", "another_aspect", "distractors")}
    bins = np.arange(15)
    matched, mismatched = (np.rint(100 * np.exp(-((np.arange(40) - at) ** 2) / 30)).astype(int) for at in (32, 20))
    return {
        "calibration": {
            "count": (10 * bins).tolist(),
            "confidence": ((bins + 0.5) / 15 * (bins > 0)).tolist(),
            "right": (8 * bins).tolist(),
        },
        "alignment": None
        if variant in (*GROUPS["baselines"], "no_mcl", "no_paf_no_mcl", "local_only")
        else {
            "n": int(matched.sum()),
            "matched": matched.tolist(),
            "mismatched": mismatched.tolist(),
            "mean_matched": 0.6,
            "mean_mismatched": 0.02,
            "auc": 0.9,
        },
        "counterfactuals": None if variant in ("text_only", "caption_concat") else {"own": followed, **rest},
        "attention": None,
        "examples": None,
    }


def _manifest(config: Config) -> dict[str, str]:
    """As of JSON annotations; text only on real tweets reads no proxy, and so its manifest names none."""
    suffix = "" if config.data.name == "synthetic" else ".json"
    names = [f"{config.data.name}/{split}{suffix}" for split in SPLITS]
    if config.data.visual == "proxy":
        names.append(f"{config.data.name}/visual_proxy.json")
    return dict.fromkeys(names, "ab" * 32)


def _counts(f1: float, tweets: int, rng: np.random.Generator) -> np.ndarray:
    gold_N = rng.integers(1, 4, size=tweets)
    return np.stack([rng.binomial(gold_N, f1), gold_N, gold_N], axis=1)


def _scores(tp: int, predicted: int, gold: int) -> dict[str, float]:
    f1 = 2 * tp / (predicted + gold)
    counts = {"tp": tp, "predicted": predicted, "gold": gold}
    return {"precision": tp / predicted, "recall": tp / gold, "f1": f1, **counts}


def _metrics(
    joint: dict[str, float], mate: dict[str, float], dataset: str, variant: str, rng: np.random.Generator
) -> dict[str, Any]:
    stages = [
        {"level": level, "pointing": share, "n": 480, "distractor_mass": rng.uniform(0.1, 0.2)}
        for level, share in zip(STAGES, (0.4, 0.95, 0.9), strict=True)
    ]
    points = dataset == "synthetic" and variant not in ("text_only", "caption_concat")
    return {
        "joint": joint,
        "mate": mate,
        "masc": {
            "accuracy": joint["f1"],
            "macro_f1": joint["f1"] - 0.02,
            "n": joint["gold"],
            "accuracy_on_extracted": joint["f1"] + 0.01,
            "n_extracted": mate["tp"],
            "ece": 0.04,
        },
        "pointing": {"best_stage": 1, "stages": stages} if points else None,
    }


def _weighting(variant: str, steps: list[int], rng: np.random.Generator) -> dict[str, Any] | None:
    if variant in GROUPS["baselines"]:
        return None
    ends = {"tagging": -3.6, "aspect": 2.0, "global": 2.4, "local": 2.1}
    starts = {"tagging": 0.0, "aspect": 2.0, "global": 3.0, "local": 2.0}
    course = {
        task: [
            float(ends[task] + (starts[task] - ends[task]) * np.exp(-step / 400) + rng.normal(0, 0.02))
            for step in steps
        ]
        for task in ends
    }
    return {
        "mode": "made up",
        "step": steps,
        "s": course,
        "loss": course,
    }


def with_bounds(of: dict[str, Any], **lowest: float) -> dict[str, Any]:
    """A made-up record as of the sources that kept s above bounds: a tenth of the steps on them."""
    of["config"]["model"]["aggregation"]["lowest"] = lowest
    of["result"]["weighting"]["share_on_bound"] = dict.fromkeys(lowest, 0.1)
    return of


def evidence_of(
    records: Iterable[dict[str, Any] | RunRecord], evaluations: list[dict[str, Any]] | None = None, **measured: Any
) -> Evidence:
    """What tables and figures are made from, with few resamples; `measured` are reports of efficiency or operators."""
    evaluated = [EvaluationRecord.model_validate(one) for one in evaluations or []]
    return gather(runs_of(records), evaluated, TODAYS, RESAMPLES, **{"trials": equal_trials(), **measured})


def equal_trials() -> Trials:
    """One made-up trial of every system wherever trials decide, and nothing chosen."""
    places = [(profile, dataset) for profile, grid in GRIDS.items() for dataset in grid.datasets]
    return Trials({(*place, system): {0: (0.5,)} for place in places for system in TRIED})
