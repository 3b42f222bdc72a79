"""What profile `paper` computes where neither its data nor its weights are at hand: enough to say what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clamp.config import Config, DataConfig, SyntheticConfig

# tweets of train, dev and test, as docs/data.md has them
_SIZES = {"twitter2015": (2101, 727, 674), "twitter2017": (1746, 577, 587)}
_ROBERTA_BASE = {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
_VIT_B_16 = {"model_type": "vit", "patch_size": 16, "image_size": 224}
WORDS = (
    "without data and weights: counted of encoders of the same architectures, over as many generated tweets, whose "
    "texts are shorter than real ones"
)


def stand_in(config: Config) -> Config:
    """A config of the same cost but for the length of texts: generated tweets, encoders without weights."""
    train, dev, test = _SIZES[config.data.name]
    model = config.model
    text = replace(model.text, weights=None, revision=None, architecture=dict[str, Any](_ROBERTA_BASE))
    image = replace(model.vision.encoder, weights=None, revision=None, architecture=dict[str, Any](_VIT_B_16))
    return replace(
        config,
        data=DataConfig(synthetic=SyntheticConfig(train=train, dev=dev, test=test), visual=config.data.visual),
        model=replace(model, text=text, vision=replace(model.vision, encoder=image)),
    )
