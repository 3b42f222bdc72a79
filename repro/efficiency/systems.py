"""CLAMP and what its cost is compared with, at the paper's size or a tiny one, with random weights and inputs.

Cost depends on sizes alone. All systems share the same two encoders in memory, so that ten of them fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from clamp.baselines import ARCHITECTURES
from clamp.config import EncoderConfig, ModelConfig, VisionConfig
from clamp.contrastive import masked_mean
from clamp.data.collate import Batch
from clamp.encoders import TextEncoder, VisionEncoder, word_level_tokenizer
from clamp.model import Output, Tagger
from clamp.tagging import TAGS
from repro.efficiency.generative import Generative, GenerativeSize
from repro.plan.profiles import paper_config


@dataclass(frozen=True)
class Size:
    """Architectures and inputs: every token of a text is a word; a caption is appended where a system reads one."""

    text: dict[str, Any]
    vision: dict[str, Any]
    generative: GenerativeSize
    width: int
    heads: int
    image_size: int
    tokens: int
    caption_tokens: int
    image_sizes: tuple[int, ...]
    token_counts: tuple[int, ...]

    def regions(self, image_size: int) -> int:
        patch: int = self.vision["patch_size"]
        return (image_size // patch) ** 2


PAPER = Size(
    text={  # roberta-base
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    vision={"model_type": "vit", "patch_size": 16},  # ViT-B/16
    generative=GenerativeSize(
        bart={  # bart-base
            "d_model": 768,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
            "vocab_size": 50265,
        },
        regions=36,
        region_width=2048,
        beams=4,
        target=7,
    ),
    width=768,
    heads=12,
    image_size=224,
    tokens=64,
    caption_tokens=18,  # the mean of captions and faces over the test splits of Twitter-2015 and Twitter-2017
    image_sizes=(112, 160, 224, 320),
    token_counts=(16, 32, 64, 128),
)
_TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TINY = Size(
    text={"model_type": "bert", "vocab_size": 50, "max_position_embeddings": 64, **_TINY},
    vision={"model_type": "vit", "patch_size": 8, **_TINY},
    generative=GenerativeSize(
        bart={
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "vocab_size": 50,
        },
        regions=4,
        region_width=8,
        beams=2,
        target=3,
    ),
    width=16,
    heads=2,
    image_size=32,
    tokens=8,
    caption_tokens=4,
    image_sizes=(16, 32),
    token_counts=(4, 8),
)

ENCODERS = "encoders"
GENERATIVE = "generative"
CLAMP: dict[str, Literal["reference", "torch", "triton"]] = {  # system -> the operators that it runs on
    "clamp_reference": "reference",
    "clamp_torch": "torch",
    "clamp_triton": "triton",
}
BASELINES = tuple(name for name in ARCHITECTURES if name != "clamp")


def systems(device: torch.device) -> tuple[str, ...]:
    """Every system that runs on this kind of device, what the others are compared with first."""
    clamp = [name for name, operators in CLAMP.items() if operators != "triton" or device.type == "cuda"]
    return (ENCODERS, *clamp, *BASELINES, GENERATIVE)


class EncodersAlone(Tagger):
    """The least that reads both: either encoder, and a linear head over each word's state plus the mean region."""

    uses_image = True

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        text_BTD = self.text_encoder(batch.token_ids_BS, batch.token_mask_BS)  # every token is a word here
        regions_BRD, mask_BR, grid = self.encode_image(batch)
        image_BD = masked_mean(regions_BRD, mask_BR)
        return Output(self.tag_head(text_BTD + image_BD[:, None]), text_BTD, [], regions_BRD, mask_BR, grid)


class Encoders(NamedTuple):
    """A text encoder and a vision encoder that several systems share."""

    text: TextEncoder
    vision: VisionEncoder

    @staticmethod
    def of(size: Size, image_size: int, device: torch.device, text: TextEncoder | None = None) -> Encoders:
        """For images of this side; the text encoder is made unless given."""
        config = _config(size, image_size)
        if text is None:
            text = TextEncoder(config.text, size.width, pretrained=False).to(device)
        return Encoders(text, VisionEncoder(config.vision, size.width, pretrained=False).to(device))


def _config(size: Size, image_size: int) -> ModelConfig:
    """As in the profile `paper`, with the encoders built from their architecture."""
    vision = EncoderConfig(architecture={**size.vision, "image_size": image_size})
    return replace(
        paper_config("twitter2015").model,
        text=EncoderConfig(architecture=size.text, max_tokens=min(128, size.text["max_position_embeddings"])),
        vision=VisionConfig(kind="transformer", encoder=vision, image_size=image_size),
        width=size.width,
        heads=size.heads,
    )


def _light(config: ModelConfig) -> ModelConfig:
    """With encoders that are quickly made, to be replaced."""

    def one_layer(encoder: EncoderConfig) -> EncoderConfig:
        small = {"num_hidden_layers": 1, "vocab_size": 10}
        return replace(encoder, architecture={**(encoder.architecture or {}), **small})

    vision = replace(config.vision, encoder=one_layer(config.vision.encoder))
    return replace(config, text=one_layer(config.text), vision=vision)


def build(name: str, size: Size, device: torch.device, shared: Encoders | None = None) -> nn.Module:
    """A system in eval mode, on the `shared` encoders or on its own."""
    if name == GENERATIVE:
        return Generative(size.generative).to(device).eval()
    config = replace(_config(size, size.image_size), operators=CLAMP.get(name, "auto"))
    kind = EncodersAlone if name == ENCODERS else ARCHITECTURES["clamp" if name in CLAMP else name]
    model = kind(_light(config) if shared else config, tokenizer=word_level_tokenizer(("word",)), pretrained=False)
    if shared:
        model.text_encoder = shared.text
        if kind.uses_image:
            model.vision_encoder = shared.vision
    return model.to(device).eval()


def make_batch(
    size: Size,
    count: int,
    device: torch.device,
    *,
    name: str = ENCODERS,
    tokens: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> Batch:
    """`count` tweets as system `name` reads them, the same for a seed: random words, tags and pixels."""
    random = torch.Generator().manual_seed(seed)
    words = size.tokens if tokens is None else tokens
    side = size.image_size if image_size is None else image_size
    length = words + (size.caption_tokens if name == "caption_concat" else 0)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=random)

    segments_BS = torch.zeros(count, length, dtype=torch.int64)
    segments_BS[:, words:] = 1
    return Batch(
        tweets=[],
        token_ids_BS=5 + integers(size.text["vocab_size"] - 5, count, length),  # the first few are special
        token_mask_BS=torch.ones(count, length, dtype=torch.bool),
        first_BT=torch.arange(words).repeat(count, 1),
        word_mask_BT=torch.ones(count, words, dtype=torch.bool),
        tags_BT=integers(len(TAGS), count, words),
        aspect_spans_N3=torch.tensor([(b, 0, 1) for b in range(count)]),
        image_mask_B=torch.ones(count, dtype=torch.bool),
        pixels_BCHW=integers(256, count, 3, side, side).to(torch.uint8),
        segment_ids_BS=segments_BS if name == "caption_concat" else None,
    ).to(device)
