"""Spread over seeds and over tweets, and what it cost, from records where all three are known."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import evidence_of, record, set_f1

from repro.report.tables.results.variance import core_hours, variance


def test_seed_variance_is_that_of_the_records_and_tweet_variance_falls_with_the_test_set():
    def row(tweets: int) -> dict[str, str]:
        records = [record("full", seed, f1=0.7, tweets=tweets) for seed in range(3)]
        return variance(evidence_of(records)).frame.query("system == 'CLAMP'").iloc[0].to_dict()

    records = [record("full", seed, f1=0.7, tweets=100) for seed in range(3)]
    f1 = [r["result"]["metrics"]["test"]["joint"]["f1"] for r in records]
    few, many = row(100), row(1600)
    assert few["sd over seeds"] == f"{100 * np.std(f1, ddof=1):.1f}"
    # four times as precise, as far as a test set drawn anew and rounding allow
    assert float(few["sd over tweets"]) / float(many["sd over tweets"]) == pytest.approx(4, rel=0.2)


def test_the_sentence_says_which_spread_is_larger():
    def said(spread: float) -> str:
        records = [record("full", seed, tweets=400) for seed in range(3)]
        for r in records:
            set_f1(r, 0.9 + spread * r["seed"])
        return variance(evidence_of(records)).findings[0]

    assert "seeds vary more than the test set does in 1 of 1 systems" in said(0.05)
    assert "seeds vary more than the test set does in 0 of 1 systems" in said(0.0001)
    assert "nothing is known of the spread over seeds" in variance(evidence_of([record("full")])).findings[0]


def test_core_hours_are_processor_time():
    records = [record("full", seed) for seed in range(2)]
    for r, seconds in zip(records, (1800.0, 7200.0), strict=True):
        r["result"]["cost"]["cpu_seconds"] = seconds
    cell = evidence_of(records).block(("synthetic", "synthetic"))["full"]
    assert core_hours(cell) == pytest.approx(2.5)


def test_core_hours_that_a_run_did_not_record_are_not_guessed():
    records = [record("full", seed) for seed in range(2)]
    del records[1]["result"]["cost"]["cpu_seconds"]
    table = variance(evidence_of(records))
    assert table.frame["core-hours"].iloc[0] == "not recorded"
    assert "core-hours not recorded for 2 runs" in table.findings[0]


def test_detectable_differences_need_three_seeds():
    several = [record(v, seed) for v in ("full", "no_paf") for seed in range(3)] + [record("no_gate")]
    rows = variance(evidence_of(several)).frame.set_index("system")
    assert float(rows.loc["no progressive fusion (one plain cross-attention)", "detectable, tweets"]) > 0
    assert float(rows.loc["no progressive fusion (one plain cross-attention)", "detectable, seeds"]) > 0
    assert rows.loc["no noise gate", ["detectable, tweets", "detectable, seeds", "sd over seeds"]].tolist() == [""] * 3
