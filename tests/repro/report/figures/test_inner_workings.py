"""Figures of the inner workings show what the records and evaluations have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import tiny_config, tiny_model
from drawing import BY_NAME, assert_whole, drawn, names_of
from made_up import TODAYS, evaluation, evidence_of, record
from made_up_mechanisms import pulled, swept
from matplotlib import colormaps

from clamp.config import SyntheticConfig
from clamp.data.collate import EncodedTweets
from clamp.evaluate import cells_of_regions, predict
from repro.evaluate.attention_maps import attention_maps, chosen
from repro.evaluate.redrawn_images import first_test_tweets
from repro.evidence.cells import GENERATED
from repro.evidence.evidence import Evidence
from repro.report.figures.attention_maps import mass_on, seen_colours, shown_tweets
from repro.report.figures.figure import write_figure
from repro.report.figures.style import BLACK, COLUMN


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


INNER = ("attention_maps", "alignment", "calibration", "interference", "sweep")


def test_nothing_measured_no_figure():
    assert names_of(evidence_of([])) == []
    assert not {*INNER, "sweep"} & set(names_of(evidence_of([record("full")])))
    one_weighting = names_of(evidence_of([record("full")], [evaluation(record("full"))]))
    assert [name for name in one_weighting if name in INNER] == ["alignment", "calibration"]


def test_every_figure_is_drawn_and_nothing_touches_its_edge(everything: Evidence, tmp_path: Path):
    paths = [path for name in INNER for path in write_figure(BY_NAME[name], everything, tmp_path)]
    for path in write_figure(BY_NAME["attention_maps"], everything, tmp_path / "again"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    for path in paths:
        if path.suffix == ".png":
            assert_whole(path, tuple(round(columns * COLUMN * 200) for columns in (1, 1.6, 2)))
    for name in INNER:
        assert BY_NAME[name].sentences(everything)


def test_alignment_shows_the_pooled_histograms_and_the_auc(everything: Evidence):
    axis = drawn("alignment", everything).axes[0]
    assert axis.get_xlabel() == "cosine of words and image,\nor the words that stand for it"
    assert "AUC 0.90 ± 0.00" in [text.get_text() for text in axis.texts]
    (said,) = BY_NAME["alignment"].sentences(everything)
    assert "CLAMP's mean cosine is 0.60 ± 0.00 for matched and 0.02 ± 0.00 for mismatched pairs" in said


def test_calibration_names_the_error_of_the_bins(everything: Evidence):
    axis = drawn("calibration", everything).axes[0]
    counts = 10 * np.arange(15)
    expected = 100 * np.abs(8 * np.arange(15) - counts * (np.arange(15) + 0.5) / 15).sum() / counts.sum()
    assert f"CLAMP: ECE {expected:.1f} ± 0.0" in [text.get_text() for text in axis.get_legend().get_texts()]
    curve = next(line for line in axis.lines if line.get_color() == BLACK)
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
    (said,) = BY_NAME["interference"].sentences(everything)
    assert (
        "with AMA tagging and aspect (10.0 %, 3 seeds); with equal weights tagging and aspect (75.0 %, 3 seeds)" in said
    )


def test_a_mean_over_one_seed_has_a_hollow_marker():
    records = [r for r in pulled({"full": 2, "no_ama": 15}) if r["variant"] == "full" or r["seed"] == 0]
    dots, by_step, *_ = drawn("interference", evidence_of(records)).axes
    faces = {line.get_marker(): line.get_markerfacecolor() for line in dots.lines if line.get_marker() != "None"}
    assert faces == {"o": BLACK, "s": "white"}
    assert by_step.get_title(loc="left") == "seeds: AMA 3, equal weights 1"


def test_captions_say_what_panels_cannot(everything: Evidence):
    said = {name: figure.caption for name, figure in BY_NAME.items()}
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
    (of_clamp, *_) = everything.block(GENERATED)["full"].evaluations
    assert of_clamp.evaluation.mechanism is not None
    (kept, *_) = of_clamp.evaluation.mechanism.attention or ()
    kept.words[0], was = "another", kept.words[0]
    assert shown_tweets(everything) == []  # never another tweet's image under these maps
    kept.words[0] = was


def test_the_bar_of_maps_has_the_colours_that_they_have_over_grey(everything: Evidence):
    tweets = [tweet for tweet, _ in shown_tweets(everything)]
    grey = np.mean([tweet.image for tweet in tweets]) / 255
    for at, pure in ((0.0, colormaps["inferno"](0.0)), (1.0, colormaps["inferno"](1.0))):
        np.testing.assert_allclose(seen_colours(tweets)(at)[:3], 0.72 * np.array(pure[:3]) + 0.28 * grey)
    assert "of which the image tells one or more" in BY_NAME["attention_maps"].caption


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
