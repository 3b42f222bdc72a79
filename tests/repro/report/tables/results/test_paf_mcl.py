"""The 2 x 2: planted cells give the effects that arithmetic says, with intervals of both kinds."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import evidence_of, record, run_of

from repro.evidence.cells import GENERATED, Cell
from repro.evidence.comparisons import Comparison
from repro.evidence.stats import holm, summarise, t_against_zero
from repro.report.tables.results.paf_mcl import CELLS, EFFECTS, effects_by_place, paf_mcl
from repro.report.wording import p_value, signed

F1 = {"full": 0.9, "no_mcl": 0.6, "no_paf": 0.55, "no_paf_no_mcl": 0.5}


def cells(seeds: int = 3) -> dict[str, Cell]:
    return {v: Cell(v, tuple(run_of(record(v, s, f1=f1, tweets=500)) for s in range(seeds))) for v, f1 in F1.items()}


def effects_of(block: dict[str, Cell]) -> dict[str, Comparison]:
    return effects_by_place(evidence_of([r for cell in block.values() for r in cell.records]))[GENERATED]


def test_effects_are_those_of_the_four_means():
    block = cells()
    full, no_mcl, no_paf, none = (np.array(block[v].test("joint", "f1")) for v in CELLS)
    expected = {
        "PAF, main effect": ((full - no_paf) + (no_mcl - none)) / 2,
        "MCL, main effect": ((full - no_mcl) + (no_paf - none)) / 2,
        "PAF x MCL, interaction": (full - no_paf) - (no_mcl - none),
        "PAF where there is MCL": full - no_paf,
        "PAF where there is no MCL": no_mcl - none,
        "MCL where there is PAF": full - no_mcl,
        "MCL where there is no PAF": no_paf - none,
    }
    found = effects_of(block)
    assert list(found) == list(EFFECTS) == list(expected)
    for label, by_seed in expected.items():
        assert found[label].by_seed == pytest.approx(tuple(by_seed))
        tested = found[label].bootstrap
        assert tested is not None
        assert tested.difference == pytest.approx(by_seed.mean())
        assert tested.low < by_seed.mean() < tested.high
    assert found["PAF x MCL, interaction"].standing == "ahead"


def test_rows_show_cells_effects_and_both_intervals():
    records = [r for cell in cells().values() for r in cell.records]
    table = paf_mcl(evidence_of(records))
    rows = table.frame[table.frame.block.str.contains("synthetic")].set_index("quantity")
    assert list(rows.index) == [*CELLS.values(), *EFFECTS]
    main = effects_of(cells())["PAF, main effect"]
    over_seeds = summarise(main.by_seed)
    row = rows.loc["PAF, main effect"]
    assert row["95 % over seeds"] == f"{signed(over_seeds.low or 0)} to {signed(over_seeds.high or 0)}"
    assert main.bootstrap is not None
    assert row["95 % over tweets"] == f"{signed(main.bootstrap.low)} to {signed(main.bootstrap.high)}"
    assert f"PAF, main effect {signed(main.difference or 0)} (positive)" in table.findings[0]


def test_a_missing_cell_leaves_only_the_effects_that_do_without_it():
    block = cells()
    del block["no_paf_no_mcl"]
    assert list(effects_of(block)) == ["PAF where there is MCL", "MCL where there is PAF"]
    records = [r for cell in block.values() for r in cell.records]
    table = paf_mcl(evidence_of(records))
    rows = table.frame[table.frame.block.str.contains("synthetic")].set_index("quantity")
    assert rows.loc["neither", "F1"] == "not run"
    assert rows.loc["PAF x MCL, interaction", ["F1", "effect"]].tolist() == ["not run", "not run"]
    assert table.findings[0].endswith("the 2 x 2 is not run.")


def test_one_seed_is_undecided():
    assert {c.standing for c in effects_of(cells(seeds=1)).values()} == {"undecided"}


def test_effects_of_all_blocks_are_adjusted_together():
    offline = {"profile": "offline", "dataset": "twitter2015"}
    records = [r for cell in cells().values() for r in cell.records]
    records += [record(v, s, f1=f1 - 0.2, tweets=500, **offline) for v, f1 in F1.items() for s in range(3)]
    evidence = evidence_of(records)
    effects = [c for of_place in effects_by_place(evidence).values() for c in of_place.values()]
    assert len(effects) == 2 * len(EFFECTS)
    assert [c.p_seeds for c in effects] == holm([t_against_zero(c.by_seed) for c in effects])
    assert [c.p_tweets for c in effects] == holm([c.bootstrap.p for c in effects if c.bootstrap])
    rows = paf_mcl(evidence).frame.query("`p seeds` != ''")
    assert rows["p seeds"].tolist() == [p_value(c.p_seeds) for c in effects]
