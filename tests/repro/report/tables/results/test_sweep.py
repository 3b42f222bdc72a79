"""The sweep is compared point by point, and enters nothing else."""

from __future__ import annotations

import pytest
from drawing import BY_NAME, names_of
from made_up import evaluation, evidence_of, record, runs_of, suite
from made_up_mechanisms import row_of, swept

from repro.evidence.cells import blocks
from repro.plan.variants import GROUPS, swept_name
from repro.report.index import coverage
from repro.report.tables.contents import make_tables
from repro.report.tables.results.sweep import differences, points, seeds_of_points, sweep, words_alone


def test_each_point_is_compared_with_clamp_there_over_the_same_seeds():
    records = swept(lambda system, value: 0.9 - (0.03 * value if system == "no_paf" else 0.01 * value))
    evidence = evidence_of(records)
    of_knob = points(evidence, "distractors")
    found = differences(of_knob, "no_paf")
    assert {value: pytest.approx(each) for value, each in found.items()} == {0: [0.0], 2: [-0.04], 8: [-0.16]}
    assert [len(point.records) for point in of_knob["full"].values()] == [1, 1, 1]  # the default's other seeds are out
    table = sweep(evidence)
    row = row_of(table, block="Distractors", value="8", system="no progressive")
    assert (row["n"], row["F1"], row["minus CLAMP"]) == ("1", "66.0", "-16.0")
    own, without_paf, *_ = table.findings
    assert "CLAMP's own F1: 90.0 (pointing 95.0) at 0, 88.0 (pointing 95.0) at 2, 82.0 (pointing 95.0) at 8" in own
    assert own.endswith("(one seed: described, not tested); to expect of words alone: 66.7.")
    assert "0.0 at 0, -4.0 at 2, -16.0 at 8 (one seed: described, not tested)." in without_paf
    assert "Over seeds at 2 F1 ranges from 83.0 to 85.0 with no progressive fusion" in without_paf
    assert "and from 87.0 to 89.0 with CLAMP (3 seeds):" in without_paf
    assert without_paf.endswith(": so wide a spread covers the one-seed difference at 0.")
    assert "most is lost" not in "".join(table.findings)
    turned = sweep(evidence_of(swept(lambda system, value: 0.8 + (0.01 * value if system == "no_paf" else 0))))
    assert "+8.0 at 8 (one seed: described, not tested)." in turned.findings[1]
    assert words_alone("image_told_share", 0.75) == pytest.approx(0.5)
    assert "Share of aspects that the image tells: not run." in table.findings
    assert row_of(table, block="Share", value="0.75", system="CLAMP")["F1"] == "not run"
    assert "‡" not in "".join(table.frame.system) + "".join(table.footer)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_sweep_is_described_however_many_seeds_it_has(seeds: int):
    records = swept(lambda system, value: 0.9 - (0.03 * value if system == "no_paf" else 0.0), seeds)
    number = "one seed" if seeds == 1 else f"{seeds} seeds"
    said = sweep(evidence_of(records)).findings[1]
    assert f"-24.0 at 8 ({number}: described, not tested)." in said
    assert ("spread" in said) == (seeds == 1)
    assert seeds_of_points(evidence_of(records)) == f"{number} a point"
    fewer = [r for r in records if r["seed"] == 0 or r["variant"] != swept_name("no_paf", "distractors", 8)]
    assert "(one seed: described, not tested)" in sweep(evidence_of(fewer)).findings[1]
    assert seeds_of_points(evidence_of(fewer)) == ("one seed a point" if seeds == 1 else f"1 to {seeds} seeds a point")


def test_the_sweep_enters_no_other_table_and_no_other_figure():
    usual = suite()
    evaluations = [evaluation(r) for r in usual]
    with_sweep = [*usual, *[record(name, 0, f1=0.1, source_hash="f" * 16) for name in GROUPS["sweep"]]]
    every = [evaluation(r) for r in with_sweep]
    before = {t.name: t for t in make_tables(evidence_of(usual, evaluations))}
    after = {t.name: t for t in make_tables(evidence_of(with_sweep, every))}
    assert after.pop("sweep").findings != before.pop("sweep").findings
    for name, table in before.items():
        assert after[name].findings == table.findings
        assert after[name].footer == table.footer
        assert after[name].frame.equals(table.frame)
    grouped, usually = blocks(runs_of(with_sweep)), blocks(runs_of(usual))
    assert grouped.keys() == usually.keys()
    assert all(grouped[place].keys() == block.keys() for place, block in usually.items())
    for name in names_of(evidence_of(usual, evaluations)):
        before_and_after = (evidence_of(usual, evaluations), evidence_of(with_sweep, every))
        told, again = (list(BY_NAME[name].sentences(evidence)) for evidence in before_and_after)
        assert told == again
    assert set(names_of(evidence_of(with_sweep, every))) == {*names_of(evidence_of(usual, evaluations)), "sweep"}
    covered = [coverage(evidence_of(records)).runs[0] for records in (usual, with_sweep)]
    assert int(covered[1]) == int(covered[0]) + len(GROUPS["sweep"])
    only = evidence_of([record(name) for name in GROUPS["sweep"]])
    assert only.grouped == {}
    assert len(only.swept) == len(GROUPS["sweep"])
