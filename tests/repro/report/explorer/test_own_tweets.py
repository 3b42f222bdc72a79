"""The page of anybody's own tweets: what is read, what is refused, and that it shows what the models predict."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import tiny_config, tiny_model
from explorer_pages import HOSTILE, Page, pixels, save_models, write_own
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamp.baselines import TextOnly
from clamp.config import ConfigError
from clamp.data import DataError
from clamp.data.collate import EncodedTweets
from clamp.evaluate import predict
from clamp.model import Clamp
from repro.__main__ import main
from repro.report.explorer.own_tweets import MOST, own_page, read_tweets


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


def test_tweets_without_an_image_show_words_and_labels(models: tuple[Path, Path], tmp_path: Path) -> None:
    file = write_own(tmp_path, 1)
    first = json.loads(file.read_text().splitlines()[0])
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    unseen = [first | {"image": name} for name in (None, "gone.png", "x" * 5000, "broken.png")]
    renamed = {key: value for key, value in first.items() if key != "image"} | {"image_id": first["image"]}
    file.write_text("".join(json.dumps(one) + "\n" for one in [first, renamed, *unseen]))
    page = Page(own_page(models[0], file, tmp_path / "images", None))
    shown = page.data["tweets"]
    names = ["Tweet 1", "Tweet 2", "Tweet 3 (no image)", "Tweet 4 (image absent)"]
    assert [one["name"] for one in shown] == [*names, "Tweet 5 (image unreadable)", "Tweet 6 (image unreadable)"]
    assert [bool(one["stages"]) for one in shown] == [True, True, False, False, False, False]
    assert shown[1]["aspects"] == shown[0]["aspects"]
    assert all(one["words"] == shown[0]["words"] for one in shown)
    assert all((pixels(one["image"]) == 255).all() for one in shown[2:])
    assert "4 of the tweets have no image that could be read" in page.text
    clamp = Clamp.from_pretrained(models[0])
    blind = [replace(tweet, image=None) for tweet in read_tweets(file, tmp_path / "images")]
    found = predict(clamp, EncodedTweets(blind, clamp.tokenizer, clamp.config)).spans[2]
    assert [(a["start"], a["end"]) for a in shown[3]["aspects"]] == [span[:2] for span in found]


GOOD = {"text": "a b", "image": "0.png"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "line 2: Invalid JSON"),
        (b"[]", "line 2: "),
        ({"image": "0.png"}, "line 2: neither text nor words"),
        ({"text": " ", "image": "0.png"}, "line 2: no words"),
        (GOOD | {"image": "../own.jsonl"}, "line 2: image '../own.jsonl' is not the name of a file within the images'"),
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
            assert tweet.image is None or tweet.image.parent == tmp_path
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
    wrong = [
        ([*given[:2], "nowhere", *given[3:]], "nowhere: no such folder, nor the name of a model"),
        ([*given[:2], str(models[1]), *given[3:]], "the weights do not fit a Clamp"),
        ([*given[:3], "none.jsonl", *given[4:]], "none.jsonl: No such file"),
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
