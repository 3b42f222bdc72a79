"""Rules of scoring: what the table says is what was planted."""

from __future__ import annotations

from made_up import evaluation, evidence_of, record

from repro.records.evaluation import SCORING_RULES
from repro.report.tables.results.scoring_rules import _JOINT, scoring_rules


def test_every_rule_has_a_column():
    assert _JOINT.keys() == SCORING_RULES.keys()


def test_rules_show_their_figures_and_the_widest_spread():
    records = [record(v, seed) for v in ("full", "text_only") for seed in range(2)]
    evaluations = [evaluation(r) for r in records]
    for e in evaluations:
        e["evaluation"]["rules"]["joint"] = dict.fromkeys(SCORING_RULES, 0.8)
        e["evaluation"]["rules"]["joint"]["viterbi"] += 0.03 if e["variant"] == "text_only" else 0.01
    table = scoring_rules(evidence_of(records, evaluations))
    rows = table.frame[table.frame.block.str.contains("synthetic")].set_index("system")
    assert rows.loc["text only", ["strict IOB2", "Viterbi", "spread"]].tolist() == ["80.0 ± 0.0", "83.0 ± 0.0", "3.0"]
    assert rows.loc["CLAMP", "spread"] == "1.0"
    assert rows.loc["DTCA baseline, simplified", "spread"] == "not run"
    assert "of 2 systems, the rule alone moves joint F1 by up to 3.0 (text only, 2 seeds)" in table.findings[0]
    assert "and by at least 1.0 (CLAMP, 2 seeds)." in table.findings[0]
    for e in evaluations:  # the other way round
        e["evaluation"]["rules"]["joint"]["viterbi"] = 0.8 + (0.01 if e["variant"] == "text_only" else 0.03)
    assert "by up to 3.0 (CLAMP, 2 seeds)" in scoring_rules(evidence_of(records, evaluations)).findings[0]
