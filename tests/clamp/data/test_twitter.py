"""A data set's folder: which files are read, what an unusable image does, and the counts of the real data."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from clamp.data import ANNOTATION_SHA256, POLARITIES, SPLITS, Aspect, DataError, Tweet, load_twitter
from clamp.data.files import file_sha256
from clamp.data.twitter import image_folder, load_split

ROW_HEADER = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n"


def json_record(image_id: str) -> dict:
    return {
        "words": ["Joe", "ran"],
        "image_id": image_id,
        "aspects": [{"from": 0, "to": 1, "polarity": "NEG", "term": ["Joe"]}],
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.json", json.dumps([json_record("1.jpg")])),
        ("train.txt", "IMGID:1\nJoe\tB-NEG\tB-AE\nran\tO\tO\n"),
        ("train.tsv", ROW_HEADER + "0\t0\t1.jpg\t$T$ ran\tJoe\n"),
    ],
)
def test_the_three_forms_give_the_same_tweet(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert load_twitter(tmp_path, "train", visual="none") == [
        Tweet("train-00000:1.jpg", ("Joe", "ran"), (Aspect(0, 1, "NEG"),))
    ]


def test_a_folder_without_annotations(tmp_path: Path) -> None:
    expected = r"no annotations: none of dev\.json, dev\.txt, dev\.conll, dev\.tsv, valid\.json, .* is there$"
    (tmp_path / "dev.json").mkdir()
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=f"^{folder}: {expected}"):
            load_twitter(folder, "dev", visual="none")


@pytest.mark.parametrize(("name", "content"), [("dev.json", "[]"), ("dev.txt", "\n\n"), ("dev.tsv", ROW_HEADER)])
def test_a_file_without_tweets(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}: no tweets$"):
        load_twitter(tmp_path, "dev", visual="none")


def test_unusable_images_are_absent_and_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["good.png", "gone1.jpg", "corrupt.jpg", "gone2.jpg", "gone3.jpg", "good.png", "gone1.jpg"]
    root, images = tmp_path / "twitter2015", tmp_path / "pictures"
    root.mkdir()
    images.mkdir()
    (root / "train.json").write_text(json.dumps([json_record(name) for name in names]))
    Image.new("RGB", (5, 5)).save(images / "good.png")
    (images / "corrupt.jpg").write_bytes(b"\xff\xd8 not a photograph")
    with caplog.at_level(logging.WARNING):
        tweets = load_twitter(root, "train", images=images)
    good = images / "good.png"
    assert [tweet.image for tweet in tweets] == [good, None, None, None, None, good, None]
    assert len({tweet.id for tweet in tweets}) == len(tweets)
    (message,) = caplog.messages
    assert message.startswith("twitter2015 train: 4 of 5 images count as absent: ")
    assert "gone1.jpg: no such file" in message
    assert "corrupt.jpg: cannot identify image file" in message
    assert "gone3.jpg" not in message
    assert len(message.splitlines()) == 1


def test_nothing_is_reported_where_all_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "train.json").write_text(json.dumps([json_record("good.png")]))
    Image.new("RGB", (5, 5)).save(tmp_path / "good.png")
    load_twitter(tmp_path, "train", images=tmp_path)
    assert not caplog.messages


def test_an_image_without_a_proxy_is_absent_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "train.json").write_text(json.dumps([json_record("1.jpg"), json_record("2.jpg")]))
    (tmp_path / "visual_proxy.json").write_text(json.dumps({"2.jpg": {"caption": "A dog.", "faces": []}}))
    tweets = load_twitter(tmp_path, "train", visual="proxy", proxy_fields=("caption",))
    assert [tweet.proxy for tweet in tweets] == [None, ("A dog.",)]
    (message,) = caplog.messages
    assert message.endswith("train: 1 of 2 images count as absent: 1.jpg: nothing in visual_proxy.json")


def test_a_missing_proxy_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps([json_record("1.jpg")]))
    with pytest.raises(DataError, match=r"visual_proxy\.json: No such file or directory$"):
        load_twitter(tmp_path, "train", visual="proxy")


# Tweets, unique images, aspects, POS, NEU, NEG: the counts on which five independent public copies agree.
COUNTS = {
    ("twitter2015", "train"): (2101, 2101, 3179, 928, 1883, 368),
    ("twitter2015", "dev"): (727, 727, 1122, 303, 670, 149),
    ("twitter2015", "test"): (674, 674, 1037, 317, 607, 113),
    ("twitter2017", "train"): (1746, 1745, 3562, 1508, 1638, 416),
    ("twitter2017", "dev"): (577, 577, 1176, 515, 517, 144),
    ("twitter2017", "test"): (587, 587, 1234, 493, 573, 168),
}


def image_id(tweet: Tweet) -> str:
    return tweet.id.split(":")[1]


@pytest.mark.parametrize(("name", "split"), COUNTS)
def test_real_counts(data_root: Path, name: str, split: str) -> None:
    tweets = load_twitter(data_root / name, split, visual="none")
    polarities = Counter(aspect.polarity for tweet in tweets for aspect in tweet.aspects)
    counts = (len(tweets), len(set(map(image_id, tweets))), polarities.total(), *(polarities[p] for p in POLARITIES))
    assert counts == COUNTS[name, split]
    assert all(tweet.aspects for tweet in tweets)


@pytest.mark.parametrize("path", ANNOTATION_SHA256)
def test_real_annotations_are_the_ones_that_peers_use(data_root: Path, path: str) -> None:
    assert file_sha256(data_root / path) == ANNOTATION_SHA256[path]


def test_the_longest_real_tweet_has_40_words(data_root: Path) -> None:
    longest = max(
        len(tweet.words) for name, split in COUNTS for tweet in load_twitter(data_root / name, split, visual="none")
    )
    assert longest == 40


@pytest.mark.parametrize(("name", "shared"), [("twitter2015", 0), ("twitter2017", 1)])
def test_what_real_train_and_test_share(data_root: Path, name: str, shared: int) -> None:
    train, test = (load_twitter(data_root / name, split, visual="none") for split in ("train", "test"))
    assert len({*map(image_id, train)} & {*map(image_id, test)}) == shared
    assert len({tweet.words for tweet in train} & {tweet.words for tweet in test}) == shared


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017"])
def test_every_real_image_has_a_proxy(data_root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    fields = ("caption", "faces") if name == "twitter2015" else ("caption", "faces", "description")
    for split in SPLITS:
        tweets = load_twitter(data_root / name, split, visual="proxy", proxy_fields=fields)
        assert all(tweet.proxy for tweet in tweets)
    assert not caplog.messages


def test_real_images_of_the_sample_are_found(data_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = {
        (name, split): sum(
            t.image is not None for t in load_twitter(data_root / name, split, images=data_root / "images")
        )
        for name, split in COUNTS
    }
    assert found == dict.fromkeys(COUNTS, 0) | {
        ("twitter2015", "train"): 7,
        ("twitter2015", "dev"): 2,
        ("twitter2015", "test"): 1,
        ("twitter2017", "train"): 6,
        ("twitter2017", "test"): 1,
    }
    assert len(caplog.messages) == len(COUNTS)


@pytest.mark.parametrize("name", ["valid.txt", "val.json", "validation.tsv"])
def test_the_second_split_has_several_names(tmp_path: Path, name: str) -> None:
    content = {
        "valid.txt": "IMGID:1\nJoe B-NEG\nran O\n",
        "val.json": json.dumps([json_record("1.jpg")]),
        "validation.tsv": ROW_HEADER + "0\t0\t1.jpg\t$T$ ran\tJoe\n",
    }
    (tmp_path / name).write_text(content[name])
    (tweet,) = load_twitter(tmp_path, "dev", visual="none")
    assert (tweet.words, tweet.aspects) == (("Joe", "ran"), (Aspect(0, 1, "NEG"),))


def test_images_are_found_whatever_their_suffix_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "tw"
    root.mkdir()
    names = ["a", "b.jpg", "c.png", "d.jpg", "e.png"]
    (root / "train.json").write_text(json.dumps([json_record(name) for name in names]))
    images = tmp_path / "tw_images"
    images.mkdir()
    for file in ("a.jpeg", "b.png", "c.png"):
        Image.new("RGB", (5, 5)).save(images / file)
    whole = tmp_path / "whole.jpg"
    Image.new("RGB", (64, 64)).save(whole)
    (images / "d.jpg").write_bytes(whole.read_bytes()[:-2])
    loaded = load_split(root, "train")
    assert image_folder(root) == images
    assert [tweet.image and tweet.image.name for tweet in loaded.tweets] == ["a.jpeg", "b.png", "c.png", "d.jpg", None]
    counts = loaded.images
    assert (counts.read, counts.truncated, counts.absent, counts.unread) == (4, 1, 1, 0)
    assert str(counts) == f"4 read (1 of them cut short), 1 absent, 0 unread ({images / 'e.png'}: no such file)"
