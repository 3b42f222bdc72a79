"""Spans are counted in the part of the test tweets that they belong to, of hand-made tweets and images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clamp.data import load_twitter
from clamp.metrics import span_scores
from clamp.tagging import Span
from repro.evaluate.slices import SLICES, sliced_counts

SAID = {  # image -> what BLIP-2, eight captions and a language model said of it
    "1.jpg": ("a sign that says ada lovelace", ["A crowd."], "The image expresses Positive because they smile."),
    "2.jpg": ("a dog", ["London at night"], "The image expresses Negative because it rains."),
    "3.jpg": ("a cat", ["nothing"], "The image expresses Neutral because nothing happens."),
    "4.jpg": ("a bill", ["a wall"], "I am unable to analyze this image."),
}
TWEETS = [
    ("1.jpg", "Ada Lovelace met Bob", [(0, 2, "POS"), (3, 4, "NEG")]),
    ("2.jpg", "London and Paris and Rome", [(0, 1, "NEG"), (2, 3, "NEG"), (4, 5, "NEG")]),
    ("3.jpg", "only Billy here", [(1, 2, "NEU")]),
    ("4.jpg", "Bill again", [(0, 1, "POS")]),
]
GOLD: list[list[Span]] = [[(s, e, p) for s, e, p in aspects] for _, _, aspects in TWEETS]  # type: ignore[misc]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "twitter2015"
    folder.mkdir()
    rows = [
        {
            "words": text.split(),
            "image_id": image,
            "aspects": [{"from": s, "to": e, "polarity": p, "term": text.split()[s:e]} for s, e, p in aspects],
        }
        for image, text, aspects in TWEETS
    ]
    (folder / "test.json").write_text(json.dumps(rows))
    proxies = {image: {"caption_blip2": b, "captions": c, "emotion": e} for image, (b, c, e) in SAID.items()}
    (folder / "visual_proxy.json").write_text(json.dumps(proxies))
    return tmp_path


def counted(root: Path, spans: list[list[Span]], at: Path | None) -> dict[str, dict[str, list[int]]]:
    tweets = load_twitter(root / "twitter2015", "test", visual="none")  # what text only reads
    return sliced_counts("twitter2015", spans, tweets, at)  # type: ignore[return-value]


def test_gold_aspects_lie_where_they_belong(root: Path):
    found = counted(root, GOLD, root)
    assert found == {
        "polarity": {"POS": [2, 2, 2], "NEG": [4, 4, 4], "NEU": [1, 1, 1]},
        "aspects": {"1": [2, 2, 2], "2": [2, 2, 2], "3 or more": [3, 3, 3]},
        # Ada Lovelace on the sign, London in a caption, Bill on the bill; Billy is another word
        "named": {"named": [3, 3, 3], "not named": [4, 4, 4]},
        # Ada's image smiles, and one of the two is disliked; of the fourth image no mood was named
        "mood": {"against the image": [2, 2, 2], "as the image": [4, 4, 4]},
    }
    assert all(set(values) <= set(SLICES[name]) for name, values in found.items())  # type: ignore[index]


def test_wrong_spans_count_as_predicted_where_they_say_they_are(root: Path):
    spans: list[list[Span]] = [[(0, 2, "NEG"), (2, 3, "POS")], [], [(1, 2, "NEU")], [(0, 1, "POS")]]
    found = counted(root, spans, root)
    assert found["polarity"] == {"POS": [1, 2, 2], "NEG": [0, 1, 4], "NEU": [1, 1, 1]}
    assert found["named"] == {"named": [1, 2, 3], "not named": [1, 2, 4]}
    assert found["aspects"] == {"1": [2, 2, 2], "2": [0, 2, 2], "3 or more": [0, 0, 3]}
    assert found["mood"] == {"against the image": [0, 2, 2], "as the image": [1, 1, 4]}
    whole = span_scores(spans, GOLD)
    for name in ("polarity", "named", "aspects"):  # which divide all spans
        assert [sum(column) for column in zip(*found[name].values(), strict=True)] == [
            whole.tp, whole.predicted, whole.gold,
        ]  # fmt: skip


def test_neither_is_what_is_no_opposite(root: Path):
    file = root / "twitter2015" / "test.json"
    rows = json.loads(file.read_text())
    rows[0]["aspects"][1]["polarity"] = "NEU"  # beside a positive one, under an image that smiles
    file.write_text(json.dumps(rows))
    found = counted(root, [[], [], [], []], root)
    assert found["mood"] == {"neither": [0, 0, 2], "as the image": [0, 0, 4]}


def test_without_what_is_said_of_images_these_parts_are_missing(root: Path):
    assert counted(root, GOLD, None).keys() == {"polarity", "aspects"}
    file = root / "twitter2015" / "visual_proxy.json"
    proxies = {image: {"caption": "a cat", "emotion": e} for image, (_, _, e) in SAID.items()}
    file.write_text(json.dumps(proxies))
    assert counted(root, GOLD, root).keys() == {"polarity", "aspects", "mood"}
    file.unlink()
    assert counted(root, GOLD, root).keys() == {"polarity", "aspects"}
