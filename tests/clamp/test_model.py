"""The whole model: every switch does something, every batch trains, and what is saved is what is loaded."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    VIT,
    batch_of,
    gradients,
    one_word_tweets,
    tiny_config,
    tiny_model,
    tweets,
    with_proxies,
    without_images,
)

from clamp.baselines import ARCHITECTURES, TextOnly
from clamp.config import ConfigError, ModelConfig, override
from clamp.data import Tweet
from clamp.model import Clamp, Tagger
from kernels import reference
from repro.plan.variants import GROUPS, VARIANTS

VISUALS: dict[str, dict[str, Any]] = {
    "conv": {},
    "transformer": {"model__vision": {"kind": "transformer", "encoder": {"architecture": VIT}, "image_size": 32}},
    "proxy": {"model__vision": {"kind": "proxy"}, "model__width": 24},  # not the encoder's: with a projection
    "frozen": {
        "model__vision": {"kind": "transformer", "encoder": {"architecture": VIT}, "image_size": 32, "frozen": True},
        "model__width": 24,
    },
    "frozen proxy": {"model__vision": {"kind": "proxy", "frozen": True}, "model__width": 24},
}

SWITCHES: dict[str, dict[str, Any]] = {
    name: VARIANTS[name].overrides for name in (*GROUPS["ablations"], *GROUPS["baselines"]) if name != "full"
}
SWITCHES |= {
    "crf": {"model.decoder": "crf"},
    "scale": {"model.contrast.scale": 9.0},
    "temperature": {"model.aggregation.mode": "softmax", "model.aggregation.temperature": 9.0},
    "image level": {"model.levels": ["image", "patch", "patch"]},
    "heads": {"model.heads": 4},
    "dropout": {"model.dropout": 0.5},
    "initial weights": {"model.aggregation.initial": {"tagging": 0.5, "aspect": 2.0, "global": 3.0, "local": 2.0}},
    "prior strength": {"model.aggregation.prior_strength": 2.0},
    "prior mean": {"model.aggregation.prior_mean": {"tagging": 0.5, "aspect": 2.0, "global": 3.0, "local": 2.0}},
}


def fingerprint(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Tag logits, total loss and every gradient of one training batch.

    Parameters are filled by their name, so that a module that a switch adds leaves those of the others as they were.
    """
    model = tiny_model(config)
    for name, parameter in model.named_parameters():
        if not name.startswith("aggregation.s.") and "log_scale" not in name and "beta" not in name:
            torch.manual_seed(sum(map(ord, name)))
            torch.nn.init.normal_(parameter, std=0.3)
    model.train()
    torch.manual_seed(0)
    batch = batch_of(model, tweets(4))
    output = model(batch)
    total = model.total(model.losses(output, batch))
    model.zero_grad()
    total.backward()
    prints = {"logits": output.tag_logits_BTC.detach(), "total": total.detach()}
    return prints | {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.fixture(scope="module")
def full() -> dict[str, torch.Tensor]:
    return fingerprint(tiny_config(model__dropout=0.0).model)


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "no_identity_start"])
def test_every_switch_changes_the_forward_pass_or_a_gradient(switch: str, full: dict[str, torch.Tensor]) -> None:
    config = override(tiny_config(model__dropout=0.0), SWITCHES[switch], switch)
    switched = fingerprint(config.model)
    shared = [name for name in switched if name in full and switched[name].shape == full[name].shape]
    assert shared
    # beyond rounding, and in what both have: a parameter more or less alone would prove nothing
    assert any((switched[name] - full[name]).abs().max() > 1e-5 for name in shared)


def test_the_same_config_has_the_same_fingerprint(full: dict[str, torch.Tensor]) -> None:
    again = fingerprint(tiny_config(model__dropout=0.0).model)
    assert again.keys() == full.keys()
    assert all(torch.equal(again[name], full[name]) for name in full)


def test_a_learned_scale_receives_a_gradient(full: dict[str, torch.Tensor]) -> None:
    learned = fingerprint(tiny_config(model__dropout=0.0, model__contrast__learn_scale=True).model)
    assert learned.keys() - full.keys() == {f"contrast.{part}_scale.log_scale" for part in ("global", "local")}


