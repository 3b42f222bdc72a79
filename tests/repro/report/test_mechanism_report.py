"""Tables and figures of the inner workings: sentences follow made-up records in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny_config, tiny_model
from made_up import TODAYS, evaluation, evidence_of, record, suite
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from PIL import Image

from clamp.config import SyntheticConfig
from clamp.data.collate import EncodedTweets
from clamp.evaluate import cells_of_regions, predict
from repro.evaluate.attention_maps import attention_maps, chosen
from repro.evaluate.redrawn_images import first_test_tweets
from repro.evidence.cells import blocks
from repro.evidence.evidence import Evidence
from repro.plan.variants import GROUPS, swept_name
from repro.report.claims import ledger
from repro.report.figures import training as record_figures
from repro.report.figures.attention_maps import mass_on, seen_colours, shown_tweets
from repro.report.figures.registry import FIGURES, captions, pictures, write_figures
from repro.report.index import coverage
from repro.report.table import Table
from repro.report.tables.mechanism.counterfactuals import counterfactual_table
from repro.report.tables.mechanism.interference import interference
from repro.report.tables.mechanism.noise_suppression import noise_suppression
from repro.report.tables.registry import make_tables
from repro.report.tables.results.sweep import differences, points, seeds_of_points, sweep, words_alone

Records = list[dict[str, Any]]
SPREAD = {0: 0.0, 1: 0.01, 2: -0.01}


def runs(*variants: str, seeds: int = 3) -> Records:
    return [record(variant, seed) for variant in variants for seed in range(seeds)]


def row_of(table: Table, **equal: str) -> dict[str, str]:
    frame = table.frame
    for name, value in equal.items():
        frame = frame[frame[name].str.contains(value, regex=False)]
    (row,) = frame.to_dict("records")
    return {str(name): value for name, value in row.items()}


# Counterfactuals


def tallied(records: Records, followed: dict[str, int]) -> Evidence:
    """Of 200 aspects as many follow as said, a few more with each seed; the others stay."""
    evaluations = [evaluation(r) for r in records]
    for e in evaluations:
        n = followed[e["variant"]] + 2 * e["seed"]
        found = e["evaluation"]["mechanism"]["counterfactuals"]
        found["own"] = {"n": 200, "followed": n, "unchanged": 200 - n}
        found["distractors"]["unchanged"] = 150
    return evidence_of(records, evaluations)


def test_counterfactual_rates_are_of_the_aspects_found_before():
    table = counterfactual_table(tallied(runs("full", "no_paf"), {"full": 180, "no_paf": 60}))
    row = row_of(table, system="CLAMP")
    assert (row["n"], row["aspects"]) == ("3", "600")
    assert row["own mouth: label follows"] == "91.0 ± 1.0"
    assert row["own mouth: label unchanged"] == "9.0 ± 1.0"
    assert row["distractors' mouths: unchanged"] == "75.0 ± 0.0"
    assert "CLAMP's label follows the redrawn mouth of 91.0 ± 1.0 %" in table.findings[0]
    assert "unchanged for 75.0 ± 0.0 % when all distractors' mouths are redrawn" in table.findings[0]


def test_who_follows_most_is_read_off_the_counts():
    right = counterfactual_table(tallied(runs("full", "no_paf"), {"full": 180, "no_paf": 60})).findings[1]
    swapped = counterfactual_table(tallied(runs("full", "no_paf"), {"full": 60, "no_paf": 180})).findings[1]
    assert "most often with CLAMP (91.0 %, 3 seeds) and least often with no progressive fusion" in right
    assert "most often with no progressive fusion" in swapped
    assert "least often with CLAMP (31.0 %, 3 seeds)" in swapped
    same = counterfactual_table(tallied(runs("full", "no_paf"), {"full": 60, "no_paf": 60}))
    assert len(same.findings) == 1


@pytest.mark.parametrize("of", [[], runs("full"), runs("text_only")])
def test_no_counterfactual_no_rate(of: Records):
    evaluations = [evaluation(r) for r in of if r["variant"] == "text_only"]
    table = counterfactual_table(evidence_of(of, evaluations))
    assert table.findings == ("CLAMP: not run.",)
    assert row_of(table)["own mouth: label follows"] == "not run"


def test_a_ranking_of_unequally_many_seeds_names_both_numbers():
    records = [*runs("full"), record("no_paf")]
    (*_, said) = counterfactual_table(tallied(records, {"full": 60, "no_paf": 180})).findings
    assert "most often with no progressive fusion (one plain cross-attention) (90.0 %, one seed)" in said
    assert "least often with CLAMP (31.0 %, 3 seeds)" in said
    evaluations = [evaluation(r) for r in records]
    for e in evaluations:
        e["evaluation"]["mechanism"]["calibration"]["right"] = [9 * (e["variant"] == "full") * k for k in range(15)]
        e["evaluation"]["mechanism"]["alignment"]["auc"] = 0.7
    evidence = evidence_of(records, evaluations)
    (said,) = FIGURES["calibration"].sentences(evidence)
    assert re.search(r"of 2 systems the lowest is [\d.]+ ± 0.0 % \(CLAMP, 3 seeds\), the highest", said)
    assert said.endswith("% (no PAF, one seed).")
    (said,) = FIGURES["alignment"].sentences(evidence)
    assert said.endswith("the highest is 0.70 (no progressive fusion (one plain cross-attention), one seed).")


# Visual noise


def in_noise(fall: dict[str, float], mass: dict[str, float], seeds: int = 3) -> Table:
    records = runs(*fall, seeds=seeds)
    for r in records:
        for split in ("dev", "test"):
            for stage in r["result"]["metrics"][split]["pointing"]["stages"]:
                stage["distractor_mass"] = mass[r["variant"]] + SPREAD[r["seed"]] / 10
    evaluations = [evaluation(r, distractors_8=fall[r["variant"]] + SPREAD[r["seed"]] / 5) for r in records]
    evidence = evidence_of(records, evaluations)
    return noise_suppression(evidence, ledger(evidence))


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
    nothing = noise_suppression(evidence_of([]), {})
    assert nothing.findings[0].endswith("8 distractors: not run; in attention, by what distractors receive: not run.")
    assert (nothing.frame["fall: noise sd 32 of 255"] == "not run").all()
    alone = in_noise({"full": 0.1}, {"full": 0.05})
    assert "No noise gate: not run." in alone.findings


def test_stages_that_seeds_do_not_share_have_no_course():
    records = runs("full")
    for split in ("dev", "test"):
        del records[0]["result"]["metrics"][split]["pointing"]["stages"][0]
        records[0]["result"]["metrics"][split]["pointing"]["best_stage"] = 0
    said = noise_suppression(evidence_of(records), {}).findings
    assert said[-1].startswith("CLAMP's seeds have unlike stages")
    assert "From stage to stage" in noise_suppression(evidence_of(records[1:]), {}).findings[-1]


def test_n_in_noise_is_of_what_was_evaluated():
    records = runs("full", "no_paf")
    evaluations = [evaluation(r) for r in records if r["seed"] or r["variant"] == "no_paf"]
    table = noise_suppression(evidence_of(records, evaluations), {})
    row = row_of(table, system="CLAMP")
    assert (row["n"], row["fall: noise sd 64 of 255"]) == ("2", "10.0 ± 0.0")
    assert row["attention on distractors: first stage"].endswith(" (3 seeds)")
    other = row_of(table, system="no progressive")
    assert (other["n"], "seeds" in other["attention on distractors: first stage"]) == ("3", False)


# Gradient interference


def pulled(negative: dict[str, int], seeds: int = 3) -> Records:
    """Of twenty cosines of one pair as many are negative as said, and one more or less with some seeds."""
    records = runs(*negative, seeds=seeds)
    for r in records:
        n = negative[r["variant"]] + round(100 * SPREAD[r["seed"]])
        course = {"tagging~aspect": [-0.5] * n + [0.25] * (20 - n), "tagging~global": [None, 0.1] * 10}
        r["result"]["interference"] = {"step": list(range(1, 21)), "cosine": course}
    return records


def said_of(records: Records) -> str:
    evidence = evidence_of(records)
    return interference(evidence, ledger(evidence)).findings[0]


def test_the_answer_on_interference_follows_the_cosines():
    evidence = evidence_of(pulled({"full": 2, "no_ama": 15, "fixed_weights": 6}))
    table = interference(evidence, ledger(evidence))
    row = row_of(table, block="synthetic", system="CLAMP")
    # two, three and one of the thirty that were sampled
    assert (row["negative cosines"], row["negative: tagging~aspect"]) == ("6.7 ± 3.3", "10.0 ± 5.0")
    assert row["negative: tagging~global"] == "0.0 ± 0.0"
    # 1/2 to 1/12, the first epoch's 1 left out
    assert row["sd of tagging loss"] == "0.191 ± 0.000"
    assert [row[f"sd of {task} loss"] for task in ("aspect", "global", "local")] == [
        "0.096 ± 0.000",
        "0.250 ± 0.000",
        "0.125 ± 0.000",
    ]
    assert row["relative sd of gradient norm"] == "0.096 ± 0.000"  # half the loss's, for the norm's mean is 2
    assert (
        "From the second epoch on the standard deviations within an epoch are: of the tagging loss 0.191 (AMA), "
        "0.191 (equal weights), 0.191 (fixed weights); of the aspect loss 0.096 (AMA)" in table.findings[0]
    )
    assert "AMA's change within an epoch, and their trend is in it too" in table.footer[0]
    assert "reduce gradient interference? Yes. Negative are 6.7 ± 3.3 % with AMA" in table.findings[0]
    assert "Equal weights minus AMA: +43.3 (95 % interval" in table.findings[0]
    assert "Fixed weights minus AMA: +13.3" in table.findings[0]
    assert "interference? No, the other way round." in said_of(pulled({"full": 15, "no_ama": 2}))
    assert "interference? Not shown either way." in said_of(pulled({"full": 5, "no_ama": 5}))
    assert "interference? Undecided, of 2 seeds." in said_of(pulled({"full": 2, "no_ama": 15}, seeds=2))


def test_the_order_of_a_records_pairs_moves_nothing():
    """It came from a set, so that another process has another one."""

    def table(records: Records, pairs: list[str]) -> Table:
        for r in records:
            course = {pair: [0.5 - len(pair) % 3, -0.2] for pair in pairs}
            r["result"]["interference"] = {"step": [1, 2], "cosine": course}
        evidence = evidence_of(records)
        return interference(evidence, ledger(evidence))

    pairs = ["tagging~aspect", "tagging~global", "tagging~local", "aspect~global", "aspect~local", "global~local"]
    expected = table(runs("full", "no_ama"), pairs)
    assert [c for c in expected.frame.columns if c.startswith("negative: ")] == [f"negative: {p}" for p in pairs]
    shuffled = table(runs("full", "no_ama"), [pairs[k] for k in (4, 1, 5, 0, 3, 2)])
    assert shuffled.frame.equals(expected.frame)
    turned = runs("full", "no_ama")
    table(turned, pairs)
    for r in turned[::2]:
        kept = r["result"]["interference"]["cosine"]
        r["result"]["interference"]["cosine"] = {"~".join(p.split("~")[::-1]): kept[p] for p in reversed(kept)}
    evidence = evidence_of(turned)
    assert interference(evidence, ledger(evidence)).frame.equals(expected.frame)


def test_runs_without_cosines_stand_beside_those_with_them():
    records = pulled({"full": 2, "no_ama": 15})
    del records[0]["result"]["interference"]
    figure = drawn("interference", evidence_of(records))
    shown = row_of(interference(evidence_of(records), {}), block="synthetic", system="CLAMP")
    assert (shown["n"], shown["negative: tagging~global"]) == ("3", "0.0 ± 0.0 (2 seeds)")
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    assert list(lines["AMA"].get_xdata()) == list(lines["equal weights"].get_xdata()) == list(range(1, 21))


def test_runs_that_kept_no_cosines_claim_nothing():
    records = runs("full", "no_ama")
    for r in records:
        del r["result"]["interference"]
        for epoch in r["result"]["curve"]:
            del epoch["loss_sd"], epoch["gradient_norm"]
    assert said_of(records).endswith("interference? Not recorded.")
    assert said_of([]).endswith("interference? Not run.")
    assert (
        row_of(interference(evidence_of(records), {}), block="synthetic", system="CLAMP")["mean cosine"]
        == "not recorded"
    )


# The sweep


def swept(f1: Callable[[str, float], float], seeds: int = 1) -> Records:
    """Distractors alone, with default runs of three seeds."""
    records = [
        record(swept_name(system, "distractors", value), seed, f1=0.9)
        for system in ("full", "no_paf")
        for value in (0, 8)
        for seed in range(seeds)
    ] + runs("full", "no_paf")
    for r in records:
        system = "no_paf" if r["variant"].startswith("no_paf") else "full"
        value = r["config"]["data"]["synthetic"]["distractors"]
        scores = r["result"]["metrics"]["test"]["joint"]
        r["result"]["metrics"]["test"]["joint"] = scores | {"f1": f1(system, value) + SPREAD[r["seed"]]}
    return records


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
    assert blocks(with_sweep).keys() == blocks(usual).keys()
    assert all(blocks(with_sweep)[place].keys() == block.keys() for place, block in blocks(usual).items())
    assert record_figures.planned_figures(with_sweep) == record_figures.planned_figures(usual)
    runs_of = [coverage(evidence_of(records)).runs[0] for records in (usual, with_sweep)]
    assert int(runs_of[1]) == int(runs_of[0]) + len(GROUPS["sweep"])
    only = evidence_of([record(name) for name in GROUPS["sweep"]])
    assert only.grouped == {}
    assert len(only.swept) == len(GROUPS["sweep"])


# Figures


@pytest.fixture(scope="module")
def everything() -> Evidence:
    """Records and evaluations that suffice for every figure, the maps by an untrained model."""
    records = [*pulled({"full": 2, "no_ama": 15, "fixed_weights": 6}), *swept(lambda *_: 0.8)[:4], record("text_only")]
    evaluations = [evaluation(r) for r in records]
    tweets = first_test_tweets(SyntheticConfig(), 25)
    model = tiny_model(tiny_config().model)
    spans = predict(model, EncodedTweets(tweets, model.tokenizer, model.config)).spans
    maps = attention_maps(model, tweets, spans, chosen(tweets, spans) | {24: None})
    evaluations[0]["evaluation"]["mechanism"]["attention"] = maps
    return evidence_of(records, evaluations)


def drawn(name: str, evidence: Evidence) -> Figure:
    figure = FIGURES[name].draw(evidence)
    figure.draw_without_rendering()
    return figure


def test_no_record_no_figure(tmp_path: Path):
    assert captions(evidence_of([])) == {}
    assert write_figures(evidence_of([record("full")]), tmp_path) == []
    one_weighting = captions(evidence_of([record("full")], [evaluation(record("full"))]))
    assert list(one_weighting) == ["alignment", "calibration"]


def test_every_figure_is_drawn_and_nothing_touches_its_edge(everything: Evidence, tmp_path: Path):
    paths = write_figures(everything, tmp_path)
    assert [path.stem for path in paths if path.suffix == ".png"] == list(FIGURES)
    with rc_context(record_figures.STYLE):
        again = record_figures.save(FIGURES["attention_maps"].draw(everything), tmp_path / "again", "attention_maps")
    for path in again:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    for path in paths:
        if path.suffix == ".png":
            pixels = np.asarray(Image.open(path).convert("L"))
            edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert (edges == 255).all(), path.name
    for picture in pictures(everything):
        assert picture.sentences


def test_alignment_shows_the_pooled_histograms_and_the_auc(everything: Evidence):
    axis = drawn("alignment", everything).axes[0]
    assert axis.get_xlabel() == "cosine of words and image,\nor the words that stand for it"
    assert "AUC 0.90 ± 0.00" in [text.get_text() for text in axis.texts]
    (said,) = FIGURES["alignment"].sentences(everything)
    assert "CLAMP's mean cosine is 0.60 ± 0.00 for matched and 0.02 ± 0.00 for mismatched pairs" in said


def test_calibration_names_the_error_of_the_bins(everything: Evidence):
    axis = drawn("calibration", everything).axes[0]
    counts = 10 * np.arange(15)
    expected = 100 * np.abs(8 * np.arange(15) - counts * (np.arange(15) + 0.5) / 15).sum() / counts.sum()
    assert f"CLAMP: ECE {expected:.1f} ± 0.0" in [text.get_text() for text in axis.get_legend().get_texts()]
    curve = next(line for line in axis.lines if line.get_color() == record_figures.BLACK)
    np.testing.assert_allclose(curve.get_xdata(), 100 * (np.arange(1, 15) + 0.5) / 15)  # the first bin is empty
    np.testing.assert_allclose(curve.get_ydata(), 80)


def test_curves_of_interference_are_the_records(everything: Evidence):
    figure = drawn("interference", everything)
    by_step = figure.axes[1]
    lines = {line.get_label(): line for line in by_step.lines}
    # the first step: tagging~aspect alone was sampled, and was negative with all seeds
    assert lines["AMA"].get_ydata()[0] == pytest.approx(-0.5)
    assert lines["equal weights"].get_ydata()[-1] == pytest.approx((0.25 + 0.1) / 2)
    assert len(figure.axes) == 4
    assert by_step.get_title(loc="left") == "seeds: AMA 3, equal weights 3, fixed weights 3"
    assert [handle.get_marker() for handle in figure.legends[0].legend_handles] == ["o", "s", "^"]
    (said,) = FIGURES["interference"].sentences(everything)
    assert (
        "with AMA tagging and aspect (10.0 %, 3 seeds); with equal weights tagging and aspect (75.0 %, 3 seeds)" in said
    )


def test_a_mean_over_one_seed_has_a_hollow_marker():
    records = [r for r in pulled({"full": 2, "no_ama": 15}) if r["variant"] == "full" or r["seed"] == 0]
    dots, by_step, *_ = drawn("interference", evidence_of(records)).axes
    faces = {line.get_marker(): line.get_markerfacecolor() for line in dots.lines if line.get_marker() != "None"}
    assert faces == {"o": record_figures.BLACK, "s": "white"}
    assert by_step.get_title(loc="left") == "seeds: AMA 3, equal weights 1"


def test_captions_say_what_panels_cannot(everything: Evidence):
    said = captions(everything)
    assert (
        "markers for the mean over seeds and lines for their range, hollow markers for one seed" in said["interference"]
    )
    assert "offline there is no image but the words that stand for it" in said["alignment"]
    assert "F1 to expect of words alone" in said["sweep"]
    assert "luck can exceed it" in said["sweep"]
    above = drawn("sweep", everything).axes[0]
    assert above.get_title(loc="left") == "Generated tweets, one seed a point"
    expected = next(line for line in above.lines if line.get_label() == "expected of words alone")
    np.testing.assert_allclose(expected.get_ydata(), 200 / 3)


def test_the_highest_of_the_weightings_is_within_the_panel():
    records = pulled({"full": 2, "no_ama": 15})
    for r in records:
        for epoch in r["result"]["curve"]:
            epoch["loss_sd"]["tagging"] *= 5 if r["variant"] == "no_ama" else 1
    of_loss = drawn("interference", evidence_of(records)).axes[2]
    highest = max(max(line.get_ydata()) for line in of_loss.lines)
    assert of_loss.get_ylim()[0] == 0
    assert of_loss.get_ylim()[1] > highest == pytest.approx(5.0)


def test_maps_are_of_the_tweets_that_the_generator_makes(everything: Evidence):
    shown = shown_tweets(everything)
    assert len(shown) >= 3
    for tweet, one in shown:
        assert list(tweet.words) == one["words"]
    texts = " ".join(t.get_text() for t in drawn("attention_maps", everything).texts)
    for _, one in shown:
        for aspect in one["aspects"]:
            assert f"gold {aspect['gold']}" in texts
            assert f"predicted {aspect['predicted'] or 'not found'}" in texts
    one["words"][0] = "another"
    assert shown_tweets(everything) == []  # never another tweet's image under these maps
    one["words"][0] = tweet.words[0]


def test_the_bar_of_maps_has_the_colours_that_they_have_over_grey(everything: Evidence):
    tweets = [tweet for tweet, _ in shown_tweets(everything)]
    grey = np.mean([tweet.image for tweet in tweets]) / 255
    for at, pure in ((0.0, colormaps["inferno"](0.0)), (1.0, colormaps["inferno"](1.0))):
        np.testing.assert_allclose(seen_colours(tweets)(at)[:3], 0.72 * np.array(pure[:3]) + 0.28 * grey)
    assert "of which the image tells one or more" in FIGURES["attention_maps"].caption


def test_mass_on_cells_counts_regions_by_how_much_of_them_lies_there():
    rng = np.random.default_rng(0)
    for level, grid, patches in (("patch", (8, 8), (8, 8)), ("pooled", (4, 4), (8, 8)), ("patch", (2, 2), (2, 2))):
        map_R = rng.dirichlet(np.ones(grid[0] * grid[1]))
        stage = {"grid": list(grid), "maps": [map_R.tolist()]}
        covered = cells_of_regions(level, patches, 4)
        expected = sum(m * len(cells & {5, 6}) / len(cells) for m, cells in zip(map_R, covered, strict=True))
        assert mass_on(stage, 0, [5, 6], {"cells": 4}) == pytest.approx(expected)


def test_a_panel_of_other_sources_carries_a_dagger():
    records = pulled({"full": 2, "no_ama": 15})
    records[0]["provenance"]["source_hash"] = "f" * 16
    assert "f" * 16 not in TODAYS
    evidence = evidence_of(records, [evaluation(r) for r in records])
    for name in ("interference", "alignment", "calibration"):
        axis = drawn(name, evidence).axes[0]
        assert (axis.get_title(loc="left") or axis.get_title()) == "Generated tweets†"
