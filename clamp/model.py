"""CLAMP: text encoder -> progressive attention fusion -> multi-task contrast -> adaptive multi-loss aggregation."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from clamp.aggregation import Aggregation
from clamp.config import ConfigError, ModelConfig, Task, model_config_from_dict
from clamp.contrastive import MultiTaskContrast
from clamp.data.collate import Batch
from clamp.data.synthetic import VOCABULARY
from clamp.encoders import (
    TextEncoder,
    VisionEncoder,
    freeze,
    load_tokenizer,
    one_line_errors,
    projection,
    states_of_sentences,
)
from clamp.fusion import ProgressiveFusion, StageOutput
from clamp.pyramid import Grid, RegionPyramid
from clamp.system.files import written
from clamp.tagging import TAGS, AspectHead, Span, TagDecoder


def as_floats(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in -1..1."""
    return pixels.to(torch.float32) / 127.5 - 1.0


@dataclass
class Output:
    """What a forward pass yields: joint tag logits, X^0, and the stages and regions where there is an image path."""

    tag_logits_BTC: Tensor
    text_BTD: Tensor
    stages: list[StageOutput] = field(default_factory=list)
    regions_BRD: Tensor | None = None
    region_mask_BR: Tensor | None = None
    grid: Grid = (1, 1)


