"""The feature cache: what was encoded once comes back to the bit, and nothing but time depends on it."""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import BERT, VIT, batch_of, tiny_config, tiny_model, tweets, with_proxies
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clamp.data.collate import EncodedTweets
from clamp.evaluate import in_batches, predict
from clamp.inference.feature_cache import (
    CachedText,
    CachedVision,
    FeatureStore,
    FolderStore,
    MemoryStore,
    cached_features,
)
from clamp.model import Tagger

AMPLE = 2**30
CONFIG = tiny_config(
    model__vision={"kind": "transformer", "encoder": {"architecture": VIT}, "image_size": 32}, model__dropout=0.0
).model


@pytest.fixture
def model() -> Tagger:
    return tiny_model(CONFIG)


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    return MemoryStore(AMPLE) if request.param == "memory" else FolderStore(tmp_path / "features", AMPLE)


def count_encodings(model: Tagger, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Rows that either encoder is asked for from now on."""
    seen = {"text": 0, "image": 0}

    def counted(kind: str, forward: Any) -> Any:
        def call(*args: Tensor, **kwargs: Tensor) -> Any:
            seen[kind] += len([*args, *kwargs.values()][0])
            return forward(*args, **kwargs)

        return call

    for kind, module in (("text", model.text_encoder.encoder), ("image", model.vision_encoder)):
        monkeypatch.setattr(module, "forward", counted(kind, module.forward))
    return seen


def logits(model: Tagger, data: EncodedTweets) -> list[Tensor]:
    with torch.no_grad():
        return [model(batch).tag_logits_BTC for _, batch in in_batches(data, 4)]


def test_second_pass_is_bitwise_the_first_and_encodes_nothing(
    model: Tagger, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = tweets(10)
    data = EncodedTweets([*some, *some[:3]], model.tokenizer, model.config)
    plain = logits(model, data)
    seen = count_encodings(model, monkeypatch)
    with cached_features(model, store):
        first = logits(model, data)
        assert seen == {"text": 10, "image": 10}  # of 13 rows
        second = logits(model, data)
    assert seen == {"text": 10, "image": 10}
    for one, two, without in zip(first, second, plain, strict=True):
        assert torch.equal(one, two)
        # sums are split by the batch's shape, and repeated rows left it
        torch.testing.assert_close(one, without, rtol=1e-4, atol=1e-5)


def test_a_folder_outlives_the_model_and_its_process(model: Tagger, tmp_path: Path) -> None:
    some = EncodedTweets(tweets(4), model.tokenizer, model.config)
    with cached_features(model, FolderStore(tmp_path, AMPLE)):
        first = logits(model, some)
    again = tiny_model(CONFIG)
    again.vision_encoder.forward = again.text_encoder.encoder.forward = None  # type: ignore[assignment]  # never called
    with cached_features(again, FolderStore(tmp_path, AMPLE)):
        assert all(torch.equal(a, b) for a, b in zip(first, logits(again, some), strict=True))


def test_descriptions_are_texts_too(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(model__vision={"kind": "proxy"}, model__dropout=0.0).model
    model = tiny_model(config)
    data = EncodedTweets(with_proxies(tweets(4)), model.tokenizer, config)
    plain = logits(model, data)
    with cached_features(model, store):
        first, second = logits(model, data), logits(model, data)
    for one, two, without in zip(first, second, plain, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, without, rtol=1e-4, atol=1e-5)


def test_predictions_are_those_without_a_cache(model: Tagger, store: FeatureStore) -> None:
    data = EncodedTweets(tweets(6), model.tokenizer, model.config)
    plain = predict(model, data, batch_size=3)
    with cached_features(model, store):
        for _ in range(2):
            assert predict(model, data, batch_size=3).spans == plain.spans


def test_afterwards_the_model_is_as_before(model: Tagger, store: FeatureStore) -> None:
    names, modules = list(model.state_dict()), (model.text_encoder.encoder, model.vision_encoder)

    def failing() -> None:
        with cached_features(model, store):
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert (model.text_encoder.encoder, model.vision_encoder) == modules
    assert list(model.state_dict()) == names


# --- keys ---


def vision_of(model: Tagger, store: FeatureStore, pixels_BCHW: Tensor) -> Tensor:
    with torch.no_grad():
        return CachedVision(model.vision_encoder, store)(pixels_BCHW)


def test_other_content_or_weights_have_other_entries(model: Tagger) -> None:
    store = MemoryStore(AMPLE)
    pixels_BCHW = torch.rand(1, 3, 32, 32)
    first = vision_of(model, store, pixels_BCHW)
    nudged = pixels_BCHW.clone()
    nudged[0, 0, 0, 0] += 1
    assert not torch.equal(vision_of(model, store, nudged), first)
    assert not torch.equal(vision_of(tiny_model(CONFIG, seed=1), store, pixels_BCHW), first)
    heads = {**VIT, "num_attention_heads": 4}  # the same weights, read otherwise
    vision = {"kind": "transformer", "encoder": {"architecture": heads}, "image_size": 32}
    other = tiny_model(tiny_config(model__vision=vision, model__dropout=0.0).model)
    other.load_state_dict(model.state_dict())
    assert not torch.equal(vision_of(other, store, pixels_BCHW), first)
    assert len(store._entries) == 4


def test_weights_that_change_under_the_cache_are_seen(model: Tagger) -> None:
    cached = CachedVision(model.vision_encoder, MemoryStore(AMPLE))
    pixels_BCHW = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = cached(pixels_BCHW)
        next(model.vision_encoder.parameters()).add_(1.0)
        assert not torch.equal(cached(pixels_BCHW), before)
        torch.testing.assert_close(cached(pixels_BCHW), model.vision_encoder(pixels_BCHW))


def test_segments_belong_to_a_text() -> None:
    model = tiny_model(tiny_config(model__architecture="text_only", model__dropout=0.0).model)
    cached = CachedText(model.text_encoder.encoder, MemoryStore(AMPLE))
    ids_BS, mask_BS = torch.full((2, 4), 3), torch.ones(2, 4, dtype=torch.bool)
    segments_BS = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1]])
    with torch.no_grad():
        got = cached(ids_BS, mask_BS, token_type_ids=segments_BS).last_hidden_state
        want = model.text_encoder.encoder(ids_BS, mask_BS, token_type_ids=segments_BS).last_hidden_state
    torch.testing.assert_close(got, want)
    assert not torch.equal(got[0], got[1])


def test_a_text_is_the_same_under_any_padding(model: Tagger) -> None:
    cached = CachedText(model.text_encoder.encoder, MemoryStore(AMPLE))
    ids_BS = torch.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 3]])
    mask_BS = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    with torch.no_grad():
        both = cached(ids_BS, mask_BS).last_hidden_state
        alone = cached(ids_BS[:1, :3], mask_BS[:1, :3]).last_hidden_state
    assert torch.equal(both[:1, :3], alone)
    assert torch.equal(both[0, 3:], torch.zeros(2, BERT["hidden_size"]))


@pytest.mark.parametrize("reason", ["gradients", "training"])
def test_training_is_refused(model: Tagger, reason: str) -> None:
    batch = batch_of(model, tweets(2))
    model.train(reason == "training")
    with (
        cached_features(model, MemoryStore(AMPLE)),
        torch.set_grad_enabled(reason == "gradients"),
        pytest.raises(RuntimeError, match="for inference"),
    ):
        model(batch)


# --- stores ---

ENTRY = torch.arange(25, dtype=torch.float32)  # 100 bytes


@given(st.lists(st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 6)), max_size=60))
def test_memory_keeps_the_last_used(steps: list[tuple[str, int]]) -> None:
    store = MemoryStore(350)
    used: OrderedDict[int, None] = OrderedDict()
    for action, number in steps:
        if action == "put":
            store.put(str(number), ENTRY + number)
            used.pop(number, None)
            used[number] = None
            while len(used) > 3:
                used.popitem(last=False)
        else:
            found = store.get(str(number))
            assert (found is not None) == (number in used)
            if found is not None:
                used.move_to_end(number)
                assert torch.equal(found, ENTRY + number)
        assert store.bytes == 100 * len(used) <= store.limit_bytes


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def key(number: int) -> str:
    return f"{number:02x}" * 32


def test_folder_evicts_the_least_recently_used(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, AMPLE)
    for number in range(10):
        store.put(key(number), ENTRY)
        os.utime(tmp_path / key(number)[:2] / key(number), (number, number))
    size = files(tmp_path)[0].stat().st_size
    assert store.get(key(0)) is not None  # as if just used
    FolderStore(tmp_path, 5 * size)
    assert [file.name for file in files(tmp_path)] == [key(0), key(7), key(8), key(9)]


def test_folder_stays_within_its_limit(tmp_path: Path) -> None:
    limit = 20_000
    store = FolderStore(tmp_path, limit)
    for number in range(200):
        store.put(key(number), ENTRY)
        assert sum(file.stat().st_size for file in files(tmp_path)) <= limit
    assert store.get(key(199)) is not None


def test_a_writer_that_was_killed_leaves_nothing_for_good(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, AMPLE)
    store.put(key(1), ENTRY)
    unfinished = tmp_path / "01" / "tmp_unfinished"
    unfinished.write_bytes(bytes(500))
    os.utime(unfinished, (0, 0))
    FolderStore(tmp_path, 500)
    assert [file.name for file in files(tmp_path)] == [key(1)]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_damage_is_an_absent_entry(tmp_path: Path, damage: str) -> None:
    store = FolderStore(tmp_path, AMPLE)
    store.put(key(1), ENTRY)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    broken = {"truncated": content[:-8], "flipped": content, "empty": b"", "foreign": bytes(32) + b"no such thing"}
    file.write_bytes(broken[damage])
    assert store.get(key(1)) is None
    store.put(key(1), ENTRY)
    found = store.get(key(1))
    assert found is not None
    assert torch.equal(found, ENTRY)


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    store = FolderStore(tmp_path, AMPLE)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.put(key(1), ENTRY)
    assert files(tmp_path) == []


def test_writers_and_readers_share_a_folder_under_eviction(tmp_path: Path) -> None:
    def work(worker: int) -> int:
        store, hits = FolderStore(tmp_path, 3_000), 0
        for step in range(120):
            number = (step * 7 + worker) % 12
            found = store.get(key(number))
            if found is None:
                store.put(key(number), ENTRY + number)
            else:
                hits += 1
                assert torch.equal(found, ENTRY + number)
        return hits

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) > 0
