"""The parts of the real test tweets: F1 by part, and differences of the same seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_up import evaluation, evidence_of, record
from scipy import stats

from repro.evaluate.slices import SLICES
from repro.report.tables.results.slices import slices

PLACE = {"profile": "offline", "dataset": "twitter2015"}
LEAD = {"full": 0.02, "caption_concat": 0.01, "text_only": 0.0}


def made(seeds: int = 4) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """CLAMP leads where the aspect is named, and nowhere else."""
    records = [record(v, seed, f1=0.5, **PLACE) for v in LEAD for seed in range(seeds)]
    evaluations = [evaluation(r) for r in records]
    for r, one in zip(records, evaluations, strict=True):
        one["evaluation"]["slices"] = {
            name: {value: [500 + 6 * r["seed"], 1000, 1000] for value in values} for name, values in SLICES.items()
        }
        one["evaluation"]["slices"]["named"]["named"][0] += round(1000 * LEAD[r["variant"]]) + (
            2 * r["seed"] if r["variant"] == "full" else 0
        )
    return records, evaluations


def test_differences_are_of_the_same_seeds():
    table = slices(evidence_of(*made()))
    rows = table.frame[table.frame.block.str.startswith("Twitter-2015, profile offline")].set_index("part")
    apart = 0.02 + 0.002 * np.arange(4)
    low, high = stats.t.interval(0.95, 3, apart.mean(), stats.sem(apart))
    expected = f"{100 * apart.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    assert rows.loc["named", "CLAMP minus text only"] == expected
    assert rows.loc["named", "caption minus text only"] == "+1.0 (+1.0 to +1.0)"
    assert rows.loc["not named", "CLAMP minus text only"] == "0.0 (0.0 to 0.0)"
    assert rows.loc["named", "gold"] == "1000"
    assert rows.loc["not named", "text only"] == "50.9 ± 0.8"
    assert "most by the aspect's name in the image's words, named: +2.3" in table.findings[0]


def test_two_seeds_have_no_interval_and_what_is_missing_says_so():
    records, evaluations = made(seeds=2)
    frame = slices(evidence_of(records, evaluations)).frame
    assert "+2.1 (2 seeds)" in set(frame["CLAMP minus text only"])
    for one in evaluations:
        del one["evaluation"]["slices"]
    table = slices(evidence_of(records, evaluations))
    assert set(table.frame[table.frame.block.str.contains("2015, profile offline")]["CLAMP"]) == {"not recorded"}
    assert table.findings[0] == "Twitter-2015, profile offline: not recorded."
    assert table.findings[1] == "Twitter-2017, profile offline: not run."
    not_evaluated = slices(evidence_of(records)).frame
    assert "not evaluated" in set(not_evaluated["CLAMP"])


@pytest.mark.parametrize("name", SLICES)
def test_every_part_has_a_row_wherever_tweets_are_real(name: str):
    frame = slices(evidence_of([])).frame
    assert frame.block.nunique() == 4
    assert len(frame) == 4 * sum(map(len, SLICES.values()))
