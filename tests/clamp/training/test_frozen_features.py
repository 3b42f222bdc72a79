"""Frozen encoders: never changed, read once a run, and the same result to the bit whether that is kept or not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import VIT, tiny_config, tiny_model, tiny_splits, tweets, with_proxies, without_images
from PIL import Image
from safetensors.torch import load_file

from clamp.config import Config
from clamp.data import Splits, Tweet
from clamp.data.collate import EncodedTweets
from clamp.training import kept_features
from clamp.training.frozen_features import FrozenTweets, has_frozen_image
from clamp.training.kept_features import nameless_in, shared_in
from clamp.training.train import Trainer, make_optimizer, train

sys.path.insert(0, str(Path(__file__).parent))
from test_train import measured_apart

VISIONS: dict[str, dict[str, Any]] = {
    "pixels": {"kind": "transformer", "encoder": {"architecture": VIT}, "image_size": 32, "frozen": True},
    "proxy": {"kind": "proxy", "frozen": True},
}


def frozen_config(kind: str, **changes: Any) -> Config:
    return tiny_config(model__vision=VISIONS[kind], model__width=24, model__dropout=0.1, **changes)


def seen_as(kind: str, some: list[Tweet]) -> list[Tweet]:
    """With sentences of unlike lengths, where they are proxies."""
    if kind == "pixels":
        return some
    return [
        replace(tweet, proxy=tweet.proxy and (*tweet.proxy, *["a red square . " * (k % 4)] * (k % 3)))
        for k, tweet in enumerate(with_proxies(some))
    ]


def splits_of(kind: str, config: Config) -> Splits:
    parts = tiny_splits(config)
    return Splits(*(seen_as(kind, part) for part in (parts.train, parts.dev, parts.test)), manifest={})


@pytest.mark.parametrize("architecture", ["clamp", "cmmt"])
@pytest.mark.parametrize("kind", VISIONS)
def test_the_result_is_the_same_to_the_bit_with_and_without_the_cache(
    kind: str, architecture: str, tmp_path: Path
) -> None:
    results, states = [], []
    for cached in (True, False):
        config = frozen_config(kind, model__architecture=architecture, train__feature_cache=cached)
        folder = tmp_path / str(cached)
        results.append(measured_apart(train(config, splits_of(kind, config), folder)))
        states.append(load_file(folder / "checkpoint.safetensors"))
        assert {file.name for file in folder.iterdir()} == {"checkpoint.safetensors", "model"}
    assert results[0] == results[1]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("kind", VISIONS)
def test_a_run_with_the_features_of_an_earlier_one_is_the_same_to_the_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    alone = FrozenTweets._encode_alone
    monkeypatch.setattr(FrozenTweets, "_encode_alone", lambda self, index: read.append(index) or alone(self, index))
    results, reads = [], []
    for k in range(2):
        config, before = frozen_config(kind), len(read)
        splits = splits_of(kind, config)
        results.append(measured_apart(train(config, splits, tmp_path / str(k), features=tmp_path / "features")))
        reads.append(len(read) - before)
    assert results[0] == results[1]
    assert reads[0] > 0
    assert reads[1] == 0
    assert len(list((tmp_path / "features").iterdir())) == 3  # of train, dev and test


@pytest.mark.parametrize("kind", VISIONS)
def test_a_frozen_encoder_is_neither_trained_nor_dropped_from(kind: str, tmp_path: Path) -> None:
    config = frozen_config(kind)
    trainer = Trainer(config, splits_of(kind, config), tmp_path)
    encoder = trainer.model.proxy_encoder if kind == "proxy" else trainer.model.vision_encoder.encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    text_before = [parameter.clone() for parameter in trainer.model.text_encoder.parameters()]
    trainer.fit()
    trainer.model.train()
    assert not encoder.training
    assert trainer.model.text_encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert any(not torch.equal(a, b) for a, b in zip(trainer.model.text_encoder.parameters(), text_before, strict=True))
    stepped = {id(p) for group in make_optimizer(trainer.model, config.train).param_groups for p in group["params"]}
    assert not stepped & {id(parameter) for parameter in encoder.parameters()}


def test_a_frozen_proxy_encoder_starts_as_the_text_encoder() -> None:
    model = tiny_model(frozen_config("proxy").model)
    ours, texts = model.proxy_encoder.state_dict(), model.text_encoder.encoder.state_dict()
    assert ours.keys() == texts.keys()
    assert all(torch.equal(ours[name], texts[name]) for name in ours)


@pytest.mark.parametrize("kind", VISIONS)
def test_kept_features_are_those_of_a_whole_batch(kind: str, tmp_path: Path) -> None:
    some = seen_as(kind, [*tweets(5), *without_images(tweets(7)[5:])])
    model = tiny_model(frozen_config(kind).model)
    data = FrozenTweets(some, model, nameless_in(tmp_path))
    assert not list(tmp_path.iterdir())
    chosen = [6, 0, 3, 5, 2]
    plain = EncodedTweets(some, model.tokenizer, model.config).batch(chosen)
    for _ in range(2):
        batch = data.batch(chosen)
        assert batch.pixels_BCHW is None
        regions_BRD, mask_BR, grid = model.encode_image(batch)
        expected_BRD, expected_mask_BR, expected_grid = model.encode_image(plain)
        assert torch.equal(mask_BR, expected_mask_BR)
        assert grid == expected_grid
        torch.testing.assert_close(regions_BRD[mask_BR], expected_BRD[mask_BR], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(batch).tag_logits_BTC, model(plain).tag_logits_BTC, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", VISIONS)
@pytest.mark.parametrize("cached", [True, False])
def test_with_the_cache_every_image_is_read_once(
    kind: str, cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    alone = FrozenTweets._encode_alone
    monkeypatch.setattr(FrozenTweets, "_encode_alone", lambda self, index: read.append(index) or alone(self, index))
    some = seen_as(kind, [*tweets(3), *without_images(tweets(4)[3:])])
    data = FrozenTweets(some, tiny_model(frozen_config(kind).model), nameless_in(tmp_path) if cached else None)
    for chosen in ([0, 1, 3], [2, 1, 0]):
        data.batch(chosen)
    assert read == ([0, 1, 2] if cached else [0, 1, 2, 1, 0])


def test_a_batch_without_any_image_has_its_grid(tmp_path: Path) -> None:
    model = tiny_model(frozen_config("pixels").model)
    batch = FrozenTweets(without_images(tweets(2)), model, nameless_in(tmp_path)).batch([0, 1])
    assert batch.features_BRH.shape == (2, 16, 16)
    assert not model.encode_image(batch)[1].any()


def test_a_full_disk_is_an_error_before_anything_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_features.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        FrozenTweets(tweets(2), tiny_model(frozen_config("pixels").model), nameless_in(tmp_path))
    assert not list(tmp_path.iterdir())


def test_only_a_frozen_image_is_kept() -> None:
    assert has_frozen_image(tiny_model(frozen_config("proxy").model))
    assert not has_frozen_image(tiny_model(tiny_config().model))
    assert not has_frozen_image(tiny_model(frozen_config("proxy", model__architecture="text_only").model))


def test_an_image_that_is_no_longer_needed_is_let_go(tmp_path: Path) -> None:
    data = FrozenTweets(tweets(2), tiny_model(frozen_config("pixels").model), nameless_in(tmp_path))
    data.batch([0, 1])
    assert data._pixels == {}


def reading(folder: Path, some: list[Tweet], kind: str = "proxy", **changes: Any) -> int:
    """How many images a new process would encode of these tweets, the first time that it meets them all."""
    model = tiny_model(frozen_config(kind, **changes).model)
    data = FrozenTweets(some, model, shared_in(folder))
    alone, read = data._encode_alone, []
    data._encode_alone = lambda index: read.append(index) or alone(index)  # type: ignore[method-assign]
    for index in range(len(some)):
        data.batch([index])
    return len(read)


@pytest.mark.parametrize("kind", VISIONS)
def test_features_serve_the_same_images_in_any_order_and_no_others(kind: str, tmp_path: Path) -> None:
    some = seen_as(kind, tweets(6))
    images = len(
        {FrozenTweets(some, tiny_model(frozen_config(kind).model), None)._content(k) for k in range(6)} - {b""}
    )
    assert reading(tmp_path, some, kind) == images
    swapped = [replace(a, image=b.image, proxy=b.proxy) for a, b in zip(some, reversed(some), strict=True)]
    assert reading(tmp_path, swapped, kind) == 0
    assert reading(tmp_path, some[:-1], kind) > 0  # a set of its own
    assert reading(tmp_path, some, kind, train__seed=1) == 0


def test_other_weights_sizes_and_threads_have_features_of_their_own(tmp_path: Path) -> None:
    some = tweets(2)
    model = tiny_model(frozen_config("pixels").model)
    FrozenTweets(some, model, shared_in(tmp_path))
    with torch.no_grad():
        next(model.vision_encoder.encoder.parameters()).add_(1.0)
    FrozenTweets(some, model, shared_in(tmp_path))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        FrozenTweets(some, model, shared_in(tmp_path))
    finally:
        torch.set_num_threads(threads)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_picture_that_was_changed_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    some = []
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(file)
        some = [replace(tweets(1)[0], image=file)]
        assert reading(tmp_path / "features", some, "pixels") == 1
    assert reading(tmp_path / "features", some, "pixels") == 0


def test_what_was_half_written_is_encoded_again(tmp_path: Path) -> None:
    some = seen_as("proxy", tweets(3))
    reading(tmp_path, some)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    assert reading(tmp_path, some) == 1
    file.write_bytes(content[: len(content) // 2])
    assert reading(tmp_path, some) > 0
    assert reading(tmp_path, some) == 0
