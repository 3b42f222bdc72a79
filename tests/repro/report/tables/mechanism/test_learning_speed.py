"""The table of learning speed: medians, how many never were there, and tests against CLAMP."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import evidence_of, record

from repro.report.tables.mechanism.learning_speed import learning_speed


def learned(first: dict[str, list[int | None]]) -> list[dict[str, Any]]:
    """Runs of twelve epochs of 1,000 tweets; dev F1 is 0.5 before the epoch given for each seed, and 1 from it on."""
    records = []
    for variant, epochs in first.items():
        for seed, at in enumerate(epochs):
            one = record(variant, seed)
            for epoch in one["result"]["curve"]:
                epoch["dev_f1"] = 1.0 if at is not None and epoch["epoch"] >= at else 0.5
            one["result"]["images"]["train"] = {"present": 1000, "absent": 0}
            records.append(one)
    return records


@pytest.fixture
def frame_and_findings() -> tuple[Any, tuple[str, ...]]:
    table = learning_speed(
        evidence_of(
            learned(
                {
                    "full": [2, 2, 3, 3, 4, 4, 5, 5],
                    "no_paf": [8, 8, 9, 9, 10, 10, None, None],
                    "text_only": [None] * 8,
                    "no_ama": [2, None],
                    "full_two_looks": [6] * 3,
                }
            )
        )
    )
    return table.frame.set_index(["block", "system"]), table.findings


def test_rows(frame_and_findings: tuple[Any, tuple[str, ...]]):
    frame, _ = frame_and_findings
    rows = frame.loc["Generated tweets, profile synthetic"]
    full, no_paf = rows.loc["CLAMP"], rows.loc["no progressive fusion (one plain cross-attention)"]
    assert (full["tweets seen"], full["95 % interval"], full["never"]) == ("3,300", "1,800 to 4,800", "0")
    assert (full["minus CLAMP"], full["p sign"], full["p log-rank"]) == ("-", "-", "-")
    assert (no_paf["tweets seen"], no_paf["95 % interval"], no_paf["never"]) == ("9,300", "7,800 to never", "2")
    assert no_paf["minus CLAMP"] == "+6,000"
    assert no_paf["p sign"] == f"{2 * 2 / 2**8:.3f}"  # eight of eight, times the two that were tested
    text_only = rows.loc["text only"]
    assert (text_only["tweets seen"], text_only["never"]) == ("never", "8")
    assert text_only["minus CLAMP"] == "more than all seen"
    two_seeds = rows.loc["no adaptive weighting (equal weights)"]
    assert (two_seeds["n"], two_seeds["p sign"], two_seeds["never"]) == ("2", "-", "1")
    assert rows.loc["fixed weights"]["tweets seen"] == "not run"
    looks = frame.loc["Generated tweets, profile synthetic, two looks"]
    assert looks.loc["CLAMP, two looks"]["tweets seen"] == "5,800"


def test_findings(frame_and_findings: tuple[Any, tuple[str, ...]]):
    _, findings = frame_and_findings
    assert "CLAMP is there in 8 of 8 seeds, after 3,300 tweets in the median" in findings[0]
    assert "later, by the log-rank test: no progressive fusion (one plain cross-attention); text only" in findings[0]
    assert findings[0].endswith("sooner: none.")
    assert learning_speed(evidence_of([])).findings[0] == "Generated tweets, profile synthetic: not run."
