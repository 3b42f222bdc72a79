"""The table and the figure of two looks show what made-up records have, and nothing else changes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drawing import BY_NAME, assert_whole, drawn, names_of
from made_up import TODAYS, evaluation, evidence_of, record, suite
from made_up_mechanisms import row_of
from made_up_tables import tables
from reading import entity_of, figure_of_colour

from repro.plan.variants import GROUPS, TWO_LOOK_SYSTEMS, two_look_name
from repro.report.figures.figure import write_figure
from repro.report.figures.style import COLUMN
from repro.report.figures.two_looks import shown_tweet
from repro.report.tables.contents import make_tables
from repro.report.tables.mechanism.two_looks import two_looks

LOOKS = {"full": ((0.8, 0.1), (0.1, 0.85), (0.3, 0.3)), "no_paf": ((0.5, 0.2),)}  # (own, named) a stage


def made_up(seeds: int = 2, systems: tuple[str, ...] = TWO_LOOK_SYSTEMS) -> list[dict[str, Any]]:
    """Each system a little worse than the one before; the second seed one point better, and looking away less."""
    records = []
    for k, system in enumerate(systems):
        for seed in range(seeds):
            one = record(two_look_name(system), seed, source_hash=TODAYS[0])
            for metrics in one["result"]["metrics"].values():
                f1 = 0.9 - 0.02 * k + 0.01 * seed
                metrics["joint"] = {**metrics["joint"], "tp": round(f1 * 10**8), "predicted": 10**8, "gold": 10**8}
                metrics["joint"] |= dict.fromkeys(("precision", "recall", "f1"), round(f1 * 10**8) / 10**8)
                if system in ("text_only", "caption_concat"):
                    metrics["pointing"] = None
                else:
                    shares = LOOKS.get(system, LOOKS["full"])
                    metrics["pointing"]["best_stage"] = 0
                    metrics["pointing"]["stages"] = [
                        {**metrics["pointing"]["stages"][0], "pointing": own, "second_pointing": named + 0.1 * seed}
                        for own, named in shares
                    ]
            records.append(one)
    return records


def evaluated(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for one in records:
        of_it = evaluation(one)
        of_it["evaluation"]["mechanism"]["counterfactuals"] = None
        sees = one["result"]["metrics"]["test"]["pointing"] is not None
        of_it["evaluation"]["mechanism"]["two_looks"] = {
            "named_mouth": {"n": 200, "unchanged": 20, "followed": 160 + 20 * one["seed"]},
            "badge": {"n": 100, "unchanged": 30, "followed": 70},
            "own_mouth": {"n": 200, "unchanged": 190, "followed": 150},
        } if sees else None  # fmt: skip
        found.append(of_it)
    return found


def test_a_row_says_f1_where_the_stages_look_and_what_moves_the_labels():
    records = made_up()
    table = two_looks(evidence_of(records, evaluated(records)))
    assert len(table.frame) == len(TWO_LOOK_SYSTEMS)
    full = table.frame.iloc[0].to_dict()
    assert (full["system"], full["n"], full["F1"], full["minus CLAMP"]) == ("CLAMP", "2", "90.5 ± 0.7", "-")
    assert full["looks at own"] == "80.0; 10.0; 30.0"
    assert full["looks at named"] == "15.0; 90.0; 35.0"
    assert full["named mouth redrawn: follows"] == "85.0 ± 7.1"
    assert full["badge changed: follows"] == "70.0 ± 0.0"
    assert full["own mouth redrawn: unchanged"] == "95.0 ± 0.0"
    plain = row_of(table, system="no progressive fusion")
    assert (plain["minus CLAMP"], plain["looks at own"], plain["looks at named"]) == ("-2.0 (2 seeds)", "50.0", "25.0")
    blind = row_of(table, system="text only")
    assert {blind[column] for column in ("looks at own", "looks at named", "badge changed: follows")} == {"-"}
    assert table.findings[0] == (
        "CLAMP's F1 is 90.5 ± 0.7 (2 seeds), where 33.3 is to be expected of words alone, 61.7 of words and all mouths "
        "without the badges, and 100 of who looks twice."
    )
    assert table.findings[1] == ("No progressive fusion (one plain cross-attention), F1 minus CLAMP's: -2.0 (2 seeds).")
    assert "own figure for 80.0; 10.0; 30.0 %, at the named one for 15.0; 90.0; 35.0 %" in table.findings[-2]
    assert "for 85.0 ± 7.1 % of the aspects, another badge for 70.0 ± 0.0 %" in table.findings[-1]
    assert not any(sign in "".join(table.frame.system) for sign in "†‡")


def test_what_was_not_run_says_so():
    table = two_looks(evidence_of([]))
    assert table.findings == ("CLAMP: not run.",)
    assert set(table.frame["F1"]) == {"not run"}
    table = two_looks(evidence_of(made_up(1, ("full", "no_paf"))))
    assert row_of(table, system="text only")["F1"] == "not run"
    assert "One stage, F1 minus CLAMP's: not run." in table.findings
    assert not any("follows" in sentence for sentence in table.findings)  # not evaluated


def test_two_looks_enter_their_claims_their_learning_speed_and_nothing_else():
    usual = suite()
    with_them = [*usual, *made_up(1)]
    before = {t.name: t for t in make_tables(evidence_of(usual))}
    after = {t.name: t for t in make_tables(evidence_of(with_them))}
    for name in ("two_looks", "claims", "learning_speed"):
        assert after.pop(name).findings != before.pop(name).findings
    for name, table in before.items():
        assert (after[name].findings, after[name].footer) == (table.findings, table.footer)
        assert after[name].frame.equals(table.frame)
    assert set(names_of(evidence_of(with_them))) == {*names_of(evidence_of(usual)), "two_looks"}
    evidence = evidence_of(with_them)
    assert evidence.runs == evidence_of(usual).runs + len(GROUPS["two_looks"])


def test_the_figure_shows_the_task_the_looks_and_the_scores(tmp_path: Path):
    evidence = evidence_of(made_up())
    task, looks, scores = drawn("two_looks", evidence).axes
    assert [label.get_text() for label in looks.get_yticklabels()] == ["stage 1", "stage 2", "stage 3", "no PAF"]
    widths = [round(bar.get_width(), 1) for bar in looks.patches]
    assert widths == [80.0, 15.0, 5.0, 10.0, 90.0, 0.0, 30.0, 35.0, 35.0, 50.0, 25.0, 25.0]
    assert [round(bar.get_width(), 1) for bar in scores.patches][:3] == [90.5, 88.5, 86.5]
    assert len(scores.patches) == len(TWO_LOOK_SYSTEMS)
    assert [round(x, 1) for x in scores.lines[1].get_xdata()] == [88.0, 89.0]
    tweet, aspect = shown_tweet(evidence)
    name = " ".join(entity_of(tweet, aspect))
    said = [text.get_text() for text in task.texts]
    assert any(f"[{name}]" in text for text in said)
    assert f"1  find the {name}" in said
    # a reader sees that the own mouth is not the one that counts
    own = figure_of_colour(tweet, entity_of(tweet, aspect)[0])
    assert figure_of_colour(tweet, own.badge).mouth == aspect.polarity != own.mouth
    for path in write_figure(BY_NAME["two_looks"], evidence, tmp_path):
        if path.suffix == ".png":
            assert_whole(path, (round(2 * COLUMN * 200),))


@pytest.mark.parametrize("systems", [("no_paf",), ("text_only",), ("full", "text_only")])
def test_the_figure_is_drawn_of_whatever_was_run(systems: tuple[str, ...]):
    _, looks, scores = drawn("two_looks", evidence_of(made_up(1, systems))).axes
    assert len(scores.patches) == len(systems)
    assert len(looks.get_yticks()) == sum(len(LOOKS[system]) for system in systems if system in LOOKS)


def test_the_table_is_written_with_all_others():
    assert "two_looks" in tables(made_up(1, ("full",)))
