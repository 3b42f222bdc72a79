"""The visual proxy as sentences."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamp.data.proxy import read_proxies, split_sentences
from clamp.data.schema import DataError, Tweet


def face(**emotion: float) -> dict[str, Any]:
    return {"box_xywh": [0, 0, 9, 9], "emotion": emotion}


def write(folder: Path, content: Any) -> Path:
    file = folder / "visual_proxy.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("faces", "sentence"),
    [
        ([], "No face."),
        ([face(happy=90, sad=10)], "1 face: 1 happy."),
        ([face(sad=60.5, happy=39.5), face(happy=51), face(sad=1.0)], "3 faces: 1 happy, 2 sad."),
        ([face(sad=50.0, angry=50.0)], "1 face: 1 angry."),
    ],
)
def test_faces_become_a_sentence(tmp_path: Path, faces: list[Any], sentence: str) -> None:
    file = write(tmp_path, {"1.jpg": {"caption": " A dog. ", "faces": faces, "description": "Brown fur."}})
    assert read_proxies(file, ("caption", "faces")) == {"1.jpg": ("A dog.", sentence)}
    assert read_proxies(file, ("faces", "description")) == {"1.jpg": (sentence, "Brown fur.")}


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ()),
        (" \n\t ", ()),
        ("a kite", ("a kite",)),
        ("It is grey. It rains! Does it? Yes", ("It is grey.", "It rains!", "Does it?", "Yes")),
        ("no capital. follows, v. 1.5. iOS", ("no capital. follows, v. 1.5. iOS",)),
        ('He says "No." "Yes!" (They shout.) [Loudly.]', ('He says "No."', '"Yes!"', "(They shout.)", "[Loudly.]")),
        ("\u201cNo.\u201d \u2018Yes.\u2019 It", ("\u201cNo.\u201d", "\u2018Yes.\u2019", "It")),
        ("two\nlines\r\n\nof  one text", ("two", "lines", "of one text")),
        ("near St. Louis", ("near St.", "Louis")),  # said to be so: no list of abbreviations
    ],
)
def test_where_sentences_end(text: str, sentences: tuple[str, ...]) -> None:
    assert split_sentences(text) == sentences


@given(text=st.text(st.sampled_from("aB1 .!?\n\"')(\u201d"), max_size=30))
def test_sentences_hold_all_that_is_said_and_stay_themselves_as_one_text(text: str) -> None:
    sentences = split_sentences(text)
    assert " ".join(sentences).split() == text.split()
    assert split_sentences(Tweet("t", (), (), proxy=sentences).proxy_text) == sentences


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    started = time.monotonic()
    for text in ("." + " " * 10**5 + "a", '."' * 10**5, "." + '"' * 10**5, ". A" * 10**5, " \n" * 10**5):
        split_sentences(text)
    assert time.monotonic() - started < 10


def test_fields_end_sentences_and_every_sentence_has_an_end(tmp_path: Path) -> None:
    said = {
        "captions": ["a man. A dog", "a kite!", "  "],
        "caption_blip2": "mr. X on\ntv",
        "emotion": 'It is calm. It says "go."',
        "description": "",
        "other": {"anything": 1},
    }
    file = write(tmp_path, {"1.jpg": said, "2.jpg": {"captions": [], "emotion": " "}})
    assert read_proxies(file, ("captions", "emotion")) == {
        "1.jpg": ("a man. A dog.", "a kite!", "It is calm.", 'It says "go."'),
    }  # and nothing of the other: nothing is said of it
    write(tmp_path, {"1.jpg": said})
    assert read_proxies(file, ("caption_blip2", "description")) == {"1.jpg": ("mr. X on tv.",)}
    with pytest.raises(DataError, match=r"record '1\.jpg': no faces$"):
        read_proxies(file, ("captions", "faces"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "Input should be an object"),
        ({"1.jpg": []}, "record '1.jpg': Input should be"),
        (
            {"1.jpg": {"caption": "", "faces": [], "captions": "a"}},
            "record '1.jpg': captions: Input should be a valid array",
        ),
        ({"1.jpg": {"caption": 3}}, "record '1.jpg': caption: Input should be a valid string"),
        ({"1.jpg": {"caption": "A dog."}}, "record '1.jpg': no faces"),
        ({"1.jpg": {"faces": []}}, "record '1.jpg': no caption"),
        ({"1.jpg": {"caption": "A dog.", "faces": [{}]}}, "record '1.jpg': faces.0.emotion: Field required"),
        ({"1.jpg": {"caption": "A dog.", "faces": [face()]}}, "record '1.jpg': faces.0.emotion: "),
        ({"1.jpg": {"caption": "", "faces": [face(sad=float("nan"))]}}, "record '1.jpg': faces.0.emotion.sad: "),
        ({"1.jpg": {"caption": "", "faces": [face(sad="9")]}}, "record '1.jpg': faces.0.emotion.sad: "),
        (
            {"1.jpg": {"caption": "", "faces": [face(**{"s\na\u2028d": True})]}},
            "record '1.jpg': faces.0.emotion.s a d: ",
        ),
        ({"1\n.jpg": {}}, r"record '1\n.jpg': no caption"),
    ],
)
def test_a_faulty_proxy(tmp_path: Path, content: Any, reason: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError, match="^" + re.escape(f"{file}: {reason}")) as caught:
        read_proxies(file, ("caption", "faces"))
    assert len(str(caught.value).splitlines()) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["caption", "faces", "emotion", "\n"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(content=json_values | st.dictionaries(st.text(max_size=3), json_values, max_size=3))
def test_any_json_is_read_or_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    try:
        found = read_proxies(write(tmp_path, content), ("caption", "faces"))
    except DataError as error:
        refusal = str(error)
    else:
        assert all(said and all(said) for said in found.values())
        return
    assert len(refusal.splitlines()) == 1
