"""Other settings are judged on dev against CLAMP's same seeds, and the sentence follows."""

from __future__ import annotations

from typing import Any

from made_up import evidence_of, record, set_f1

from repro.plan.variants import GROUPS, VARIANTS
from repro.report.tables.results.sensitivity import sensitivity, settings_of


def runs(dev: dict[str, float], test: dict[str, float]) -> list[dict[str, Any]]:
    records = [record(v, seed) for v in dev for seed in range(3 if v == "full" else 1)]
    for r in records:
        set_f1(r, dev[r["variant"]] + 0.01 * r["seed"], "dev")
        set_f1(r, test[r["variant"]])
    return records


def test_differences_are_over_shared_seeds():
    records = runs({"full": 0.9, "scale_2": 0.95}, {"full": 0.9, "scale_2": 0.8})
    row = sensitivity(evidence_of(records)).frame.query("system == 'contrast scale 2 (of 5)'").iloc[0]
    # seed 0 alone: CLAMP's mean over three seeds is a point higher
    assert (row["dev, minus CLAMP"], row["test, minus CLAMP"], row["shared seeds"]) == ("+5.0", "-10.0", "1")


def test_the_best_is_chosen_on_dev_not_on_test():
    dev, test = {"full": 0.9, "scale_2": 0.95, "fast_s": 0.5}, {"full": 0.9, "scale_2": 0.3, "fast_s": 0.99}
    said = sensitivity(evidence_of(runs(dev, test))).findings[0]
    assert "of 2 other settings, the best on dev is contrast scale 2 (of 5), higher than CLAMP there (+5.0" in said
    assert "the lowest on dev is rate of s 0.1 (of 0.01) (-40.0, one seed)" in said
    dev["scale_2"], dev["fast_s"] = 0.5, 0.8
    said = sensitivity(evidence_of(runs(dev, test))).findings[0]
    assert "the best on dev is rate of s 0.1 (of 0.01), lower than CLAMP there (-10.0" in said


def test_every_setting_has_a_row_where_anything_was_run():
    frame = sensitivity(evidence_of([record("full")])).frame
    generated = frame[frame.block.str.contains("synthetic")]
    expected = settings_of(("synthetic", "synthetic"))
    assert set(GROUPS["sensitivity"]) < set(expected)
    assert generated.system.tolist() == [VARIANTS[v].label for v in expected]
    assert (generated.iloc[1:]["dev F1"] == "not run").all()
    assert frame[frame.block.str.contains("offline")].system.tolist() == ["every system"] * 2
    assert set(GROUPS["attempts"]) < set(settings_of(("offline", "twitter2015")))
