"""Rows of other sources or settings are marked, and footers say what made a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import SOURCE, equal_trials, evidence_of, record, suite
from made_up_tables import frames, tables

from repro.evidence.trials import Trials
from repro.plan.chosen import Choice
from repro.plan.variants import VARIANTS
from repro.report.table import as_latex, as_markdown
from repro.report.tables.contents import make_tables


def test_records_of_other_sources_are_marked():
    records = [*suite()[:3], record("text_only", 0, source_hash="f" * 16)]
    made = tables(records)["main_synthetic"]
    assert {"CLAMP", "text only†"} <= set(made.frame.method)
    text = as_markdown(made)
    assert f"- † has runs made by other sources than today's ({SOURCE} on a CPU, {'e' * 16} on a GPU)." in text
    assert f"Sources (hash): {SOURCE}; {'f' * 16}." in text
    assert "‡" not in text


def test_a_row_of_other_settings_is_marked():
    records = [*suite()[:3], record("text_only", 0)]
    records[-1]["config"]["train"]["epochs"] = 1
    assert {"CLAMP", "text only‡"} <= set(frames(records)["main_synthetic"].method)
    records = suite()[:3]
    records[1]["config"]["model"]["width"] = 128
    assert "CLAMP‡" in set(frames(records)["main_synthetic"].method)


def test_a_row_of_another_model_than_its_blocks_is_marked():
    records = [record(v, seed) for v in ("full", "no_gate", "prior_others") for seed in range(2)]
    made = tables(records)
    assert "‡" not in as_markdown(made["sensitivity"]) + as_markdown(made["ablations_synthetic"])
    for r in records[2:]:
        r["config"]["model"]["width"] = 128
    made = tables(records)
    assert "no noise gate‡" in set(made["ablations_synthetic"].frame.variant)
    assert f"{VARIANTS['prior_others'].label}‡" in set(made["sensitivity"].frame.system)
    assert "CLAMP" in set(made["ablations_synthetic"].frame.variant)
    assert "than its block, beside what makes it another system" in as_markdown(made["ablations_synthetic"])


def test_what_the_first_of_a_block_is_made_to_change_marks_no_other_row():
    records = [record(variant) for variant in ("no_gate", "scale_2", "text_only")]
    assert "‡" not in "".join(as_markdown(table) for table in tables(records).values())


def test_a_tuned_rate_is_the_same_in_all_seeds_of_its_system():
    records = [record(v, seed) for v in ("full", "single_cross_attention") for seed in range(2)]
    assert "‡" not in as_markdown(tables(records)["main_synthetic"])
    records[-1]["config"]["train"] |= {"lr_encoder": 4e-3}
    assert f"{VARIANTS['single_cross_attention'].label}‡" in set(frames(records)["main_synthetic"].method)


def test_a_system_without_as_many_trials_as_others_is_marked_in_every_table():
    records = [record(variant) for variant in ("full", "no_gate", "fast_s", "text_only")]
    had = {("synthetic", "synthetic", "full"): {0: (0.5, 0.6)}, ("synthetic", "synthetic", "text_only"): {0: (0.5,)}}

    def systems(trials: Trials) -> dict[str, set[str]]:
        made = {table.name: table for table in make_tables(evidence_of(records, trials=trials))}
        columns = {"main_synthetic": "method", "ablations_synthetic": "variant", "sensitivity": "system"}
        return {name: {str(label) for label in made[name].frame[column]} for name, column in columns.items()}

    some = systems(Trials(had))
    assert {"CLAMP", "text only§"} <= some["main_synthetic"]
    assert {"CLAMP", "no noise gate", "text only§"} <= some["ablations_synthetic"]  # an ablation has CLAMP's
    none = systems(Trials())
    assert {"CLAMP§", "text only§"} <= none["main_synthetic"]
    assert {"CLAMP§", "no noise gate§", "text only§"} <= none["ablations_synthetic"]
    assert {"CLAMP§", f"{VARIANTS['fast_s'].label}§"} <= none["sensitivity"]
    assert "§" not in "".join(as_markdown(table) for table in tables(records).values())
    (main,) = [t for t in make_tables(evidence_of(records, trials=Trials(had))) if t.name == "main_synthetic"]
    assert "- § did not have its trials" in as_markdown(main)
    assert "text only$^\\S$" in as_latex(main)


def test_what_trials_chose_is_no_other_setting_of_its_system():
    records = [record(v, seed) for v in ("full", "cmmt") for seed in range(2)]
    for one in records[2:]:
        one["config"]["train"]["epochs"] = 4
    place, changes = ("synthetic", "synthetic", "cmmt"), {"train.epochs": 4}
    trials = replace(equal_trials(), chosen={place: Choice(*place, changes, 0.5, 8, 2)})
    assert "CMMT baseline, simplified‡" in set(frames(records)["main_synthetic"].method)
    made = make_tables(evidence_of(records, trials=trials))
    assert "‡" not in "".join(as_markdown(table) for table in made)


def test_what_a_variant_is_made_to_change_is_no_other_setting():
    records = [record("full"), record("fast_s")]
    assert records[0]["config"]["train"] != records[1]["config"]["train"]
    systems = frames(records)["sensitivity"].system
    assert {"CLAMP", VARIANTS["fast_s"].label} <= set(systems)
    records[1]["config"]["train"]["epochs"] = 1
    assert f"{VARIANTS['fast_s'].label}‡" in set(frames(records)["sensitivity"].system)


def test_seeds_and_views_of_the_image_are_no_other_settings(made: Path):
    assert "‡" not in "".join(path.read_text() for path in made.glob("*.md"))


@pytest.mark.parametrize("name", ["main_synthetic", "main_twitter2015", "ablations_synthetic", "pointing_synthetic"])
def test_footers_say_what_made_the_table(made: Path, name: str):
    text = (made / f"{name}.md").read_text()
    facts = ["Hardware: 2 x Example CPU", f"Sources (hash): {SOURCE}", "Data (hash", "torch 2.13.0", "Python 3.11.9"]
    for fact in [*facts, "own dev split", "and test decides nothing", "runs; n in each row"]:
        assert fact in text