class Tagger(nn.Module):
    """What every architecture shares: the text encoder, the joint tag head, its loss, decoding, saving and loading.

    `config` is validated; the tokenizer is the weights' own, or a word-level one over the generated vocabulary.
    """

    uses_image: ClassVar[bool] = False  # whether it makes regions of the image

    def __init__(
        self, config: ModelConfig, *, tokenizer: PreTrainedTokenizerFast | None = None, pretrained: bool = True
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer or load_tokenizer(config.text, VOCABULARY)
        text = config.text
        if text.architecture is not None and "vocab_size" not in text.architecture:
            text = replace(text, architecture={**text.architecture, "vocab_size": len(self.tokenizer)})
        self.text_encoder = TextEncoder(text, config.width, pretrained=pretrained)
        self.text_norm = nn.LayerNorm(config.width)
        # before all that only some architectures have, so that a seed gives every one the same words and tags
        self.tag_head = nn.Linear(config.width, len(TAGS))
        self.tag_decoder = TagDecoder(config.decoder)
        vision = config.vision
        if self.uses_image and vision.kind != "proxy":
            self.vision_encoder = VisionEncoder(vision, config.width, pretrained=pretrained)
            vision = replace(vision, encoder=replace(vision.encoder, architecture=self.vision_encoder.architecture))
        elif self.uses_image:
            self.project_proxy = projection(self.text_encoder.encoder.config.hidden_size, config.width)
            if vision.frozen:
                self.proxy_encoder = freeze(copy.deepcopy(self.text_encoder.encoder))
        # what is saved rebuilds the same modules without looking at the original weights again
        self.config = replace(config, text=replace(text, architecture=self.text_encoder.architecture), vision=vision)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The losses this architecture trains on."""
        return ("tagging",)

    def encode_text(self, batch: Batch) -> Tensor:
        """X^0 (B, T, D): the layer-normalised states of first sub-words, the only ones that anything reads."""
        states_BSD = self.text_encoder(batch.token_ids_BS, batch.token_mask_BS, batch.segment_ids_BS)
        index_BTD = batch.first_BT[..., None].expand(-1, -1, states_BSD.shape[-1])
        return self.text_norm(states_BSD.gather(1, index_BTD))

    def image_features(self, batch: Batch) -> Tensor:
        """What the image's encoder says of every region (B, R, H), before it is brought to the model's width.

        Without a gradient where the encoder is frozen.
        """
        if batch.proxy_ids_BL is None:
            assert batch.pixels_BCHW is not None
            return self.vision_encoder.features(as_floats(batch.pixels_BCHW))
        if not self.config.vision.frozen:
            return states_of_sentences(self.text_encoder.encoder, batch)
        with torch.no_grad():
            return states_of_sentences(self.proxy_encoder, batch)

    def encode_image(self, batch: Batch) -> tuple[Tensor, Tensor, Grid]:
        """Regions (B, R, D), their mask (B, R) and the grid they lie on."""
        features_BRH = batch.features_BRH
        if batch.proxy_mask_BL is not None:
            features_BRH = self.image_features(batch) if features_BRH is None else features_BRH
            return self.project_proxy(features_BRH), batch.proxy_mask_BL, (1, features_BRH.shape[1])
        if features_BRH is not None:
            regions_BRD = self.vision_encoder.project(features_BRH)
        else:
            assert batch.pixels_BCHW is not None
            regions_BRD = self.vision_encoder(as_floats(batch.pixels_BCHW))
        mask_BR = batch.image_mask_B[:, None].expand(-1, regions_BRD.shape[1])
        return regions_BRD, mask_BR, self.vision_encoder.grid

    def train(self, mode: bool = True) -> Self:
        """As of any module; frozen encoders stay in eval mode."""
        super().train(mode)
        if hasattr(self, "proxy_encoder"):
            self.proxy_encoder.eval()
        return self

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        """Tag logits of every word; `need_attention` keeps each stage's attention map as well."""
        raise NotImplementedError

    def losses(self, output: Output, batch: Batch) -> dict[Task, Tensor]:
        """The unweighted losses of the tasks present in this batch."""
        return {"tagging": self.tag_decoder.loss(output.tag_logits_BTC, batch.tags_BT)}

    def total(self, losses: Mapping[Task, Tensor]) -> Tensor:
        """The scalar to minimise."""
        return torch.stack(tuple(losses.values())).sum()

    def project(self) -> None:
        """Bring bounded parameters back into their range; the trainer calls it after every optimiser step."""

    def decode(self, output: Output, batch: Batch) -> list[list[Span]]:
        """The predicted (start, end, polarity) spans of every tweet."""
        return self.tag_decoder.decode(output.tag_logits_BTC, batch.word_mask_BT)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and the tokenizer. Old files stay until all new ones are on disk."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as new:
            self.tokenizer.save_pretrained(scratch)
            contents = {file.name: file.read_bytes() for file in Path(scratch).iterdir()}
            contents["model.safetensors"] = save(
                {name: value.contiguous() for name, value in self.state_dict().items()}
            )
            contents["config.json"] = (json.dumps(asdict(self.config), indent=1) + "\n").encode()
            for name, content in contents.items():
                new.enter_context(written(folder / name)).write(content)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote. ConfigError names what is missing or does not fit; no code is run."""
        config, tokenizer, weights = _read_saved(Path(folder))
        model = cls(config, tokenizer=tokenizer, pretrained=False)
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            raise ConfigError(f"{folder}: the weights do not fit a {cls.__name__} of its config.json") from None
        return model.eval()


def _read_saved(folder: Path) -> tuple[ModelConfig, PreTrainedTokenizerFast, dict[str, Tensor]]:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: no {name}; a model folder is what save_pretrained wrote")
    try:
        values: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    config = model_config_from_dict(values, folder / "config.json")
    with one_line_errors(str(folder)):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config, tokenizer, weights


class Clamp(Tagger):
    """The model of the paper: PAF over the region pyramid, MCL, AMA, and an auxiliary aspect head on X^0."""

    uses_image = True

    def __init__(
        self, config: ModelConfig, *, tokenizer: PreTrainedTokenizerFast | None = None, pretrained: bool = True
    ) -> None:
        super().__init__(config, tokenizer=tokenizer, pretrained=pretrained)
        self.fusion = ProgressiveFusion(config)
        self.contrast = MultiTaskContrast(config.contrast, config.width, config.operators)
        self.aspect_head = AspectHead(config.width)
        self.aggregation = Aggregation(config.aggregation, self.tasks)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("tagging", "aspect", *self.contrast.tasks)

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        text_BTD = self.encode_text(batch)
        regions_BRD, mask_BR, grid = self.encode_image(batch)
        pyramid = RegionPyramid(regions_BRD, mask_BR, grid, batch.sentence_BPL)
        stages = self.fusion(text_BTD, batch.word_mask_BT, pyramid, need_attention=need_attention)
        return Output(self.tag_head(stages[-1].x_BTD), text_BTD, stages, regions_BRD, mask_BR, grid)

    def losses(self, output: Output, batch: Batch) -> dict[Task, Tensor]:
        assert output.regions_BRD is not None
        assert output.region_mask_BR is not None
        losses = super().losses(output, batch)
        losses["aspect"] = self.aspect_head.loss(output.text_BTD, batch.tags_BT)
        contrast = self.contrast(
            output.text_BTD,
            batch.word_mask_BT,
            output.stages[-1].context_BTD,
            output.regions_BRD,
            output.region_mask_BR,
            batch.aspect_spans_N3,
        )
        return losses | contrast

    def total(self, losses: Mapping[Task, Tensor]) -> Tensor:
        return self.aggregation(losses)

    def project(self) -> None:
        self.contrast.project()
