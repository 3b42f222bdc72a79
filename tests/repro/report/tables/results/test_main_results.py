"""The main table: scores, published figures, bounds, and what its sentences say."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from made_up import evidence_of, record, suite
from made_up_tables import frames, index_of, tables

from repro.evidence.trials import Trials
from repro.plan.variants import GROUPS, SUITE, means_something
from repro.report.table import as_markdown
from repro.report.tables.results.main_results import main_results
from repro.report.wording import mean_and_sd


def test_main_table_holds_the_records_scores(frame_of: dict[str, pd.DataFrame]):
    row = frame_of["main_synthetic"].query("method == 'CLAMP'").iloc[0]
    runs = [r["result"]["metrics"]["test"] for r in suite() if r["variant"] == "full"]
    assert row["n"] == "5"
    for column, task, score in (
        ("MABSA P", "joint", "precision"),
        ("MABSA R", "joint", "recall"),
        ("MABSA F1", "joint", "f1"),
        ("MATE F1", "mate", "f1"),
        ("MASC accuracy", "masc", "accuracy"),
        ("MASC macro-F1", "masc", "macro_f1"),
    ):
        assert row[column] == mean_and_sd([run[task][score] for run in runs])


def test_profiles_and_published_figures_stand_in_blocks_of_their_own(frame_of: dict[str, pd.DataFrame]):
    frame = frame_of["main_twitter2015"]
    assert list(dict.fromkeys(frame.block)) == ["Profile offline", "Profile paper", "Published by others"]
    assert (frame.block != frame.block.shift()).sum() == 3  # rows of one block are adjacent


def test_what_was_not_run_says_so_and_never_shows_the_papers_figure(frame_of: dict[str, pd.DataFrame]):
    paper = frame_of["main_twitter2015"].query("block == 'Profile paper'")
    assert len(paper) == sum(means_something(v, "paper", "twitter2015") for v in GROUPS["main"])
    measures = [c for c in paper.columns if c.startswith(("MABSA", "MATE", "MASC"))]
    assert (paper[measures] == "not run").all().all()
    ablations = frame_of["ablations_twitter2015_paper"]
    assert len(ablations) == len(SUITE)
    assert (ablations["joint F1"] == "not run").all()


def test_published_rows_carry_figures_source_selection_and_note(frame_of: dict[str, pd.DataFrame]):
    published = frame_of["main_twitter2015"].query("block == 'Published by others'").set_index("method")
    aom = published.loc["AoM (ACL Findings 2023)"]
    assert (aom["MABSA F1"], aom["MATE F1"], aom["MASC macro-F1"]) == ("68.6", "86.2", "75.9")
    assert aom["selection"] == "best test F1"
    assert "MATE: CORSA; DEQA; TARKAN" in aom["source"]
    clamp = published.loc["CLAMP (arXiv 2507.16854)"]
    assert (clamp["MABSA P"], clamp["MABSA F1"], clamp["source"]) == ("", "67.7", "arXiv 2507.16854, abstract")
    assert (published["source"] != "").all()
    assert (published["selection"] != "").all()


def test_trials_on_dev_stand_beside_the_system_that_had_them():
    trials = Trials({
        ("synthetic", "synthetic", "cmmt"): {0: (0.5, 0.6), 1: (0.5, 0.7, 0.8)},
        ("offline", "twitter2015", "dtca"): {0: (0.5,) * 7},
    })  # fmt: skip
    evidence = evidence_of([record("full")], trials=trials)
    generated = main_results(evidence, "synthetic").frame.set_index("method")["dev trials"]
    assert generated[["CLAMP§", "CMMT baseline, simplified", "DTCA baseline, simplified"]].tolist() == ["0", "5", "0"]
    for dataset in ("twitter2015", "twitter2017"):  # the choice of the one is the other's too
        real = main_results(evidence, dataset).frame.set_index(["block", "method"])["dev trials"]
        assert real["Profile offline", "DTCA baseline, simplified"] == "7"
        assert real["Profile paper", "DTCA baseline, simplified"] == "0"


def test_bounds_follow_the_share_in_the_config():
    records = suite()[:3]
    for r in records:
        r["config"]["data"]["synthetic"]["image_told_share"] = 0.3
    bounds = frames(records)["main_synthetic"].query("block == 'Bounds'").set_index("method")
    assert bounds.loc["oracle", "MABSA F1"] == "100.0"
    assert bounds.loc["text-only bound", "MABSA F1"] == "80.0"
    assert bounds.loc["text-only bound", "MATE F1"] == "100.0"
    assert "30%" in bounds.loc["oracle", "source"]


def test_tables_without_any_record_are_whole():
    made = tables([])
    assert (made["main_synthetic"].frame["MABSA F1"] == "not run").all()
    text = as_markdown(made["main_twitter2017"])
    assert "Profile offline: not run." in text
    assert "tolerance of 1.0: not run." in text
    assert "None yet" in index_of([])


def sentence(clamp: float, text_only: float, seeds: int) -> str:
    runs = [("full", clamp), ("text_only", text_only)]
    records = [record(variant, seed, f1=f1) for variant, f1 in runs for seed in range(seeds)]
    return tables(records)["main_synthetic"].findings[0]


def test_clamp_is_called_ahead_when_both_tests_say_so():
    said = sentence(0.95, 0.6, seeds=3)
    assert "CLAMP is ahead of text only (+3" in said
    assert "over 3 seeds, 95 % interval +" in said


def test_clamp_is_called_not_ahead_when_behind():
    assert "CLAMP is not ahead of text only but behind it (-" in sentence(0.6, 0.95, seeds=3)


def test_clamp_is_called_not_ahead_when_no_difference_is_shown():
    said = sentence(0.8, 0.8, seeds=3)
    assert "CLAMP is not shown to be ahead of text only (" in said
    assert "behind" not in said


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_leave_it_undecided(seeds: int):
    said = sentence(0.95, 0.6, seeds)
    assert "whether CLAMP is ahead of text only is undecided" in said
    assert "interval" not in said


def test_p_values_are_adjusted_over_all_profiles_of_a_table():
    def over_seeds(profiles: tuple[str, ...]) -> str:
        f1 = {"full": 0.60, "text_only": 0.56}
        records = [
            record(variant, seed, profile=profile, dataset="twitter2015", f1=f1[variant], tweets=600)
            for profile in profiles
            for variant in f1
            for seed in range(3)
        ]
        (offline,) = (f for f in tables(records)["main_twitter2015"].findings if f.startswith("Profile offline"))
        return re.findall(r"over seeds (0\.\d+)\)", offline)[0]

    alone, together = over_seeds(("offline",)), over_seeds(("offline", "paper"))
    assert float(together) == pytest.approx(2 * float(alone), abs=2e-3)  # the same numbers twice: Holm doubles p


def test_paper_profile_is_judged_against_the_paper():
    records = [record("full", s, profile="paper", dataset="twitter2015", f1=0.3, tweets=2000) for s in range(5)]
    text = as_markdown(tables(records)["main_twitter2015"])
    assert "Against the 67.7 F1 that the paper reports, with a tolerance of 1.0: lower (difference -3" in text
    # the other profiles are never set against it
    offline = [record("full", s, profile="offline", dataset="twitter2015", f1=0.3) for s in range(5)]
    assert "with a tolerance of 1.0: not run." in as_markdown(tables(offline)["main_twitter2015"])
