"""Rules of selection: what the table says is what was planted."""

from __future__ import annotations

import pytest
from made_up import evidence_of, record

from repro.report.tables.results.selection_rules import selection_rules


def test_selection_on_test_is_the_maximum_over_epochs():
    records = [record("full", seed) for seed in range(3)]
    for r, gain in zip(records, (0.01, 0.02, 0.03), strict=True):
        f1 = r["result"]["metrics"]["test"]["joint"]["f1"]
        for k, epoch in enumerate(r["result"]["curve"]):
            epoch["test_f1"] = f1 - 0.1 + (0.1 + gain) * (k == 3)
    table = selection_rules(evidence_of(records))
    row = table.frame[table.frame.system == "CLAMP"].iloc[0]
    assert row["gain"] == "2.0 ± 1.0"
    means = [float(row[name].split(" ")[0]) for name in ("best dev epoch", "best test epoch")]
    assert means[1] - means[0] == pytest.approx(2.0, abs=0.11)
    assert "would add 2.0 F1 on average over 1 system, most for CLAMP (+2.0, 3 seeds)" in table.findings[0]


def test_records_without_test_curves_say_not_recorded():
    records = [record("full", seed) for seed in range(3)]
    for epoch in records[1]["result"]["curve"]:
        del epoch["test_f1"]
    table = selection_rules(evidence_of(records))
    row = table.frame[table.frame.system == "CLAMP"].iloc[0]
    assert (row["gain"], row["best test epoch"]) == ("not recorded", "")
    assert table.findings[0] == "Generated tweets, profile synthetic: not recorded."
    assert table.findings[1] == "Twitter-2015, profile offline: not run."


def test_a_dev_choice_that_is_best_on_test_gains_nothing():
    records = [record("full")]
    for epoch in records[0]["result"]["curve"]:
        epoch["test_f1"] = 0.1
    row = selection_rules(evidence_of(records)).frame.query("system == 'CLAMP'").iloc[0]
    assert row["gain"] == "0.0"
