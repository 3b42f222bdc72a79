"""The ledger follows the numbers: planted leads are supported, swapped ones are not, and too little is undecided."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import evaluation, evidence_of, record, run_of, set_f1

from repro.evidence.comparisons import Comparison
from repro.evidence.stats import Difference
from repro.plan.variants import GROUPS
from repro.report.against_paper import in_the_papers_setting
from repro.report.ledger import BEATS_OTHERS, PARTS, Entry, judgement_of, ledger
from repro.report.tables.results.claims import claims
from repro.report.tables.results.paper_verdicts import paper_verdicts, verdict_sentence

SYNTHETIC = ("synthetic", "synthetic")


def runs(scores: dict[str, float], seeds: int = 3, **place: str) -> list[dict[str, Any]]:
    return [record(v, seed, f1=f1, tweets=600, **place) for v, f1 in scores.items() for seed in range(seeds)]


def entries(records: list[dict[str, Any]], place: tuple[str, str] = SYNTHETIC) -> dict[str, Entry]:
    return {entry.claim: entry for entry in ledger(evidence_of(records))[place]}


def comparison(low: float, high: float, by_seed: tuple[float, ...], p: float) -> Comparison:
    return Comparison(by_seed, Difference(sum(by_seed) / len(by_seed), low, high, p, 0.01), p, p, p)


@pytest.mark.parametrize(
    ("compared", "expected"),
    [
        (None, "not run"),
        (Comparison((), None, None, None, None), "not run"),
        (Comparison((0.2, 0.2), None, None, None, None), "undecided"),
        (comparison(0.01, 0.03, (0.02, 0.021, 0.019), 0.01), "supported"),
        (comparison(-0.03, -0.01, (-0.02, -0.021, -0.019), 0.01), "not supported"),
        (comparison(-0.01, 0.03, (0.01, 0.02, 0.0), 0.3), "undecided"),
        (comparison(-0.01, 0.009, (0.0, 0.001, -0.001), 0.9), "not supported"),  # no room for a point of F1
        (comparison(-0.01, 0.011, (0.0, 0.001, -0.001), 0.9), "undecided"),
        (comparison(-0.01, 0.009, (0.0, 0.01, -0.01), 0.9), "undecided"),  # room over seeds
    ],
)
def test_the_rule(compared: Comparison | None, expected: str):
    assert judgement_of(compared) == expected


@pytest.mark.parametrize(("claim", "variant"), PARTS.items())
def test_swapping_two_systems_turns_the_verdict(claim: str, variant: str):
    ahead = entries(runs({"full": 0.9, variant: 0.7}))[claim]
    behind = entries(runs({"full": 0.7, variant: 0.9}))[claim]
    assert (ahead.judgement, behind.judgement) == ("supported", "not supported")
    assert ahead.effect is not None
    assert ahead.effect > 0.15
    assert behind.effect is not None
    assert behind.effect < -0.15
    assert ahead.over_tweets is not None
    assert ahead.over_tweets[0] < ahead.effect < ahead.over_tweets[1]
    assert ahead.over_seeds is not None
    assert ahead.over_seeds[0] < ahead.effect < ahead.over_seeds[1]


def test_two_seeds_decide_nothing():
    assert entries(runs({"full": 0.9, "no_paf": 0.5}, seeds=2))[
        "progressive attention fusion improves F1"
    ].judgement == ("undecided")


def test_all_claims_of_the_table_are_adjusted_together():
    claim, place = "progressive attention fusion improves F1", ("offline", "twitter2015")
    records = runs({"full": 0.9, "no_paf": 0.7}, profile=place[0], dataset=place[1])
    for r in records:  # p over seeds: 0.02
        lead = 0.12 + 0.12 * 3**0.5 / 6.96 * (0, 1, -1)[r["seed"]]
        set_f1(r, 0.9 if r["variant"] == "full" else 0.9 - lead)
    elsewhere = runs({"full": 0.5, "no_ama": 0.5}, profile="offline", dataset="twitter2017")
    assert entries([*records, *elsewhere], place)[claim].judgement == "undecided"  # with F1 and cosines there: 0.06
    for r in elsewhere:
        del r["result"]["interference"]
    assert entries([*records, *elsewhere], place)[claim].judgement == "supported"  # with F1 alone: 0.04


def test_existing_methods_are_beaten_when_all_of_them_are():
    baselines = dict.fromkeys(GROUPS["baselines"], 0.6)
    assert entries(runs({"full": 0.9, **baselines}))[BEATS_OTHERS].judgement == "supported"
    some = entries(runs({"full": 0.9, "cmmt": 0.6, "text_only": 0.6}))[BEATS_OTHERS]
    assert some.judgement == "undecided"
    assert "ahead of 2 of 6 baselines (2 run)" in some.test
    one_is_better = entries(runs({"full": 0.8, **baselines, "dtca": 0.95}))[BEATS_OTHERS]
    assert one_is_better.judgement == "not supported"
    assert "DTCA" in one_is_better.test
    assert one_is_better.effect is not None
    assert one_is_better.effect < 0
    one_is_close = entries(runs({"full": 0.8, **baselines, "dtca": 0.795}))[BEATS_OTHERS]
    assert (one_is_close.judgement, "DTCA" in one_is_close.test) == ("undecided", True)


def with_pointing(scores: dict[str, float]) -> list[dict[str, Any]]:
    records = runs(dict.fromkeys(scores, 0.8))
    for r in records:
        for stage in r["result"]["metrics"]["test"]["pointing"]["stages"]:
            stage["pointing"] = scores[r["variant"]] + 0.01 * r["seed"] * (1 if r["variant"] == "full" else -1)
            stage["distractor_mass"] = 1 - stage["pointing"]
    return records


def test_alignment_and_noise_follow_the_attention():
    aligned = "progressive attention fusion aligns words with regions"
    noise = "progressive attention fusion suppresses visual noise (attention)"
    better = entries(with_pointing({"full": 0.9, "no_paf": 0.4}))
    worse = entries(with_pointing({"full": 0.4, "no_paf": 0.9}))
    assert (better[aligned].judgement, worse[aligned].judgement) == ("supported", "not supported")
    assert (better[noise].judgement, worse[noise].judgement) == ("supported", "not supported")
    assert better[aligned].over_tweets is None
    offline = entries(
        runs({"full": 0.6, "no_paf": 0.6}, profile="offline", dataset="twitter2015"), ("offline", "twitter2015")
    )
    assert aligned not in offline


def test_interference_is_read_off_the_cosines_and_old_records_have_none():
    claim = "adaptive multi-loss aggregation mitigates gradient interference"
    records = runs({"full": 0.8, "no_ama": 0.8, "no_paf": 0.8})
    for r in records:
        negative = 1 if r["variant"] == "full" else 3
        course = [-0.1] * negative + [0.1] * (4 - negative)
        course[0] += 0.15 * (r["seed"] == 0)  # or the share would have no spread
        r["result"]["interference"]["cosine"] = {"tagging~aspect": [*course, None]}
    found = entries(records)[claim]
    assert found.effect == pytest.approx(0.5)
    assert found.n == 3
    for r in records:
        del r["result"]["interference"]
    evidence = evidence_of(records)
    assert entries(records)[claim].judgement == "not run"
    frame = claims(evidence).frame
    row = frame[(frame.claim == claim) & frame.block.str.contains("synthetic")].iloc[0]
    assert (row.effect, row.verdict) == ("not recorded", "not run")


def test_the_fall_with_distractors_pairs_seeds():
    claim = "progressive attention fusion suppresses visual noise (F1)"
    records = runs({"full": 0.8, "no_paf": 0.8})
    extra = {"full": 0.05, "no_paf": 0.25}
    evaluations = [evaluation(r, distractors_8=extra[r["variant"]] + 0.01 * r["seed"] ** 2) for r in records]
    (found,) = (e for e in ledger(evidence_of(records, evaluations))[SYNTHETIC] if e.claim == claim)
    assert (found.judgement, found.effect) == ("supported", pytest.approx(0.2))


def test_only_the_paper_profile_is_held_against_the_papers_figure():
    claim = "CLAMP reaches 67.7 F1"
    place = ("paper", "twitter2015")
    assert entries([], place)[claim].judgement == "not run"
    low = runs({"full": 0.4}, seeds=5, profile="paper", dataset="twitter2015")
    assert entries(low, place)[claim].judgement in ("not supported", "undecided")
    for r in low:
        set_f1(r, 0.677 + 0.001 * r["seed"])
    assert entries(low, place)[claim].judgement == "supported"
    for r in low:
        set_f1(r, 0.577 + 0.001 * r["seed"])
    assert entries(low, place)[claim].judgement == "not supported"
    assert not any("reaches" in claim for claim in entries([], ("offline", "twitter2015")))


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"epochs": 1}},
        {"train": {"lr_encoder": 1e-3}},
        {"model": {"text": {"weights": "google-bert/bert-base-cased"}}},
        {"model": {"vision": {"encoder": {"weights": "vit-tiny"}}}},
        {"data": {"visual": "none"}},
    ],
)
def test_runs_of_other_settings_are_not_held_against_it(changes: dict[str, Any]):
    def merged(values: Any, changes: Any) -> Any:
        return (
            {**values, **{k: merged(values.get(k), v) for k, v in changes.items()}}
            if type(changes) is dict
            else changes
        )

    claim, place = "CLAMP reaches 67.7 F1", ("paper", "twitter2015")
    records = runs({"full": 0.4}, seeds=6, profile="paper", dataset="twitter2015")
    for r in records:
        set_f1(r, 0.677)
    records[0]["config"] = merged(records[0]["config"], changes)
    left = entries(records, place)[claim]
    assert (left.n, left.judgement) == (5, "supported")
    assert "one seed run with other settings than the profile's, not judged" in left.test
    for r in records[1:]:
        r["config"] = records[0]["config"]
    none = entries(records, place)[claim]
    assert (none.n, none.judgement, none.effect) == (0, "not run", None)
    evidence = evidence_of(records)
    row = paper_verdicts(evidence).frame.iloc[0]
    assert (row["n"], row["measured"], row["verdict"]) == ("0", "not run", "not run")
    assert row["note"] == "6 seeds run with other settings than the profile's, not judged"
    assert verdict_sentence(evidence, "twitter2015").endswith(
        "not run. 6 seeds run with other settings than the profile's, not judged."
    )


def test_threads_and_a_folder_of_the_same_weights_are_no_other_setting():
    records = runs({"full": 0.4}, seeds=2, profile="paper", dataset="twitter2015")
    records[0]["config"]["train"]["threads"] = 8
    records[1]["config"]["model"]["text"]["weights"] = "roberta-base"
    assert all(in_the_papers_setting(run_of(r)) for r in records)
    assert not in_the_papers_setting(run_of(record("full")))


def test_findings_name_exactly_the_claims_of_each_verdict():
    records = runs({"full": 0.9, "no_paf": 0.7, "no_mcl": 0.95})
    evidence = evidence_of(records)
    table = claims(evidence)
    said = table.findings[0]
    supported, against = said.split("Supported: ")[1].split("Not supported: ")
    assert supported.startswith("progressive attention fusion improves F1. ")
    assert against.startswith("multi-task contrastive learning improves F1. ")
    assert table.findings[1] == "Twitter-2015, profile offline: not run."
    assert (table.frame[table.frame.block.str.contains("paper")].effect == "not run").all()
