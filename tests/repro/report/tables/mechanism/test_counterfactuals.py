"""Rates and rankings follow the counts of redrawn mouths."""

from __future__ import annotations

import re

import pytest
from drawing import BY_NAME
from made_up import evaluation, evidence_of, record
from made_up_mechanisms import Records, row_of, runs

from repro.evidence.evidence import Evidence
from repro.report.tables.mechanism.counterfactuals import counterfactuals


def tallied(records: Records, followed: dict[str, int]) -> Evidence:
    """Of 200 aspects as many follow as said, a few more with each seed; the others stay."""
    evaluations = [evaluation(r) for r in records]
    for e in evaluations:
        n = followed[e["variant"]] + 2 * e["seed"]
        found = e["evaluation"]["mechanism"]["counterfactuals"]
        found["own"] = {"n": 200, "followed": n, "unchanged": 200 - n}
        found["distractors"]["unchanged"] = 150
    return evidence_of(records, evaluations)


def test_counterfactual_rates_are_of_the_aspects_found_before():
    table = counterfactuals(tallied(runs("full", "no_paf"), {"full": 180, "no_paf": 60}))
    row = row_of(table, system="CLAMP")
    assert (row["n"], row["aspects"]) == ("3", "600")
    assert row["own mouth: label follows"] == "91.0 ± 1.0"
    assert row["own mouth: label unchanged"] == "9.0 ± 1.0"
    assert row["distractors' mouths: unchanged"] == "75.0 ± 0.0"
    assert "CLAMP's label follows the redrawn mouth of 91.0 ± 1.0 %" in table.findings[0]
    assert "unchanged for 75.0 ± 0.0 % when all distractors' mouths are redrawn" in table.findings[0]


def test_who_follows_most_is_read_off_the_counts():
    right = counterfactuals(tallied(runs("full", "no_paf"), {"full": 180, "no_paf": 60})).findings[1]
    swapped = counterfactuals(tallied(runs("full", "no_paf"), {"full": 60, "no_paf": 180})).findings[1]
    assert "most often with CLAMP (91.0 %, 3 seeds) and least often with no progressive fusion" in right
    assert "most often with no progressive fusion" in swapped
    assert "least often with CLAMP (31.0 %, 3 seeds)" in swapped
    same = counterfactuals(tallied(runs("full", "no_paf"), {"full": 60, "no_paf": 60}))
    assert len(same.findings) == 1


@pytest.mark.parametrize("of", [[], runs("full"), runs("text_only")])
def test_no_counterfactual_no_rate(of: Records):
    evaluations = [evaluation(r) for r in of if r["variant"] == "text_only"]
    table = counterfactuals(evidence_of(of, evaluations))
    assert table.findings == ("CLAMP: not run.",)
    assert row_of(table)["own mouth: label follows"] == "not run"


def test_a_ranking_of_unequally_many_seeds_names_both_numbers():
    records = [*runs("full"), record("no_paf")]
    (*_, said) = counterfactuals(tallied(records, {"full": 60, "no_paf": 180})).findings
    assert "most often with no progressive fusion (one plain cross-attention) (90.0 %, one seed)" in said
    assert "least often with CLAMP (31.0 %, 3 seeds)" in said
    evaluations = [evaluation(r) for r in records]
    for e in evaluations:
        e["evaluation"]["mechanism"]["calibration"]["right"] = [9 * (e["variant"] == "full") * k for k in range(15)]
        e["evaluation"]["mechanism"]["alignment"]["auc"] = 0.7
    evidence = evidence_of(records, evaluations)
    (said,) = BY_NAME["calibration"].sentences(evidence)
    assert re.search(r"of 2 systems the lowest is [\d.]+ ± 0.0 % \(CLAMP, 3 seeds\), the highest", said)
    assert said.endswith("% (no PAF, one seed).")
    (said,) = BY_NAME["alignment"].sentences(evidence)
    assert said.endswith("the highest is 0.70 (no progressive fusion (one plain cross-attention), one seed).")
