"""The ledger follows the numbers: planted leads are supported, swapped ones are not, and too little is undecided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_up import evaluation, evidence_of, record, run_of, set_f1

from repro.evidence.family import family
from repro.report.against_paper import in_the_papers_setting
from repro.report.ledger import COLUMNS, Entry, answer, is_judged_at, ledger
from repro.report.tables.results.claims import claims
from repro.report.tables.results.paper_verdicts import paper_verdicts, verdict_sentence

SYNTHETIC = ("synthetic", "synthetic")
PARTS = [claim for claim in family() if claim.metric == "f1" and claim.ours == "full"]


def runs(scores: dict[str, float], seeds: int = 4, **place: Any) -> list[dict[str, Any]]:
    return [record(v, seed, f1=f1, **{"tweets": 600, **place}) for v, f1 in scores.items() for seed in range(seeds)]


def entries(
    records: list[dict[str, Any]],
    place: tuple[str, str] = SYNTHETIC,
    evaluations: list[dict[str, Any]] | None = None,
) -> dict[str, Entry]:
    return {entry.claim.id: entry for entry in ledger(evidence_of(records, evaluations))[place]}


@pytest.mark.parametrize("claim", PARTS, ids=[claim.id for claim in PARTS])
def test_swapping_two_systems_turns_the_verdict(claim: Any):
    ahead = entries(runs({"full": 0.9, claim.other: 0.7}))[claim.id]
    behind = entries(runs({"full": 0.7, claim.other: 0.9}))[claim.id]
    assert (ahead.verdict, behind.verdict) == ("supported", "not supported")
    assert ahead.effect is not None
    assert ahead.effect > 0.15
    assert behind.effect is not None
    assert behind.effect < -0.15
    for interval in (ahead.over_tweets, ahead.over_seeds, ahead.over_both):
        assert interval is not None
        assert interval[0] < ahead.effect < interval[1]


def test_every_claim_of_the_family_is_judged_everywhere_that_it_names_and_nowhere_else():
    found = {(place, entry.claim.id) for place, of_place in ledger(evidence_of([])).items() for entry in of_place}
    assert found == {(place, claim.id) for place in COLUMNS for claim in family() if is_judged_at(claim, place)}
    assert (("offline", "pooled"), "paf") in found
    assert (("paper", "pooled"), "paf") in found
    assert (("offline", "twitter2015"), "as_reported") not in found
    assert (("offline", "twitter2015"), "aligned") not in found


def test_two_seeds_decide_nothing():
    assert entries(runs({"full": 0.9, "no_paf": 0.5}, seeds=2))["paf"].verdict == "undecided"


def test_equal_systems_differ_by_nothing_that_matters():
    records = runs({"full": 0.8, "no_paf": 0.8}, tweets=600)
    for r in records:
        r["result"]["per_tweet"]["test"] = [(8, 10, 10)] * 600  # every tweet alike: nothing is left to chance
        set_f1(r, 0.8 + 0.001 * r["seed"] * (1 if r["variant"] == "full" else -1))
    assert entries(records)["paf"].verdict == "no difference that matters"


def test_few_tweets_are_beyond_the_data():
    """Both systems' seeds agree to the digit, and fifty tweets cannot tell."""
    records = runs({"full": 0.8, "no_paf": 0.8}, tweets=50)
    right = {"full": np.arange(50) % 2, "no_paf": (np.arange(50) // 2) % 2}
    for r in records:
        r["result"]["per_tweet"]["test"] = [(int(k), 1, 1) for k in right[r["variant"]]]
        set_f1(r, float(right[r["variant"]].mean()) + 0.001 * r["seed"])
    found = entries(records)["paf"]
    assert found.verdict == "beyond these data"
    assert found.detectable is not None
    assert found.detectable > 0.1
    assert found.tweets_needed is not None
    assert found.tweets_needed == pytest.approx(50 * (found.detectable / 0.01) ** 2, abs=1)
    row = claims(evidence_of(records)).frame.query("claim == 'progressive attention fusion improves F1'").iloc[0]
    assert row.verdict == f"beyond these data ({100 * found.detectable:.1f}; {found.tweets_needed:,} tweets)"


def test_all_claims_of_the_family_are_adjusted_together():
    place = ("offline", "twitter2015")
    records = runs({"full": 0.9, "no_paf": 0.7}, seeds=3, profile=place[0], dataset=place[1])
    for r in records:  # p over seeds: 0.02
        lead = 0.12 + 0.12 * 3**0.5 / 6.96 * (0, 1, -1)[r["seed"]]
        set_f1(r, 0.9 if r["variant"] == "full" else 0.9 - lead)
    elsewhere = runs({"full": 0.5, "no_ama": 0.5}, seeds=3, profile="offline", dataset="twitter2017")
    assert entries([*records, *elsewhere], place)["paf"].verdict == "undecided"  # with F1 and cosines there: 0.06
    for r in elsewhere:
        del r["result"]["interference"]
    assert entries([*records, *elsewhere], place)["paf"].verdict == "supported"  # with F1 alone: 0.04


def test_both_real_data_sets_are_pooled_over_the_seeds_that_both_have():
    systems = {"full": 0.7, "no_paf": 0.6}
    records = runs(systems, 5, profile="offline", dataset="twitter2015")
    records += runs(systems, 4, profile="offline", dataset="twitter2017", tweets=300)
    found = entries(records, ("offline", "pooled"))["paf"]
    assert found.n == 4

    def f1(variant: str, seed: int) -> float:
        of = [r for r in records if (r["variant"], r["seed"]) == (variant, seed)]
        assert [len(r["result"]["per_tweet"]["test"]) for r in of] == [600, 300]
        tp, predicted, gold = np.concatenate([r["result"]["per_tweet"]["test"] for r in of]).sum(axis=0)
        return float(2 * tp / (predicted + gold))

    assert found.effect == pytest.approx(np.mean([f1("full", seed) - f1("no_paf", seed) for seed in range(4)]))
    assert found.verdict == "supported"
    alone = entries(records, ("offline", "twitter2015"))["paf"]
    assert found.over_tweets is not None
    assert alone.over_tweets is not None
    assert np.ptp(found.over_tweets) < np.ptp(alone.over_tweets)  # more tweets tell more
    only_one = entries(records[:10], ("offline", "pooled"))["paf"]
    assert (only_one.verdict, only_one.missing) == ("not run", "not run")


def with_pointing(scores: dict[str, float]) -> list[dict[str, Any]]:
    records = runs(dict.fromkeys(scores, 0.8))
    for r in records:
        for stage in r["result"]["metrics"]["test"]["pointing"]["stages"]:
            stage["pointing"] = scores[r["variant"]] + 0.001 * r["seed"] * (1 if r["variant"] == "full" else -1)
            stage["distractor_mass"] = 1 - stage["pointing"]
    return records


def test_alignment_and_noise_follow_the_attention():
    better = entries(with_pointing({"full": 0.9, "no_paf": 0.4}))
    worse = entries(with_pointing({"full": 0.4, "no_paf": 0.9}))
    alike = entries(with_pointing({"full": 0.9, "no_paf": 0.9}))
    for claim in ("aligned", "noise_attention"):
        found = [each[claim].verdict for each in (better, worse, alike)]
        assert found == ["supported", "not supported", "no difference that matters"]
        assert better[claim].over_tweets is None


def test_interference_is_read_off_the_cosines_and_old_records_have_none():
    records = runs({"full": 0.8, "no_ama": 0.8, "no_paf": 0.8}, seeds=3)
    for r in records:
        negative = 1 if r["variant"] == "full" else 3
        course = [-0.1] * negative + [0.1] * (4 - negative)
        course[0] += 0.15 * (r["seed"] == 0)  # or the share would have no spread
        r["result"]["interference"]["cosine"] = {"tagging~aspect": [*course, None]}
    found = entries(records)["interference"]
    assert found.effect == pytest.approx(0.5)
    assert found.n == 3
    for r in records:
        del r["result"]["interference"]
    evidence = evidence_of(records)
    assert entries(records)["interference"].verdict == "not run"
    frame = claims(evidence).frame
    row = frame[frame.claim.str.contains("interference") & frame.block.str.contains("synthetic")].iloc[0]
    assert (row.effect, row.verdict) == ("not recorded", "not run")


def test_the_fall_with_distractors_pairs_seeds():
    records = runs({"full": 0.8, "no_paf": 0.8})
    extra = {"full": 0.05, "no_paf": 0.25}
    evaluations = [evaluation(r, distractors_8=extra[r["variant"]] + 0.001 * r["seed"] ** 2) for r in records]
    found = entries(records, evaluations=evaluations)["noise_f1"]
    assert (found.verdict, found.effect) == ("supported", pytest.approx(0.2))


def test_matched_words_and_images_are_closer():
    records = runs({"full": 0.8})
    evaluations = [evaluation(r) for r in records]
    for k, one in enumerate(evaluations):
        one["evaluation"]["mechanism"]["alignment"]["mean_matched"] += 0.001 * k
    found = entries(records, evaluations=evaluations)["matched_closer"]
    assert (found.verdict, found.effect) == ("supported", pytest.approx(0.5815))


def with_others_images(records: list[dict[str, Any]], right: dict[str, float]) -> list[dict[str, Any]]:
    """Evaluations that kept the counts of each tweet with another's image, of which so large a share is right."""
    evaluations = [evaluation(r) for r in records]
    for r, one in zip(records, evaluations, strict=True):
        kept = [(round(tp * right[r["variant"]]), p, g) for tp, p, g in r["result"]["per_tweet"]["test"]]
        one["evaluation"]["conditions"]["other_image"]["per_tweet"] = kept
    return evaluations


def test_who_uses_the_image_is_tested_over_tweets_too_and_pooled():
    records = [
        r
        for dataset in ("twitter2015", "twitter2017")
        for r in runs({"full": 0.8, "cmmt": 0.8}, profile="offline", dataset=dataset)
    ]
    evaluations = with_others_images(records, {"full": 0.5, "cmmt": 1.0})
    for column in ("twitter2015", "pooled"):
        found = entries(records, ("offline", column), evaluations)
        assert found["uses_image_full"].verdict == "supported"
        assert found["uses_image_full"].over_tweets is not None
        assert found["uses_image_cmmt"].verdict == "no difference that matters"
        assert found["uses_image_cmmt"].effect == 0.0


def test_without_counts_of_each_tweet_it_is_tested_over_seeds_alone():
    records = runs({"full": 0.8})
    evaluations = [evaluation(r, other_image=0.2 + 0.001 * r["seed"]) for r in records]
    found = entries(records, evaluations=evaluations)["uses_image_full"]
    assert (found.verdict, found.over_tweets) == ("supported", None)
    assert found.effect == pytest.approx(0.2015)


def learning(first: dict[str, list[int | None]]) -> list[dict[str, Any]]:
    """Runs whose dev F1 jumps from 0.5 to 1 in the epoch given for each seed, or (None) never does."""
    records = []
    for variant, epochs in first.items():
        for seed, at in enumerate(epochs):
            r = record(variant, seed)
            for epoch in r["result"]["curve"]:
                epoch["dev_f1"] = 1.0 if at is not None and epoch["epoch"] >= at else 0.5
            r["result"]["images"]["train"] = {"present": 900, "absent": 100}
            records.append(r)
    return records


def test_who_learns_sooner_is_read_off_the_curves():
    soon, late = [2] * 10, [8] * 10
    ahead = entries(learning({"full": soon, "no_paf": late}))["paf_sooner"]
    behind = entries(learning({"full": late, "no_paf": soon}))["paf_sooner"]
    assert (ahead.verdict, behind.verdict) == ("supported", "not supported")
    assert (ahead.effect, ahead.n) == (pytest.approx(6000.0), 10)
    never = entries(learning({"full": soon, "no_paf": [None] * 10}))["paf_sooner"]
    assert (never.verdict, never.effect) == ("supported", np.inf)
    alike = entries(learning({"full": soon, "no_paf": soon}))["paf_sooner"]
    assert alike.verdict == "no difference that matters"
    neither = entries(learning({"full": [None] * 10, "no_paf": [None] * 10}))["paf_sooner"]
    assert (neither.verdict, neither.effect, neither.missing) == ("undecided", None, "neither gets there")
    some = entries(learning({"full": [*soon[:9], None], "no_paf": [*soon[:9], None]}))["paf_sooner"]
    assert some.verdict == "undecided"  # of the tenth seed nothing is known


def test_answers_follow_the_verdicts():
    assert answer(None) == "not run"
    records = with_pointing({"full": 0.9, "no_paf": 0.4})
    assert answer(entries(records)["aligned"]) == "yes"
    assert answer(entries(with_pointing({"full": 0.4, "no_paf": 0.9}))["aligned"]) == "no, the other way round"
    assert answer(entries(with_pointing({"full": 0.9, "no_paf": 0.9}))["aligned"]) == "no difference that matters"
    assert answer(entries(records[:2] + records[4:6])["aligned"]) == "undecided, of 2 seeds"


def test_only_the_paper_profile_is_held_against_the_papers_figure():
    claim = "as_reported"
    place = ("paper", "twitter2015")
    assert entries([], place)[claim].sentence == "CLAMP reaches 67.7 F1"
    assert entries([], place)[claim].verdict == "not run"
    low = runs({"full": 0.4}, seeds=5, profile="paper", dataset="twitter2015")
    assert entries(low, place)[claim].verdict in ("not supported", "undecided")
    for r in low:
        set_f1(r, 0.677 + 0.001 * r["seed"])
    assert entries(low, place)[claim].verdict == "supported"
    for r in low:
        set_f1(r, 0.577 + 0.001 * r["seed"])
    assert entries(low, place)[claim].verdict == "not supported"
    assert claim not in entries([], ("offline", "twitter2015"))


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

    claim, place = "as_reported", ("paper", "twitter2015")
    records = runs({"full": 0.4}, seeds=6, profile="paper", dataset="twitter2015")
    for r in records:
        set_f1(r, 0.677)
    records[0]["config"] = merged(records[0]["config"], changes)
    left = entries(records, place)[claim]
    assert (left.n, left.verdict) == (5, "supported")
    assert "one seed run with other settings than the profile's, not judged" in left.test
    for r in records[1:]:
        r["config"] = records[0]["config"]
    none = entries(records, place)[claim]
    assert (none.n, none.verdict, none.effect) == (0, "not run", None)
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
    for r in records:
        r["result"]["curve"] = r["result"]["curve"][:1]  # too short for anyone to reach the threshold
    evidence = evidence_of(records)
    table = claims(evidence)
    said = table.findings[0]
    supported, rest = said.split("Supported: ")[1].split("Not supported: ")
    against = rest.split("No difference that matters: ")[0]
    assert supported == "progressive attention fusion improves F1. "
    assert against == "multi-task contrastive learning improves F1. "
    assert table.findings[1] == "Twitter-2015, profile offline: not run."
    assert (table.frame[table.frame.block.str.contains("paper")].effect == "not run").all()
