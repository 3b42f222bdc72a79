"""From a data config to splits, and the manifest by which a run knows its data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clamp.config import ConfigError, DataConfig, SyntheticConfig
from clamp.data import SPLITS, DataError, data_manifest, load_splits
from clamp.data.labels import Labels

SMALL = DataConfig(synthetic=SyntheticConfig(train=12, dev=5, test=7))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder of one tweet a split, with an image and a proxy text each."""
    (tmp_path / "twitter2015").mkdir()
    (tmp_path / "twitter2015_images").mkdir()
    for split in SPLITS:
        aspect = {"from": 1, "to": 2, "polarity": "POS", "term": [split]}
        record = {"words": ["a", split], "image_id": f"{split}.png", "aspects": [aspect]}
        (tmp_path / "twitter2015" / f"{split}.json").write_text(json.dumps([record]))
        Image.new("RGB", (4, 4)).save(tmp_path / "twitter2015_images" / f"{split}.png")
    proxy = {f"{split}.png": {"caption": f"seen in {split}", "faces": []} for split in SPLITS}
    (tmp_path / "twitter2015" / "visual_proxy.json").write_text(json.dumps(proxy))
    return tmp_path


def test_generated_splits_have_their_sizes_and_share_nothing() -> None:
    splits = load_splits(SMALL, None)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [12, 5, 7]
    tweets = [*splits.train, *splits.dev, *splits.test]
    assert len({tweet.words for tweet in tweets}) == len({tweet.image.tobytes() for tweet in tweets}) == len(tweets)
    assert len({tweet.id for tweet in tweets}) == len(tweets)


def test_the_size_of_one_split_leaves_the_others_alone() -> None:
    longer = load_splits(replace(SMALL, synthetic=replace(SMALL.synthetic, train=20)), None).manifest
    assert longer["synthetic/train"] != data_manifest(SMALL, None)["synthetic/train"]
    for split in ("dev", "test"):
        assert longer[f"synthetic/{split}"] == data_manifest(SMALL, None)[f"synthetic/{split}"]


def test_the_manifest_is_the_same_without_the_tweets_and_without_their_images() -> None:
    manifest = data_manifest(SMALL, None)
    assert set(manifest) == {"synthetic/train", "synthetic/dev", "synthetic/test"}
    assert load_splits(SMALL, None).manifest == manifest
    blind = load_splits(replace(SMALL, visual="none"), None)
    assert blind.manifest == manifest
    assert all(tweet.image is None and tweet.proxy is None for tweet in blind.train)
    told = load_splits(replace(SMALL, visual="proxy"), None)
    assert told.manifest == manifest
    assert all(tweet.image is None and tweet.proxy for tweet in told.train)
    assert all(tweet.proxy is None for tweet in load_splits(SMALL, None).train)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"noise": 5.0}, {"distractors": 5}, {"cells": 5}, {"image_told_share": 0.9}, {"looks": 2}]
)
def test_the_manifest_knows_every_knob(change: dict[str, float]) -> None:
    changed = data_manifest(replace(SMALL, synthetic=replace(SMALL.synthetic, **change)), None)
    assert not set(changed.values()) & set(data_manifest(SMALL, None).values())


def test_changing_a_manifest_does_not_change_the_next() -> None:
    data_manifest(SMALL, None)["synthetic/train"] = "other"
    assert data_manifest(SMALL, None) == load_splits(SMALL, None).manifest


def test_real_data_needs_a_folder() -> None:
    for load in (load_splits, data_manifest):
        with pytest.raises(ConfigError, match="twitter2015 needs a data folder"):
            load(DataConfig(name="twitter2015"), None)
        with pytest.raises(DataError, match="twitter2015: no annotations"):
            load(DataConfig(name="twitter2015"), Path("no", "such", "folder"))


@pytest.mark.parametrize("visual", ["image", "proxy", "none"])
def test_real_splits(root: Path, visual: str) -> None:
    data = DataConfig(name="twitter2015", visual=visual)
    splits = load_splits(data, root)
    for split in SPLITS:
        (tweet,) = getattr(splits, split)
        assert tweet.words == ("a", split)
        assert tweet.image == (root / "twitter2015_images" / f"{split}.png" if visual == "image" else None)
        assert tweet.proxy == ((f"seen in {split}.", "No face.") if visual == "proxy" else None)
    assert splits.manifest == data_manifest(data, root)
    assert {f"twitter2015/{split}.json" for split in SPLITS} <= set(splits.manifest)


@pytest.mark.parametrize(
    ("visual", "changed", "noticed"),
    [
        ("none", "twitter2015/dev.json", True),
        ("none", "twitter2015/visual_proxy.json", False),
        ("proxy", "twitter2015/visual_proxy.json", True),
        ("proxy", "twitter2015_images/dev.png", False),
        ("image", "twitter2015_images/dev.png", True),
        ("image", "twitter2015_images/unrelated.png", False),
    ],
)
def test_the_manifest_of_files_knows_what_is_read(root: Path, visual: str, changed: str, noticed: bool) -> None:
    data = DataConfig(name="twitter2015", visual=visual)
    before = data_manifest(data, root)
    file = root / changed
    file.write_bytes((file.read_bytes() if file.exists() else b"") + b" ")
    assert (data_manifest(data, root) != before) is noticed


def test_a_missing_image_is_part_of_the_manifest(root: Path) -> None:
    data = DataConfig(name="twitter2015")
    before = data_manifest(data, root)
    (root / "twitter2015_images" / "test.png").unlink()
    assert data_manifest(data, root) != before


def test_images_may_lie_in_the_common_folder(root: Path) -> None:
    (root / "twitter2015_images").rename(root / "images")
    splits = load_splits(DataConfig(name="twitter2015"), root)
    assert splits.dev[0].image == root / "images" / "dev.png"
    (root / "images").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"no images: no folder .*twitter2015_images or .*images"):
        load_splits(DataConfig(name="twitter2015"), root)


def test_generated_images_are_pixels() -> None:
    assert all(isinstance(tweet.image, np.ndarray) for tweet in load_splits(SMALL, None).test)


def test_data_of_ones_own_need_no_test_tweets(root: Path) -> None:
    folder = root / "twitter2015"
    (folder / "test.json").unlink()
    splits = load_splits(DataConfig(name="own"), folder)
    assert (len(splits.train), splits.test) == (1, [])
    assert set(splits.loaded) == {"train", "dev"}
    assert splits.loaded["dev"].images.read == 1
    assert "twitter2015/test.json" not in splits.manifest
    with pytest.raises(DataError, match=r"no annotations: none of test\.json"):
        load_splits(DataConfig(name="twitter2015"), root)


def test_what_labels_mean_is_part_of_the_manifest(root: Path) -> None:
    data, folder = DataConfig(name="own", visual="none"), root / "twitter2015"
    plain = load_splits(data, folder).manifest
    assert load_splits(data, folder, Labels()).manifest == plain
    mapped = load_splits(data, folder, Labels({"pos": "NEG"}))
    assert mapped.manifest != plain
    assert mapped.manifest == data_manifest(data, folder, Labels({"pos": "NEG"}))
    assert [aspect.polarity for aspect in mapped.train[0].aspects] == ["NEG"]
