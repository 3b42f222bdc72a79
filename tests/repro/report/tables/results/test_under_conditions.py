"""Falls are clean minus changed, seed by seed; who uses the image follows from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from made_up import evaluation, evidence_of, record

from repro.evidence.by_seed import f1_lost_under, f1_under
from repro.evidence.evidence import Evidence
from repro.evidence.stats import holm, t_against_zero
from repro.report.table import Table
from repro.report.tables.results.domain_shift import domain_shift
from repro.report.tables.results.robustness import image_use, image_use_sentences, robustness
from repro.report.tables.results.scoring_rules import scoring_rules
from repro.report.tables.results.under_conditions import labels

SYNTHETIC = ("synthetic", "synthetic")


def made(variants: dict[str, dict[str, float]], seeds: int = 3, **place: str) -> tuple[list[Any], list[Any]]:
    """Records and evaluations; each variant falls as its dict says, a little more with each seed."""
    records = [record(v, s, **place) for v in variants for s in range(seeds)]
    spread = {0: 0.0, 1: 0.004, 2: -0.004}
    evaluations = [
        evaluation(r, **{name: fall + spread[r["seed"]] for name, fall in variants[r["variant"]].items()})
        for r in records
    ]
    return records, evaluations


def test_falls_are_clean_minus_changed_of_the_same_run():
    records, evaluations = made({"full": {"no_image": 0.3}})
    cell = evidence_of(records, evaluations).block(SYNTHETIC)["full"]
    assert f1_lost_under(cell, "no_image") == pytest.approx({0: 0.3, 1: 0.304, 2: 0.296})
    clean = {e["seed"]: e["evaluation"]["clean"]["joint"]["f1"] for e in evaluations}
    assert f1_under(cell, "no_image") == pytest.approx({0: clean[0] - 0.3, 1: clean[1] - 0.304, 2: clean[2] - 0.296})
    assert f1_lost_under(cell, "words_0.5") == {}
    evaluations[1]["key"] = "of another run"
    cell = evidence_of(records, evaluations).block(SYNTHETIC)["full"]
    assert f1_lost_under(cell, "no_image") == pytest.approx({0: 0.3, 2: 0.296})


def test_robustness_shows_the_mean_fall_under_each_condition():
    frame = robustness(evidence_of(*made({"full": {"no_image": 0.3, "blur_2": 0.12}}))).frame
    row = frame[frame.block.str.contains("synthetic") & (frame.system == "CLAMP")].iloc[0]
    assert row["fall: no image"] == "30.0 ± 0.4"
    assert row[f"fall: {labels('robustness')['blur_2']}"] == "12.0 ± 0.4"
    assert row[f"fall: {labels('robustness')['words_0.5']}"] == ""
    missing = frame[frame.block.str.contains("synthetic") & (frame.system == "text only")].iloc[0]
    assert (missing["n"], missing["fall: no image"]) == ("0", "not run")


def test_what_only_images_tell_is_said_as_the_runs_had_it():
    def said(records: list[Any]) -> str:
        return " ".join(robustness(evidence_of(records)).footer)

    records, _ = made({"full": {}})
    assert "Of the polarities in generated tweets 50% can be read from the image alone." in said(records)
    for r in records:
        r["config"]["data"]["synthetic"]["image_told_share"] = 0.25
    assert "Of the polarities in generated tweets 25% can be read" in said(records)
    assert "half of the polarities" not in said(records)
    assert "can be read from the image alone" not in said([])


def test_a_run_without_evaluation_says_so():
    records, evaluations = made({"full": {}, "text_only": {}})
    frame = robustness(evidence_of(records, [e for e in evaluations if e["variant"] == "full"])).frame
    row = frame[frame.block.str.contains("synthetic") & (frame.system == "text only")].iloc[0]
    assert (row["n"], row["F1"], row["fall: no image"]) == ("0", "not evaluated", "not evaluated")


@pytest.mark.parametrize("table", [robustness, domain_shift, scoring_rules])
def test_n_is_the_number_of_evaluations(table: Callable[[Evidence], Table]):
    records, evaluations = made({"full": {}, "text_only": {}})
    made_of = table(evidence_of(records, [e for e in evaluations if (e["variant"], e["seed"]) != ("full", 1)]))
    n = made_of.frame[made_of.frame.block.str.contains("synthetic")].set_index("system")["n"]
    assert (n["CLAMP"], n["text only"]) == ("2", "3")


def test_a_condition_that_fewer_seeds_were_evaluated_under_says_so():
    records, evaluations = made({"full": {"no_image": 0.3}})
    del evaluations[2]["evaluation"]["conditions"]["no_image"]
    row = robustness(evidence_of(records, evaluations)).frame.iloc[0]
    assert (row["n"], row["fall: no image"]) == ("3", "30.2 ± 0.3 (2 seeds)")


def test_who_uses_the_image_follows_from_the_falls():
    systems = {"full": {"other_image": 0.3}, "single_cross_attention": {"other_image": 0.001}}
    evidence = evidence_of(*made(systems))
    assert {use.cell.variant: use.verdict for use in image_use(evidence)[SYNTHETIC]} == {
        "full": "used",
        "single_cross_attention": "not shown",
    }
    said = image_use_sentences(evidence)[0]
    assert "used by CLAMP: +30.0, 95 % interval" in said
    assert "It is not shown to be used by single cross-attention baseline: +0.1" in said
    swapped = {"full": {"other_image": 0.001}, "single_cross_attention": {"other_image": 0.3}}
    said = image_use_sentences(evidence_of(*made(swapped)))[0]
    assert "used by single cross-attention baseline: +30.0" in said
    assert "not shown to be used by CLAMP" in said


def test_a_rise_is_no_use_of_the_image():
    evidence = evidence_of(*made({"full": {"other_image": -0.2}}))
    assert [use.verdict for use in image_use(evidence)[SYNTHETIC]] == ["not shown"]


def test_two_seeds_leave_the_use_of_the_image_undecided():
    said = image_use_sentences(evidence_of(*made({"full": {"other_image": 0.3}}, seeds=2)))
    assert "undecided for CLAMP: +30.2, 2 seeds" in said[0]
    assert said[1] == "Twitter-2015, profile offline, is the image used at all: not run."


def test_use_of_the_image_is_adjusted_over_all_places():
    place = {"profile": "offline", "dataset": "twitter2015"}
    fallen = {"full": {"other_image": 0.02}, "single_cross_attention": {"other_image": 0.01}}
    here, there = made(fallen), made(fallen, **place)
    evidence = evidence_of(here[0] + there[0], here[1] + there[1])
    uses = [use for of_place in image_use(evidence).values() for use in of_place]
    assert len(uses) == 4
    assert [use.p for use in uses] == holm([t_against_zero(use.lost) for use in uses])


def test_domain_shift_shows_f1_and_fall_and_names_the_highest():
    place = {"profile": "offline", "dataset": "twitter2015"}
    records, evaluations = made({"full": {"other_data_set": 0.2}, "text_only": {"other_data_set": 0.05}}, **place)
    table = domain_shift(evidence_of(records, evaluations))
    row = table.frame[table.frame.block.str.contains("2015, profile offline") & (table.frame.system == "CLAMP")].iloc[0]
    assert row["the other data set: fall"] == "20.0 ± 0.4"
    clean, shifted = (float(row[name].split(" ")[0]) for name in ("F1", "the other data set: F1"))
    assert clean - shifted == pytest.approx(20.0, abs=0.11)
    assert re.search(r"CLAMP falls by 20\.0 ± 0\.4 to [\d.]+ \(3 seeds\)", table.findings[1])
    assert "(text only, 3 seeds)" in table.findings[1]
    columns = table.frame.loc[table.frame.block.str.contains("2015, profile offline"), "unseen looks: F1"]
    assert (columns == "").all()  # no such condition on real tweets
