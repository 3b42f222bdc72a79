"""Everything that is measured of a checkpoint's inner workings, in one dict."""

from __future__ import annotations

from typing import Any

from clamp.config import Config, ModelConfig, SyntheticConfig
from clamp.data import Tweet
from clamp.data.collate import EncodedTweets
from clamp.data.schema import POLARITIES
from clamp.evaluate import Predictions
from clamp.model import Clamp, Tagger
from repro.evaluate.alignment import alignment
from repro.evaluate.attention_maps import attention_maps, chosen
from repro.evaluate.calibration import reliability
from repro.evaluate.counterfactuals import counterfactuals, two_look_counterfactuals

EXAMPLES = 20
_PARTS = ("architecture", "fusion", "levels", "focus", "gate", "contrast", "aggregation")


def mechanism(model: Tagger, config: Config, data: EncodedTweets, predictions: Predictions) -> dict[str, Any]:
    """{"calibration", "alignment", "counterfactuals", "two_looks", "attention", "examples"}, None where one does not
    apply.

    JSON-ready. predictions are the model's of `data`, the test split. Counterfactuals need generated images and a
    system that reads them; "two_looks" has those of tweets that need two. What is there to look at and not to count is
    kept of seed 0 alone and of generated tweets as they are by default: every system's spans of the first EXAMPLES
    tweets, and full CLAMP's attention in these and four more.
    """
    batch_size, test = config.train.batch_size, data.tweets
    gold = [POLARITIES.index(aspect.polarity) for tweet in test for aspect in tweet.aspects]
    is_generated = config.data.name == "synthetic" and config.data.visual == "image"
    sees = is_generated and model.uses_image
    is_shown = is_generated and _is_usual(config)
    synthetic = config.data.synthetic
    return {
        "calibration": reliability(predictions.polarities, gold) if gold else None,
        "alignment": alignment(model, data, batch_size),
        "counterfactuals": counterfactuals(model, synthetic, batch_size) if sees and synthetic.looks == 1 else None,
        "two_looks": two_look_counterfactuals(model, synthetic, batch_size) if sees and synthetic.looks == 2 else None,
        "attention": (
            attention_maps(model, test, predictions.spans, _shown(test, predictions))
            if is_shown and isinstance(model, Clamp) and _is_full(config)
            else None
        ),
        "examples": ([[list(span) for span in spans] for spans in predictions.spans[:EXAMPLES]] if is_shown else None),
    }


def _shown(test: list[Tweet], predictions: Predictions) -> dict[int, str | None]:
    reasons = chosen(test, predictions.spans)
    return {**reasons, **{index: None for index in range(min(EXAMPLES, len(test))) if index not in reasons}}


def _is_full(config: Config) -> bool:
    parts = ModelConfig()
    return all(getattr(config.model, part) == getattr(parts, part) for part in _PARTS)


def _is_usual(config: Config) -> bool:
    usual, synthetic = SyntheticConfig(), config.data.synthetic
    knobs = ("distractors", "image_told_share", "looks")
    return config.train.seed == 0 and all(getattr(synthetic, knob) == getattr(usual, knob) for knob in knobs)
