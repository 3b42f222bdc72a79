"""Where the attention looks, by stage and against chance."""

from __future__ import annotations

from made_up import record, suite
from made_up_tables import frames, tables


def test_pointing_leaves_out_what_has_nothing_to_point_at():
    records = [record("full"), record("no_gate")]
    for metrics in records[1]["result"]["metrics"].values():
        metrics["pointing"] = None
    assert set(frames(records)["pointing_synthetic"].variant) == {"CLAMP"}


def test_pointing_takes_the_stage_that_is_best_on_dev():
    records = suite()[:3]
    for r in records:
        r["result"]["metrics"]["dev"]["pointing"]["best_stage"] = 2
    rows = frames(records)["pointing_synthetic"].set_index("stage")
    assert rows["pointing accuracy"].to_dict() == {
        "1": "40.0 ± 0.0",
        "2": "95.0 ± 0.0",
        "3": "90.0 ± 0.0",
        "best on dev": "90.0 ± 0.0",
    }


def test_pointing_goes_by_stage_and_against_chance():
    records = [record("full", seed) for seed in range(2)]
    for r in records:
        for k, stage in enumerate(r["result"]["metrics"]["test"]["pointing"]["stages"], 1):
            stage["distractor_mass"] = k / 10 + r["seed"] / 100
    table = tables(records)["pointing_synthetic"]
    assert table.findings[1] == (
        "By stage, CLAMP points right for 40.0 ± 0.0 percent at stage 1 (pooled), with 10.5 ± 0.7 percent of the "
        "attention on distractors; 95.0 ± 0.0 percent at stage 2 (patch), with 20.5 ± 0.7 percent of the attention on "
        "distractors; 90.0 ± 0.0 percent at stage 3 (patch), with 30.5 ± 0.7 percent of the attention on distractors "
        "(2 seeds)."
    )
    assert any(line.startswith("Mass on distractors: the share of the attention") for line in table.footer)
    chance = (
        "Chance: a region picked at random points right for 6.25 percent, and attention spread evenly over the image "
        "has 12.5 percent on distractors."
    )
    assert chance in table.footer
    records[1]["config"]["data"]["synthetic"]["distractors"] = 3
    assert chance not in tables(records)["pointing_synthetic"].footer  # images of two kinds have no one chance


def test_seeds_with_unlike_stages_are_shown_at_their_best_stage_alone():
    records = [record(variant, seed) for variant in ("full", "no_gate") for seed in range(3)]
    for split in ("dev", "test"):
        del records[0]["result"]["metrics"][split]["pointing"]["stages"][2]
    table = tables(records)["pointing_synthetic"]
    stages = {name: rows.stage.tolist() for name, rows in table.frame.groupby("variant")}
    assert stages["no noise gate"] == ["1", "2", "3", "best on dev"]
    (of_clamp,) = (shown for name, shown in stages.items() if name.startswith("CLAMP"))
    assert of_clamp == ["best on dev"]
    assert "Seeds with unlike stages, so that only the best is shown: CLAMP." in table.footer
    assert not any("By stage" in finding for finding in table.findings)
    assert "unlike" not in " ".join(tables(records[1:])["pointing_synthetic"].footer)
