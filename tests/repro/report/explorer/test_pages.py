"""The attention explorer's page: what it holds, that it holds the same again, and that words stay words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
from explorer_pages import CHOSEN, HOSTILE, KEPT, Page, generated, made_up_evidence, pixels
from made_up import evidence_of, record

import repro
from repro.report.explorer.pages import explorer, view
from repro.report.figures.attention_maps import mapped_tweets
from repro.report.page import as_html
from repro.report.templates import render

SOURCES = Path(repro.__file__).parent


def report(name: str) -> str:
    return as_html(made_up_evidence(name), [], [], Path())


def test_the_same_records_give_the_same_bytes() -> None:
    assert report("rich") == report("rich")


def test_it_holds_the_tweets_their_images_and_their_maps() -> None:
    page = Page(report("rich"))
    pairs = mapped_tweets(made_up_evidence("rich"))
    tweets = page.data["tweets"]
    assert len(tweets) == len(pairs) == KEPT + 1
    for shown, (tweet, one) in zip(tweets, pairs, strict=True):
        assert shown["words"] == list(tweet.words)
        assert (shown["distractors"], shown["cells"]) == (list(tweet.distractors), 4)
        np.testing.assert_array_equal(pixels(shown["image"]), tweet.image)
        assert [(a["start"], a["end"], a["cell"]) for a in shown["aspects"]] == [
            (a.start, a.end, a.region) for a in tweet.aspects
        ]
        for k, (drawn, stage) in enumerate(zip(shown["stages"], one["stages"], strict=True)):
            assert drawn["title"] == f"Stage {k + 1}"
            assert (drawn["rows"], drawn["columns"]) == tuple(stage["grid"])
            assert drawn["gate"] == stage["gate"]
            for row, map_R in enumerate(stage["maps"]):
                levels_R = np.frombuffer(bytes.fromhex(drawn["heat"][row]), np.uint8)
                np.testing.assert_allclose(levels_R / 255, np.array(map_R) / max(map_R), atol=0.5 / 255 + 1e-9)
                assert drawn["peak"][row] == int(np.argmax(map_R))
                assert f"Highest: {100 * max(map_R):.0f}\N{NO-BREAK SPACE}% at" in drawn["says"][row]


def test_shares_of_cells_are_said_of_the_right_stage_and_aspect() -> None:
    tweet, one = mapped_tweets(made_up_evidence("rich"))[0]
    for stage in one["stages"]:
        rows, columns = stage["grid"]
        on_cell_RC = np.zeros((rows, columns))
        down, across = (rows // 4, columns // 4)
        row, column = divmod(tweet.aspects[0].region or 0, 4)
        on_cell_RC[row * down : (row + 1) * down, column * across : (column + 1) * across] = 1.0
        stage["maps"][0] = (
            0.7 * on_cell_RC / on_cell_RC.sum() + 0.3 * (1 - on_cell_RC) / (1 - on_cell_RC).sum()
        ).ravel()
    shown = view(tweet, one, "made up", {"CLAMP": None}, is_annotated=True)
    others = 100 * 0.3 * len(tweet.distractors) / 15
    for stage in shown["stages"]:
        assert stage["says"][0].endswith(
            f"On its own cell 70\N{NO-BREAK SPACE}%, on distractors {others:.0f}\N{NO-BREAK SPACE}%."
        )


def test_labels_stand_beside_gold_and_are_judged() -> None:
    page = Page(report("rich"))
    assert page.data["columns"] == ["told by", "gold", "CLAMP", "text only"]
    named = {"POS": "positive", "NEU": "neutral", "NEG": "negative"}
    indices = [*CHOSEN, *(k for k in range(KEPT) if k not in CHOSEN)]
    for shown, index in zip(page.data["tweets"], indices, strict=True):
        for k, (aspect, gold) in enumerate(zip(shown["aspects"], generated()[index].aspects, strict=True)):
            polarity = named[gold.polarity]
            clamp = {0: f"{polarity}, right", 1: "not found"}.get(
                k, "neutral, right" if gold.polarity == "NEU" else "neutral, wrong"
            )
            text_only = f"{polarity}, right" if index < KEPT else "not kept"
            assert aspect["labels"] == [gold.told_by, polarity, clamp, text_only]
        if index < KEPT:
            assert [line.split(" also")[0] for line in shown["also"]] == ["Text only"]
            assert f"“{shown['words'][-1]}” (negative), which is no annotated aspect." in shown["also"][0]
            number = len(shown["aspects"])
            assert shown["summary"].endswith(f"text only {number} right")
        else:
            assert shown["also"] == []
            assert "text only" not in shown["summary"]


def test_old_records_show_the_chosen_tweets_and_say_what_was_not_kept() -> None:
    page = Page(report("old"))
    tweets = page.data["tweets"]
    assert [tweet["name"] for tweet in tweets] == [f"Test tweet {k + 1}, {why}" for k, why in CHOSEN.items()]
    assert {aspect["labels"][-1] for tweet in tweets for aspect in tweet["aspects"]} == {"not kept"}
    assert not any("text only" in tweet["summary"] for tweet in tweets)


def test_spans_of_other_tweets_are_not_shown() -> None:
    evidence = made_up_evidence("rich")
    (of,) = [
        r
        for cell in evidence.block(("synthetic", "synthetic")).values()
        for r in cell.records
        if cell.variant != "full"
    ]
    of.config["data"]["synthetic"]["noise"] = 8.0
    labels = [a["labels"][-1] for t in Page(as_html(evidence, [], [], Path())).data["tweets"] for a in t["aspects"]]
    assert set(labels) == {"not kept"}


def test_no_maps_no_explorer() -> None:
    for evidence in (evidence_of([]), evidence_of([record("full")])):
        text = as_html(evidence, [], [], Path())
        assert "<script" not in text
        assert "explorer" not in text


def test_the_still_view_is_the_first_aspect_of_the_first_tweet() -> None:
    text = report("rich")
    page = Page(text)
    first = page.data["tweets"][0]
    heats = [a["src"] for _, a in page.of("img") if a.get("class") == "heat"]
    assert len(heats) == len(first["stages"]) == 3
    palette = np.frombuffer(bytes.fromhex(page.data["colours"]), np.uint8).reshape(256, 3)
    for uri, stage in zip(heats, first["stages"], strict=True):
        levels_RC = np.frombuffer(bytes.fromhex(stage["heat"][0]), np.uint8).reshape(stage["rows"], stage["columns"])
        np.testing.assert_array_equal(pixels(uri), palette[levels_RC])
    assert first["name"] in page.text
    assert text.index('href="#explorer"') < text.index('id="explorer"')


def test_colours_only_grow_lighter() -> None:
    palette = np.frombuffer(bytes.fromhex(Page(report("old")).data["colours"]), np.uint8).reshape(256, 3)
    luminance = (palette / 255) ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -1e-3).all()
    assert luminance[-1] - luminance[0] > 0.8


def test_the_page_loads_nothing_and_runs_one_script() -> None:
    page = Page(report("rich"))
    assert page.loads() == []
    script, data = sorted(page.scripts, key=lambda text: text.lstrip().startswith("{"))
    assert len(page.scripts) == 2
    assert script.strip() == (SOURCES / "report" / "explorer" / "explorer.js").read_text().strip()
    assert "</" not in script + data
    assert not re.search(r"fetch|XMLHttp|import|WebSocket|innerHTML|eval|document\.write|storage|https?:", script, re.I)
    css = (SOURCES / "report" / "explorer" / "explorer.css").read_text()
    assert css.strip() in report("rich")
    assert not re.search(r"url\(|@import", css)


def test_ids_are_unique_and_what_they_name_is_there() -> None:
    page = Page(report("rich"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    named = [value for _, a in page.tags for key, value in a.items() if key in ("aria-labelledby", "aria-describedby")]
    assert set(named) <= set(ids)
    assert {a["href"] for _, a in page.of("a")} <= {f"#{value}" for value in ids}


def test_hostile_words_stay_words() -> None:
    tweet, one = mapped_tweets(made_up_evidence("rich"))[0]
    one["words"] = [HOSTILE] * len(one["words"])
    one["aspects"] = [{**aspect, "end": aspect["start"] + 1} for aspect in one["aspects"]]
    shown = view(tweet, one, HOSTILE, {"CLAMP": [[len(tweet.words) - 1, len(tweet.words), "NEG"]]}, is_annotated=True)
    text = render(
        "explore.html.jinja",
        title=HOSTILE,
        introduction=HOSTILE,
        explorer=explorer([shown], ["told by", HOSTILE, "CLAMP"]),
    )
    page = Page(text)
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert {a.get("src", "")[:11] for _, a in page.of("img")} == {"data:image/"}
    assert len(page.scripts) == 2
    assert page.data["tweets"][0]["words"][0] == page.data["tweets"][0]["name"] == HOSTILE
    assert "<!--" not in text
    # title, heading, introduction, the tweet's name, a column's, its words and those of its aspects in the table
    assert page.text.count(HOSTILE) == 5 + len(tweet.words) + len(tweet.aspects)


def test_everything_beside_the_code_is_packaged() -> None:
    patterns = tomllib.loads((SOURCES.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    beside = {f for f in SOURCES.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    of_any_package = [f"**/{pattern}" for pattern in patterns["*"]]
    packaged = {f for pattern in [*patterns["repro"], *of_any_package] for f in SOURCES.glob(pattern) if f.is_file()}
    assert beside == {f for f in packaged if f.suffix != ".py"}
