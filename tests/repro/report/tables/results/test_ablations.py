"""Ablations: every variant against CLAMP, and how far the bounds decided."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from made_up import RESAMPLES, evidence_of, record, runs_of, suite, with_bounds
from made_up_tables import tables

from repro.evidence.cells import Place, blocks
from repro.evidence.comparisons import compare
from repro.evidence.trials import Trials
from repro.plan.chosen import Choice
from repro.plan.grid import TRIED
from repro.plan.variants import SUITE, VARIANTS
from repro.report.table import as_markdown
from repro.report.tables.results.ablations import ablations
from repro.report.wording import p_value, signed


def test_ablations_list_every_variant_in_order(frame_of: dict[str, pd.DataFrame]):
    frame = frame_of["ablations_synthetic"]
    assert frame.variant.tolist() == [VARIANTS[variant].label for variant in SUITE]
    offline = frame_of["ablations_twitter2015_offline"].set_index("variant")
    assert offline.loc["one stage", "joint F1"] == "not run"
    assert offline.loc["one stage", "n"] == "0"
    assert offline.loc["text only", "n"] == "5"


def test_ablations_name_every_system_whose_trials_chose_otherwise_than_clamp_s():
    def about(chosen: dict[str, dict[str, object]], place: Place) -> str:
        choices = {
            ("synthetic", "synthetic", v): Choice("synthetic", "synthetic", v, c, 0.5, 8, 2) for v, c in chosen.items()
        }
        return ablations(evidence_of([], trials=Trials({}, choices)), place).about

    generated = ("synthetic", "synthetic")
    said = about({"full": {}, "cmmt": {"train.epochs": 9}, "dtca": {}}, generated)
    assert said.endswith(
        "training are CLAMP's, but for settings chosen on dev: CMMT baseline, simplified (train.epochs 9)."
    )
    assert about({"full": {}, "cmmt": {"train.epochs": 9}}, ("paper", "twitter2015")).endswith("training are CLAMP's.")
    same = {v: {"train.epochs": 9} for v in TRIED}
    assert about(same, generated).endswith("training are CLAMP's.")
    assert "CMMT baseline, simplified (as set)" in about(same | {"cmmt": {}}, generated)


def test_ablation_differences_are_those_of_the_comparison(frame_of: dict[str, pd.DataFrame]):
    block = blocks(runs_of(suite()))["synthetic", "synthetic"]
    others = [cell for cell in block.values() if cell.variant != "full"]
    compared = compare([(cell, block["full"]) for cell in others], RESAMPLES)
    rows = frame_of["ablations_synthetic"].set_index("variant")
    for cell, comparison in zip(others, compared, strict=True):
        row = rows.loc[cell.label]
        if cell.n == 1:
            assert row["against CLAMP"] == "undecided"
            untested = ["95 % t interval", "95 % bootstrap interval", "p tweets", "p seeds", "detectable"]
            assert set(row[untested]) == {"-"}
            assert comparison.bootstrap is None
        else:
            assert comparison.difference is not None
            assert row["difference"] == signed(comparison.difference)
            assert row["p seeds"] == p_value(comparison.p_seeds)
            assert row["against CLAMP"] == comparison.standing


@pytest.mark.parametrize(
    ("shares", "held"),
    [
        ((0.6, 0.9, 0.8, 0.7), "4 of 4 loss weights (tagging, aspect, global, local)"),
        ((0.0, 0.9, 0.8, 0.7), "3 of 4 loss weights (aspect, global, local)"),
        ((0.0, 0.1, 0.9, 0.7), "2 of 4 loss weights (global, local)"),
        ((0.0, 0.1, 0.1, 0.1), "0 of 4 loss weights were held"),
    ],
)
def test_ablations_say_how_far_the_bounds_decided(shares: tuple[float, ...], held: str):
    lowest = {"tagging": -4.0, "aspect": 2.0, "global": 2.0, "local": 2.0}
    records = [with_bounds(record("full", seed), **lowest) for seed in range(2)]
    for r, more in zip(records, (0.02, -0.02), strict=True):
        logged = r["result"]["weighting"]["share_on_bound"]
        logged.update({task: share + more for task, share in zip(logged, shares, strict=True)})
        r["result"]["weighting"]["s"]["tagging"] = [0.0, -2.0, -4.0]
    (said,) = re.findall(r"^In CLAMP, .*$", as_markdown(tables(records)["ablations_synthetic"]), re.MULTILINE)
    assert f"In CLAMP, {held}" in said
    assert f"over 2 seeds: tagging {100 * shares[0]:.1f} %, aspect {100 * shares[1]:.1f} %" in said
    assert ("nearly a fixed weighting" in said) == (min(shares) > 0.5)  # not while one weight moves
    assert ("the free weights went: tagging from 0.5 to 27.3" in said) == (shares[0] < 0.5)
    assert ("aspect from" in said) == (shares[1] < 0.5)


def test_without_bounds_ablations_say_how_far_each_s_moved():
    records = [record("full", seed) for seed in range(2)]
    for r, to in zip(records, (-1.0, -3.0), strict=True):
        r["result"]["weighting"]["s"] = {"tagging": [0.0, 1.0, to], "global": [3.0, 2.5]}
    (said,) = re.findall(r"^In CLAMP, .*$", as_markdown(tables(records)["ablations_synthetic"]), re.MULTILINE)
    weight = np.mean(np.exp([1.0, 3.0])) / 2
    assert said == (
        "In CLAMP, no s has a bound. From the first logged step to the last it moved (means over 2 seeds): "
        f"tagging by -2.00, its weight from 0.5 to {weight:.3g}; "
        f"global by -0.50, its weight from {np.exp(-3) / 2:.3g} to {np.exp(-2.5) / 2:.3g}."
    )
