"""The attention explorer's page: what it holds, that it holds the same again, and that words stay words."""

from __future__ import annotations

import base64
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny_config, tiny_model
from explorer_pages import CHOSEN, HOSTILE, KEPT, Page, generated, made_up_evidence, save_models, write_own
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import evidence_of, record
from PIL import Image

import repro
from clamp.baselines import TextOnly
from clamp.config import ConfigError
from clamp.data import DataError
from clamp.data.collate import EncodedTweets
from clamp.evaluate import predict
from clamp.model import Clamp
from repro.__main__ import main
from repro.report.explorer.own_tweets import MOST, own_page, read_tweets
from repro.report.explorer.pages import explorer, view
from repro.report.figures.attention_maps import mapped_tweets
from repro.report.page import as_html
from repro.report.templates import render

SOURCES = Path(repro.__file__).parent


def report(name: str) -> str:
    return as_html(made_up_evidence(name), [], [], Path())


def pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


# In the report


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
    of["config"]["data"]["synthetic"]["noise"] = 8.0
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


# The page as such


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
    packaged = {f for pattern in patterns["repro"] for f in SOURCES.glob(pattern) if f.is_file()}
    assert beside == {f for f in packaged if f.suffix != ".py"}


# Of one's own tweets


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


def test_own_tweets_show_what_the_models_predict(models: tuple[Path, Path], tmp_path: Path) -> None:
    file = write_own(tmp_path, 19)  # more than a batch
    text = own_page(models[0], file, tmp_path / "images", models[1])
    assert text == own_page(models[0], file, tmp_path / "images", models[1])
    page = Page(text)
    assert page.loads() == []
    assert page.data["columns"] == ["CLAMP", "text only"]
    assert ("title", {}) in page.tags
    assert "Where CLAMP looks: own.jsonl" in page.text
    assert "predictions" in page.text
    assert not {"gold", "told", "distractors", "own"} & set(re.findall(r"\w+", page.text.replace(file.name, "")))
    tweets = read_tweets(file, tmp_path / "images")
    clamp, text_only = Clamp.from_pretrained(models[0]), TextOnly.from_pretrained(models[1])
    spans, other = (predict(m, EncodedTweets(tweets, m.tokenizer, m.config)).spans for m in (clamp, text_only))
    assert sum(map(len, spans)) > 19
    named = {"POS": "positive", "NEU": "neutral", "NEG": "negative"}
    for shown, tweet, found, beside in zip(page.data["tweets"], tweets, spans, other, strict=True):
        assert shown["words"] == list(tweet.words)
        assert HOSTILE in shown["words"]
        assert pixels(shown["image"]).shape == (64, 64, 3)
        assert [(a["start"], a["end"]) for a in shown["aspects"]] == [span[:2] for span in found]
        labels = {(start, end): named[polarity] for start, end, polarity in beside}
        for aspect, span in zip(shown["aspects"], found, strict=True):
            assert aspect["cell"] is None
            assert aspect["labels"] == [named[span[2]], labels.get(span[:2], "not found")]
        assert len(shown["also"]) == len(set(labels) - {span[:2] for span in found})
        assert all("cell" not in says for stage in shown["stages"] for says in stage["says"])


def test_text_only_may_be_left_out(models: tuple[Path, Path], tmp_path: Path) -> None:
    page = Page(own_page(models[0], write_own(tmp_path, 2), tmp_path / "images", None))
    assert page.data["columns"] == ["CLAMP"]
    assert not [a for _, a in page.of("input") if a["type"] == "checkbox"]  # nothing is known of distractors


def test_tweets_without_an_aspect_are_shown_too(tmp_path: Path) -> None:
    model = tiny_model(tiny_config().model)
    model.tag_head.bias.data[0] = 100.0
    model.save_pretrained(tmp_path / "model")
    page = Page(own_page(tmp_path / "model", write_own(tmp_path, 3), tmp_path / "images", None))
    assert [tweet["aspects"] for tweet in page.data["tweets"]] == [[], [], []]
    assert {tweet["summary"] for tweet in page.data["tweets"]} == {"no aspects"}


def test_large_images_are_kept_as_photographs(tmp_path: Path) -> None:
    tiny_model(tiny_config(model__vision__image_size=128).model).save_pretrained(tmp_path / "model")
    page = Page(own_page(tmp_path / "model", write_own(tmp_path, 1), tmp_path / "images", None))
    (shown,) = page.data["tweets"]
    assert shown["image"].startswith("data:image/jpeg;base64,")
    assert pixels(shown["image"]).shape == (128, 128, 3)


