"""Tables: what a cell, a mark and a sentence say of made-up records, and that three formats say the same."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up import RESAMPLES, SOURCE, evidence_of, record, suite

from repro.evidence.cells import blocks
from repro.evidence.comparisons import compare
from repro.plan.profiles import PROFILES
from repro.plan.variants import GROUPS, SUITE, VARIANTS, means_something
from repro.report.figures.training import planned_figures
from repro.report.index import index
from repro.report.table import Table, as_latex, as_markdown, write_table
from repro.report.tables.registry import make_tables
from repro.report.tables.results.main_results import main_results
from repro.report.wording import mean_and_sd, p_value, signed
from repro.run.store import StoreError, write_atomically


def tables(records: list[dict[str, Any]]) -> dict[str, Table]:
    return {table.name: table for table in make_tables(evidence_of(records))}


def frames(records: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    return {name: table.frame for name, table in tables(records).items()}


def index_of(records: list[dict[str, Any]]) -> str:
    evidence = evidence_of(records)
    return index(evidence, make_tables(evidence), planned_figures(records), ["- none"], len(records))


def write_tables(records: list[dict[str, Any]], out: Path) -> list[Path]:
    write_atomically(out / "README.md", index_of(records))
    made = make_tables(evidence_of(records))
    return [out / "README.md", *(path for table in made for path in write_table(table, out))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables")
    write_tables([*suite(), *suite("offline", "twitter2015", top=0.58)], out)
    return out


@pytest.fixture(scope="module")
def frame_of(made: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in made.glob("*.csv")}


# Numbers as text


def test_numbers_as_text():
    assert mean_and_sd([0.5, 0.6]) == "55.0 ± 7.1"
    assert mean_and_sd([0.5]) == "50.0"
    assert (signed(0.012), signed(-0.0004), signed(0.0004)) == ("+1.2", "0.0", "0.0")
    assert (p_value(None), p_value(0.0004), p_value(0.05)) == ("-", "< 0.001", "0.050")


# Main results


def test_main_table_holds_the_records_scores(frame_of: dict[str, pd.DataFrame]):
    row = frame_of["main_synthetic"].query("method == 'CLAMP'").iloc[0]
    runs = [r["result"]["metrics"]["test"] for r in suite() if r["variant"] == "full"]
    assert row["n"] == "3"
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
    evidence = replace(evidence_of([record("full")]), trials=pd.DataFrame(
        [("synthetic", "synthetic", "cmmt", "2", "a"), ("synthetic", "synthetic", "cmmt", "3", "b"),
         ("offline", "twitter2015", "dtca", "7", "c")],
        columns=["profile", "dataset", "variant", "trials", "tried"],
    ))  # fmt: skip
    generated = main_results(evidence, "synthetic").frame.set_index("method")["dev trials"]
    assert generated[["CLAMP", "CMMT baseline, simplified", "DTCA baseline, simplified"]].tolist() == ["0", "5", "0"]
    real = main_results(evidence, "twitter2015").frame.set_index(["block", "method"])["dev trials"]
    assert real["Profile offline", "DTCA baseline, simplified"] == "7"
    assert real["Profile paper", "DTCA baseline, simplified"] == "0"


def test_listed_trials_are_of_systems_that_there_are():
    for trial in evidence_of([]).trials.to_dict("records"):
        assert trial["dataset"] in PROFILES[trial["profile"]].seeds
        assert means_something(trial["variant"], trial["profile"], trial["dataset"])
        assert int(trial["trials"]) > 0
        assert trial["tried"]


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


# What the sentences say


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


# Ablations


def test_ablations_list_every_variant_in_order(frame_of: dict[str, pd.DataFrame]):
    frame = frame_of["ablations_synthetic"]
    assert frame.variant.tolist() == [VARIANTS[variant].label for variant in SUITE]
    offline = frame_of["ablations_twitter2015_offline"].set_index("variant")
    assert offline.loc["one stage", "joint F1"] == "not run"
    assert offline.loc["one stage", "n"] == "0"
    assert offline.loc["text only", "n"] == "3"


def test_ablations_name_every_system_that_was_tuned(monkeypatch: pytest.MonkeyPatch):
    made = tables([])
    label = VARIANTS["single_cross_attention"].label
    tuned = PROFILES["synthetic"].tuned["single_cross_attention"]
    chosen = ", ".join(f"{name} {value}" for name, value in tuned.items())
    assert (
        f"training are CLAMP's, but for settings chosen on dev: {label} ({chosen})."
        in made["ablations_synthetic"].about
    )
    assert made["ablations_twitter2015_paper"].about.endswith("the training are CLAMP's.")
    monkeypatch.setitem(PROFILES, "synthetic", replace(PROFILES["synthetic"], tuned={"cmmt": {"train.epochs": 9}}))
    assert tables([])["ablations_synthetic"].about.endswith(
        "chosen on dev: CMMT baseline, simplified (train.epochs 9)."
    )


def test_ablation_differences_are_those_of_the_comparison(frame_of: dict[str, pd.DataFrame]):
    block = blocks(suite())["synthetic", "synthetic"]
    others = [cell for cell in block.values() if cell.variant != "full"]
    compared = compare([(cell, block["full"]) for cell in others], RESAMPLES)
    rows = frame_of["ablations_synthetic"].set_index("variant")
    for cell, comparison in zip(others, compared, strict=True):
        row = rows.loc[cell.label]
        if cell.n == 1:
            assert row["against CLAMP"] == "undecided"
            untested = ["95 % t interval", "95 % bootstrap interval", "p tweets", "p seeds", "detectable"]
            assert set(row[untested]) == {"-"}
            assert comparison.bootstrap is None
        else:
            assert comparison.difference is not None
            assert row["difference"] == signed(comparison.difference)
            assert row["p seeds"] == p_value(comparison.p_seeds)
            assert row["against CLAMP"] == comparison.standing


def test_comparisons_use_shared_seeds_on_shared_data_only():
    full = [record("full", seed, f1=0.9) for seed in (0, 1, 2, 3)]
    other = [record("text_only", seed, f1=0.7) for seed in (1, 2, 3, 4)]
    other[2]["provenance"]["data"]["synthetic/train"] = "cd" * 32
    block = blocks([*full, *other])["synthetic", "synthetic"]
    (comparison,) = compare([(block["full"], block["text_only"])], RESAMPLES)
    assert comparison.seeds == 2  # seeds 1 and 2; seed 3 saw other data
    assert comparison.standing == "undecided"
    f1 = {(r["variant"], r["seed"]): r["result"]["metrics"]["test"]["joint"]["f1"] for r in [*full, *other]}
    expected = sum(f1["full", s] - f1["text_only", s] for s in (1, 2)) / 2
    assert comparison.difference == pytest.approx(expected)


def test_systems_that_see_different_views_of_the_images_are_compared_on_their_tweets():
    full, text_only = (
        [record(variant, seed, profile="offline", dataset="twitter2015", f1=f1) for seed in range(3)]
        for variant, f1 in (("full", 0.58), ("text_only", 0.4))
    )
    assert full[0]["provenance"]["data"].keys() - text_only[0]["provenance"]["data"].keys()
    block = blocks([*full, *text_only])["offline", "twitter2015"]
    (comparison,) = compare([(block["full"], block["text_only"])], RESAMPLES)
    assert (comparison.seeds, comparison.standing) == (3, "ahead")


def test_comparisons_made_together_are_adjusted_together():
    block = blocks(suite())["synthetic", "synthetic"]
    pairs = [(block["full"], block[name]) for name in ("no_paf", "no_mcl", "text_only")]
    alone = [compare([pair], RESAMPLES)[0] for pair in pairs]
    together = compare(pairs, RESAMPLES)
    assert sum(c.p_seeds for c in together if c.p_seeds) > sum(c.p_seeds for c in alone if c.p_seeds)
    assert max(c.p_seeds for c in together if c.p_seeds) >= max(c.p_seeds for c in alone if c.p_seeds)
    assert sum(c.p_tweets for c in together if c.p_tweets) > sum(c.p_tweets for c in alone if c.p_tweets)
    assert [c.p_randomisation for c in together] == [c.p_randomisation for c in alone]


@pytest.mark.parametrize(
    ("shares", "held"),
    [
        ((0.6, 0.9, 0.8, 0.7), "4 of 4 loss weights (tagging, aspect, global, local)"),
        ((0.0, 0.9, 0.8, 0.7), "3 of 4 loss weights (aspect, global, local)"),
        ((0.0, 0.1, 0.9, 0.7), "2 of 4 loss weights (global, local)"),
        ((0.0, 0.1, 0.1, 0.1), "0 of 4 loss weights were held"),
    ],
)
def test_ablations_say_how_far_the_bounds_decided(shares: tuple[float, ...], held: str):
    records = [record("full", seed) for seed in range(2)]
    for r, more in zip(records, (0.02, -0.02), strict=True):
        logged = r["result"]["weighting"]["share_on_bound"]
        logged.update({task: share + more for task, share in zip(logged, shares, strict=True)})
        r["result"]["weighting"]["s"]["tagging"] = [0.0, -2.0, -4.0]
    (said,) = re.findall(r"^In CLAMP, .*$", as_markdown(tables(records)["ablations_synthetic"]), re.MULTILINE)
    assert f"In CLAMP, {held}" in said
    assert f"over 2 seeds: tagging {100 * shares[0]:.1f} %, aspect {100 * shares[1]:.1f} %" in said
    assert ("nearly a fixed weighting" in said) == (min(shares) > 0.5)  # not while one weight moves
    assert ("the free weights went: tagging from 0.5 to 27.3" in said) == (shares[0] < 0.5)
    assert ("aspect from" in said) == (shares[1] < 0.5)


def test_pointing_leaves_out_what_has_nothing_to_point_at():
    records = [record("full"), record("no_gate")]
    records[1]["result"]["metrics"]["dev"]["pointing"] = None
    records[1]["result"]["metrics"]["test"]["pointing"] = []
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


# Marks and footers


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
    records = [record(v, seed) for v in ("full", "no_gate", "bounds_others") for seed in range(2)]
    made = tables(records)
    assert "‡" not in as_markdown(made["sensitivity"]) + as_markdown(made["ablations_synthetic"])
    for r in records[2:]:
        r["config"]["model"]["width"] = 128
    made = tables(records)
    assert "no noise gate‡" in set(made["ablations_synthetic"].frame.variant)
    assert f"{VARIANTS['bounds_others'].label}‡" in set(made["sensitivity"].frame.system)
    assert "CLAMP" in set(made["ablations_synthetic"].frame.variant)
    assert "than its block, beside what makes it another system" in as_markdown(made["ablations_synthetic"])


def test_what_the_first_of_a_block_is_made_to_change_marks_no_other_row():
    records = [record(variant) for variant in ("no_gate", "scale_2", "text_only")]
    assert "‡" not in "".join(as_markdown(table) for table in tables(records).values())


def test_a_tuned_rate_is_the_same_in_all_seeds_of_its_system():
    records = [record(v, seed) for v in ("full", "single_cross_attention") for seed in range(2)]
    assert "‡" not in as_markdown(tables(records)["main_synthetic"])
    records[-1]["config"]["train"] |= {"lr_encoder": 3e-3}
    assert f"{VARIANTS['single_cross_attention'].label}‡" in set(frames(records)["main_synthetic"].method)


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


# Files


def test_three_formats_say_the_same(made: Path, frame_of: dict[str, pd.DataFrame]):
    for name, frame in frame_of.items():
        markdown, latex = ((made / f"{name}{suffix}").read_text() for suffix in (".md", ".tex"))
        assert latex.count("\\multicolumn") == frame.block.nunique()
        rows = [line for line in latex.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
        assert len(rows) == len(frame) + 1
        assert len({line.count(" & ") for line in rows}) == 1
        for column in frame.columns[1:3]:
            for value in frame[column]:
                assert value in markdown
                assert re.sub(r"([&%$#_{}])", r"\\\1", value).replace("†", "$^\\dagger$") in latex


def test_latex_is_plain_ascii_but_for_names_and_uses_booktabs(made: Path):
    for path in made.glob("*.tex"):
        text = path.read_text()
        assert text.isascii()
        assert text.count("\\toprule") == text.count("\\bottomrule") == 1
        assert not re.search(r"(?<!\\)[%&_#]", re.sub(r" & |\{!\}\{%|\}%\n|\\label\{.*\}", "", text))


def test_the_index_names_every_file(made: Path):
    index = (made / "README.md").read_text()
    for path in made.iterdir():
        assert f"({path.name})" in index or path.name == "README.md"
    assert "Read [main_synthetic.md](main_synthetic.md) first" in index
    assert "(learning_curves.png)" in index


def test_the_index_puts_first_what_was_run():
    text = index_of([record("full", profile="offline", dataset="twitter2017")])
    assert "Read [main_twitter2017.md](main_twitter2017.md) first" in text


def test_the_same_records_give_the_same_bytes_in_any_order(made: Path, tmp_path: Path):
    records = [*suite(), *suite("offline", "twitter2015", top=0.58)]
    for path in write_tables(records[::-1], tmp_path):
        assert path.read_bytes() == (made / path.name).read_bytes()


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "main_synthetic.md"
    target.write_text("what was there before")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StoreError, match="main_synthetic"):
        write_table(tables([])["main_synthetic"], tmp_path)
    assert target.read_text() == "what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["main_synthetic.md"]


def test_markdown_cells_and_latex_specials_survive():
    frame = pd.DataFrame({"block": ["a & b"], "method": ["50% of x_1"], "n": ["1"], "note": ["wide"]})
    table = Table("t", "Title", ("Found.",), frame, ("Foot.",))
    assert "- 50% of x_1: wide" in as_markdown(table)
    latex = as_latex(table)
    assert "50\\% of x\\_1 & 1 \\\\" in latex
    assert "\\textit{a \\& b}" in latex
    assert "wide" not in latex
    assert next(csv.reader(io.StringIO(frame.to_csv(index=False)))) == ["block", "method", "n", "note"]