@pytest.mark.parametrize("levels", [["patch"], ["pooled", "patch", "patch"], ["image", "pooled", "patch", "patch"]])
@pytest.mark.parametrize("visual", VISUALS)
@pytest.mark.parametrize("fusion", ["progressive", "plain"])
def test_clamp_begins_as_text_only(fusion: str, visual: str, levels: list[str]) -> None:
    """Same seed, same head: the identity start is what makes the first tag logits agree."""
    some = with_proxies(tweets(4)) if visual.endswith("proxy") else tweets(4)
    changes = {**VISUALS[visual], "model__fusion": fusion, "model__levels": levels}
    plain, clamp = (
        tiny_model(tiny_config(model__architecture=name, model__identity_start=True, **changes).model, seed=5)
        for name in ("text_only", "clamp")
    )
    expected = logits_of(plain, some)
    for row, other in zip(logits_of(clamp, some), expected, strict=True):
        torch.testing.assert_close(row, other, rtol=0, atol=1e-4)
    random = tiny_model(tiny_config(model__architecture="clamp", **changes).model, seed=5)
    assert any((a - b).abs().max() > 1e-2 for a, b in zip(logits_of(random, some), expected, strict=True))


def test_every_branch_of_a_stage_leaves_its_start_at_the_first_step() -> None:
    model = tiny_model(tiny_config(model__identity_start=True).model).train()
    found = gradients(model, batch_of(model, tweets(4)))
    for name in ("out.weight", "ffn_out.weight", "ffn_out.bias"):
        for k in range(3):
            assert found[f"fusion.stages.{k}.{name}"].any(), (k, name)
    # the contrast reads the context before W_o: it teaches the last stage where to look from the first step on
    assert found["fusion.stages.2.query.weight"].any()
    assert found["fusion.key_value.patch.weight"].any()


def test_viterbi_changes_what_is_decoded() -> None:
    argmax, viterbi = (tiny_model(tiny_config(model__decoder=kind).model) for kind in ("argmax", "viterbi"))
    batch = batch_of(argmax, one_word_tweets(1))
    output = argmax(batch)
    output.tag_logits_BTC = torch.zeros_like(output.tag_logits_BTC)
    output.tag_logits_BTC[0, 0, 2] = 2.0  # I-POS, which may not open a tweet
    output.tag_logits_BTC[0, 0, 5] = 1.0  # B-NEG
    assert argmax.decode(output, batch) == [[]]
    assert viterbi.decode(output, batch) == [[(0, 1, "NEG")]]


BATCHES = {
    "without any image": lambda: without_images(tweets(4)),
    "with some images": lambda: [*tweets(3), *without_images(tweets(5)[3:])],
    "of one-word tweets": lambda: one_word_tweets(3),
    "of one-word tweets without images": lambda: without_images(one_word_tweets(2)),
    "of one tweet": lambda: tweets(1),
    "of one tweet without its image": lambda: without_images(tweets(1)),
    "of one word": lambda: one_word_tweets(1),
    "without any aspect": lambda: [replace(tweet, aspects=()) for tweet in tweets(3)],
}

# what has nothing to learn from when no tweet has an image, or no two rows can be told apart
IMAGE_PARTS = ("contrast.", "vision_encoder.", "project_proxy.", "fusion.", "stage.", "aspect_head.", "aggregation.")
IMAGE_PARTS += ("image_head.", "proxy_encoder.")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("visual", VISUALS)
@pytest.mark.parametrize("kind", BATCHES)
def test_every_batch_trains_with_finite_gradients(architecture: str, visual: str, kind: str) -> None:
    config = tiny_config(model__architecture=architecture, **VISUALS[visual])
    some = BATCHES[kind]()
    if visual.endswith("proxy"):
        some = with_proxies(some)
    model = tiny_model(config.model).train()
    batch = batch_of(model, some)
    has_image = bool(batch.image_mask_B.any())
    losses = model.losses(model(batch), batch)
    assert {"tagging"} <= set(losses) <= set(model.tasks)
    assert ("global" in losses) == (architecture == "clamp" and int(batch.image_mask_B.sum()) >= 2)
    found = gradients(model, batch)
    for name, gradient in found.items():
        if gradient is None:
            assert name.startswith(IMAGE_PARTS), f"{name} takes no part"
        else:
            assert gradient.isfinite().all(), name
    if has_image and model.uses_image:
        seen = [name for name in found if name.startswith(("vision_encoder.", "project_proxy."))]
        assert any(gradient is not None and gradient.any() for gradient in map(found.get, seen))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    optimizer.step()
    model.project()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("visual", VISUALS)