GOOD = {"text": "a b", "image": "0.png"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "line 2: Invalid JSON"),
        (b"[]", "line 2: "),
        ({"image": "0.png"}, "line 2: neither text nor words"),
        ({"text": " ", "image": "0.png"}, "line 2: no words"),
        ({"text": "a"}, "line 2: it names no image"),
        (GOOD | {"image": ""}, "line 2: it names no image"),
        (GOOD | {"image": "../own.jsonl"}, "line 2: image '../own.jsonl' is not the name of a file within the images'"),
        (GOOD | {"image": "none.png"}, "line 2: there is no image 'none.png' in images"),
        (GOOD | {"image": "x" * 5000}, "line 2: there is no image"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(line: bytes | dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_own(tmp_path, 1)
    content = line if isinstance(line, bytes) else json.dumps(line).encode()
    (tmp_path / "bad.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n" + content)
    with pytest.raises(DataError) as raised:
        read_tweets(Path("bad.jsonl"), Path("images"))
    assert str(raised.value).startswith(f"bad.jsonl: {reason}")
    assert "\n" not in str(raised.value)


def test_text_is_split_as_for_a_prediction(tmp_path: Path) -> None:
    write_own(tmp_path, 1)
    (tmp_path / "typed.csv").write_text("text,image\nSo proud of #Ada!,0.png\n")
    (tweet,) = read_tweets(tmp_path / "typed.csv", tmp_path / "images")
    assert tweet.words == ("So", "proud", "of", "#", "Ada", "!")


VALUES = st.none() | st.integers() | st.text(max_size=6) | st.lists(st.text(max_size=6) | st.none(), max_size=3)
RECORDS = st.fixed_dictionaries({"image": st.just("0.png") | VALUES}, optional={"words": VALUES, "text": VALUES})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | RECORDS.map(lambda record: json.dumps(record).encode()))
def test_whatever_a_file_holds_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    (tmp_path / "any.jsonl").write_bytes(content)
    refused = ""
    try:
        for tweet in read_tweets(tmp_path / "any.jsonl", tmp_path):
            assert tweet.words
            assert tweet.image == tmp_path / "0.png"
    except DataError as error:
        refused = str(error)
    assert len(refused.splitlines()) < 2


def test_a_page_holds_two_hundred_tweets_and_no_more(tmp_path: Path) -> None:
    write_own(tmp_path, 1)
    file = tmp_path / "many.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n\n" * MOST)
    assert len(read_tweets(file, tmp_path / "images")) == MOST == 200
    file.write_text(f"{json.dumps(GOOD)}\n" * (MOST + 1))
    with pytest.raises(
        DataError, match=r"many\.jsonl: more than 200 tweets, the most that a page holds; split the file"
    ):
        read_tweets(file, tmp_path / "images")
    file.write_text("\n")
    with pytest.raises(DataError, match="there is no tweet in it"):
        read_tweets(file, tmp_path / "images")


def test_a_model_of_descriptions_has_no_regions(tmp_path: Path) -> None:
    tiny_model(tiny_config(model__vision__kind="proxy").model).save_pretrained(tmp_path / "proxy")
    with pytest.raises(ConfigError, match="reads descriptions in place of images"):
        own_page(tmp_path / "proxy", write_own(tmp_path, 1), tmp_path / "images", None)


def test_explore_on_the_command_line(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_own(tmp_path, 2)
    given = ["explore", "--model", str(models[0]), str(file), "--images", str(tmp_path / "images")]
    assert main([*given, "--text-only", str(models[1]), "--out", "pages/own.html"]) == 0
    assert capsys.readouterr().out.startswith("pages/own.html: open it in a browser")
    assert Path("pages/own.html").read_text() == own_page(models[0], file, tmp_path / "images", models[1])
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    wrong = [
        ([*given[:2], "nowhere", *given[3:]], "nowhere: no config.json"),
        ([*given[:2], str(models[1]), *given[3:]], "the weights do not fit a Clamp"),
        ([*given[:3], "none.jsonl", *given[4:]], "none.jsonl: No such file"),
        (given, "1.png"),
    ]
    for arguments, reason in wrong:
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert reason in lines[0]
    with pytest.raises(SystemExit) as stopped:
        main(["explore", "--help"])
    assert stopped.value.code == 0
    assert '{"text": ' in capsys.readouterr().out
