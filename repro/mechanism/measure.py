"""Everything that is measured of a checkpoint's inner workings, in one dict."""

from __future__ import annotations

from typing import Any

from clamp.config import Config, ModelConfig, SyntheticConfig
from clamp.data import Tweet
from clamp.data.schema import POLARITIES
from clamp.evaluate import Predictions
from clamp.model import Clamp, Tagger
from repro.mechanism.alignment import alignment
from repro.mechanism.attention import attention_maps
from repro.mechanism.calibration import reliability
from repro.mechanism.counterfactuals import counterfactuals

_PARTS = ("architecture", "fusion", "levels", "focus", "gate", "contrast", "aggregation")


def mechanism(model: Tagger, config: Config, test: list[Tweet], predictions: Predictions) -> dict[str, Any]:
    """{"calibration", "alignment", "counterfactuals", "attention"}, None where it does not apply; JSON-ready.

    predictions are the model's of `test`. Counterfactuals need generated images and a system that reads them. Maps of
    the attention are kept of full CLAMP on generated tweets as they are by default, of seed 0 alone: four tweets are
    to look at, not to count.
    """
    batch_size = config.train.batch_size
    gold = [POLARITIES.index(aspect.polarity) for tweet in test for aspect in tweet.aspects]
    sees = config.data.name == "synthetic" and config.data.visual == "image" and model.uses_image
    return {
        "calibration": reliability(predictions.polarities, gold) if gold else None,
        "alignment": alignment(model, test, batch_size),
        "counterfactuals": counterfactuals(model, config.data.synthetic, batch_size) if sees else None,
        "attention": (
            attention_maps(model, test, predictions.spans)
            if sees and isinstance(model, Clamp) and _is_shown(config)
            else None
        ),
    }


def _is_shown(config: Config) -> bool:
    parts, usual = ModelConfig(), SyntheticConfig()
    is_full = all(getattr(config.model, part) == getattr(parts, part) for part in _PARTS)
    synthetic = config.data.synthetic
    is_usual = (synthetic.distractors, synthetic.image_told_share) == (usual.distractors, usual.image_told_share)
    return is_full and is_usual and config.train.seed == 0
