"""Whether noise is suppressed follows from falls, attention and moved labels."""

from __future__ import annotations

from made_up import evaluation, evidence_of
from made_up_mechanisms import SPREAD, row_of, runs

from repro.report.table import Table
from repro.report.tables.mechanism.noise_suppression import noise_suppression


def in_noise(fall: dict[str, float], mass: dict[str, float], seeds: int = 3) -> Table:
    records = runs(*fall, seeds=seeds)
    for r in records:
        for split in ("dev", "test"):
            for stage in r["result"]["metrics"][split]["pointing"]["stages"]:
                stage["distractor_mass"] = mass[r["variant"]] + SPREAD[r["seed"]] / 10
    evaluations = [evaluation(r, distractors_8=fall[r["variant"]] + SPREAD[r["seed"]] / 5) for r in records]
    evidence = evidence_of(records, evaluations)
    return noise_suppression(evidence)


def test_noise_is_suppressed_where_less_of_it_comes_through():
    table = in_noise({"full": 0.1, "no_paf": 0.4}, {"full": 0.05, "no_paf": 0.2})
    assert table.findings[0].endswith(
        "by its fall with 8 distractors: yes; in attention, by what distractors receive: yes."
    )
    assert "fall, 8 distractors: +30.0 (95 % interval +30.0 to +30.0, 3 seeds)" in table.findings[1]
    assert row_of(table, system="CLAMP")["attention on distractors: first stage"] == "5.0 ± 0.1"
    assert "independent noise on every pixel and colour channel" in table.about
    assert "its standard deviation (sd) in levels of 255" in table.footer[0]
    # of 200 labels 190 stay
    assert row_of(table, system="CLAMP")["labels moved by distractors' mouths"] == "5.0 ± 0.0"
    assert table.findings[-1].endswith("spread evenly over the image it would be 12.5 %.")


def test_and_is_not_where_more_comes_through():
    table = in_noise({"full": 0.4, "no_paf": 0.1}, {"full": 0.05, "no_paf": 0.2})
    assert (
        "8 distractors: no, the other way round; in attention, by what distractors receive: yes." in table.findings[0]
    )
    assert "fall, 8 distractors: -30.0" in table.findings[1]


def test_noise_stays_undecided_without_seeds_or_runs():
    table = in_noise({"full": 0.1, "no_paf": 0.4}, {"full": 0.05, "no_paf": 0.2}, seeds=2)
    assert "8 distractors: undecided, of 2 seeds" in table.findings[0]
    assert "yes" not in table.findings[0]
    nothing = noise_suppression(evidence_of([]))
    assert nothing.findings[0].endswith("8 distractors: not run; in attention, by what distractors receive: not run.")
    assert (nothing.frame["fall: noise sd 32 of 255"] == "not run").all()
    alone = in_noise({"full": 0.1}, {"full": 0.05})
    assert "No noise gate: not run." in alone.findings


def test_stages_that_seeds_do_not_share_have_no_course():
    records = runs("full")
    for split in ("dev", "test"):
        del records[0]["result"]["metrics"][split]["pointing"]["stages"][0]
        records[0]["result"]["metrics"][split]["pointing"]["best_stage"] = 0
    said = noise_suppression(evidence_of(records)).findings
    assert said[-1].startswith("CLAMP's seeds have unlike stages")
    assert "From stage to stage" in noise_suppression(evidence_of(records[1:])).findings[-1]


def test_n_in_noise_is_of_what_was_evaluated():
    records = runs("full", "no_paf")
    evaluations = [evaluation(r) for r in records if r["seed"] or r["variant"] == "no_paf"]
    table = noise_suppression(evidence_of(records, evaluations))
    row = row_of(table, system="CLAMP")
    assert (row["n"], row["fall: noise sd 64 of 255"]) == ("2", "10.0 ± 0.0")
    assert row["attention on distractors: first stage"].endswith(" (3 seeds)")
    other = row_of(table, system="no progressive")
    assert (other["n"], "seeds" in other["attention on distractors: first stage"]) == ("3", False)