def test_a_whole_batch_reaches_every_parameter(visual: str) -> None:
    config = tiny_config(model__contrast__learn_scale=True, **VISUALS[visual])
    model = tiny_model(config.model).train()
    some = [*tweets(3), *without_images(tweets(4)[3:])]
    if visual.endswith("proxy"):  # of two sentences: attention to a single one has no gradient
        some = [replace(tweet, proxy=tweet.proxy and (*tweet.proxy, "a red square")) for tweet in with_proxies(some)]
    found = gradients(model, batch_of(model, some))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = {name for name in trained if found[name] is None or not found[name].any()}
    # a key's bias adds the same to every logit of a row; an unused position or mask token has no use
    idle = {name for name in idle if not name.endswith(("key.bias", "mask_token", "k_proj.bias"))}
    assert not idle


def logits_of(model: Tagger, some: list[Tweet]) -> list[torch.Tensor]:
    """Of every tweet, its own words only."""
    batch = batch_of(model, some)
    output = model(batch)
    return [row[mask] for row, mask in zip(output.tag_logits_BTC, batch.word_mask_BT, strict=True)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("visual", ["conv", "proxy", "frozen proxy"])
def test_a_tweet_s_logits_do_not_depend_on_its_batch(architecture: str, visual: str) -> None:
    config = tiny_config(model__architecture=architecture, **VISUALS[visual])
    model = tiny_model(config.model)
    some = [*one_word_tweets(1), *tweets(4), *without_images(tweets(6)[4:])]
    if visual.endswith("proxy"):
        some = with_proxies(some)
        some[2] = replace(some[2], proxy=(*some[2].proxy, *some[2].proxy))
    together = logits_of(model, some)
    for tweet, row in zip(some, together, strict=True):
        torch.testing.assert_close(logits_of(model, [tweet])[0], row, rtol=1e-4, atol=1e-5)


def test_the_image_is_read_where_there_is_an_image_path() -> None:
    some = [replace(tweet, proxy=None) for tweet in tweets(3)]
    for architecture in ARCHITECTURES:
        reads = architecture not in ("text_only", "caption_concat")
        model = tiny_model(tiny_config(model__architecture=architecture).model)
        seen, blind = logits_of(model, some), logits_of(model, without_images(some))
        assert any(not torch.equal(a, b) for a, b in zip(seen, blind, strict=True)) == reads
        assert model.uses_image == reads
        assert any(name.startswith("vision_encoder") for name, _ in model.named_parameters()) == reads


def test_losses_are_on_the_right_heads() -> None:
    """Tagging reads X^K, the aspect head X^0; both are cross-entropies over the words."""
    model = tiny_model(tiny_config().model)
    assert isinstance(model, Clamp)
    batch = batch_of(model, tweets(3))
    output = model(batch)
    losses = model.losses(output, batch)
    mask_BT = batch.word_mask_BT
    joint = model.tag_head(output.stages[-1].x_BTD)[mask_BT]
    gold = batch.tags_BT[mask_BT]
    torch.testing.assert_close(losses["tagging"], torch.nn.functional.cross_entropy(joint, gold))
    aspect = model.aspect_head(output.text_BTD)[mask_BT]
    without_polarity = torch.tensor([0, 1, 2, 1, 2, 1, 2])[gold]
    torch.testing.assert_close(losses["aspect"], torch.nn.functional.cross_entropy(aspect, without_polarity))
    torch.testing.assert_close(model.total(losses), model.aggregation(losses))


@pytest.mark.parametrize("local", ["aspects", "words"])
def test_the_last_context_is_contrasted_before_gate_and_residual(local: str) -> None:
    config = tiny_config(model__contrast__local_contrast=local)
    model = tiny_model(config.model)
    assert isinstance(model, Clamp)
    batch = batch_of(model, tweets(3))
    output = model(batch)
    t_BTE, o_BTE = (
        model.contrast.project_word(output.text_BTD),
        model.contrast.project_context(output.stages[-1].context_BTD),
    )
    scale = model.config.contrast.scale
    if local == "words":
        unit = [torch.nn.functional.normalize(x_BTE, dim=-1) for x_BTE in (t_BTE, o_BTE)]
        expected = reference.grouped_info_nce(*unit, scale, batch.word_mask_BT)
    else:
        means = [
            torch.stack([x_BTE[b, start:end].mean(dim=0) for b, start, end in batch.aspect_spans_N3.tolist()])
            for x_BTE in (t_BTE, o_BTE)
        ]
        expected = reference.info_nce(*(torch.nn.functional.normalize(x_NE, dim=-1) for x_NE in means), scale)
    torch.testing.assert_close(model.losses(output, batch)["local"], expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("visual", VISUALS)
def test_a_saved_model_comes_back_bit_for_bit(architecture: str, visual: str, tmp_path: Path) -> None:
    config = tiny_config(model__architecture=architecture, model__decoder="crf", **VISUALS[visual])
    model = tiny_model(config.model)
    some = with_proxies(tweets(3)) if visual.endswith("proxy") else tweets(3)
    model.save_pretrained(tmp_path / "model")
    loaded = ARCHITECTURES[architecture].from_pretrained(tmp_path / "model")
    assert not loaded.training
    assert {file.suffix for file in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    batch = batch_of(model, some)
    again = batch_of(loaded, some)
    assert torch.equal(again.token_ids_BS, batch.token_ids_BS)
    assert torch.equal(loaded(again).tag_logits_BTC, model(batch).tag_logits_BTC)
    assert loaded.decode(loaded(again), again) == model.decode(model(batch), batch)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny_model(tiny_config().model).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(ConfigError, match=f"model: no {missing}") as error:
        Clamp.from_pretrained(saved)
    assert "\n" not in str(error.value)


def test_a_saved_config_with_an_unknown_key_is_refused(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(values | {"colour": "blue"}))
    with pytest.raises(ConfigError, match=r"config\.json: colour: ") as error:
        Clamp.from_pretrained(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("model.safetensors", b"\x80\x04K\x01."),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_broken_file_is_refused(saved: Path, file: str, content: bytes) -> None:
    (saved / file).write_bytes(content)
    with pytest.raises(ConfigError, match="model: ") as error:
        Clamp.from_pretrained(saved)
    assert "\n" not in str(error.value)


def test_weights_of_another_architecture_are_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit a TextOnly"):
        TextOnly.from_pretrained(saved)


def test_a_full_disk_leaves_the_saved_model_as_it_was(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def full_at_sync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clamp.system.files.os.fsync", full_at_sync)
    other = tiny_model(tiny_config().model, seed=1)
    with pytest.raises(OSError, match="No space left"):
        other.save_pretrained(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    monkeypatch.undo()
    other.save_pretrained(saved)
    assert {file.name for file in saved.iterdir()} == set(before)
    assert (saved / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_what_is_saved_can_be_read_by_whoever_may_read_a_new_file(saved: Path) -> None:
    (saved / "any").write_text("")
    assert {file.stat().st_mode for file in saved.iterdir()} == {(saved / "any").stat().st_mode}


def test_operators_agree() -> None:
    some = tweets(3)
    auto, plain = (tiny_model(tiny_config(model__operators=name).model) for name in ("auto", "reference"))
    for a, b in zip(logits_of(auto, some), logits_of(plain, some), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
