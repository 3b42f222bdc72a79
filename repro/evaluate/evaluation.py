"""What a trained system does on other tweets than those of its data set, and under other rules of scoring.

Nothing is trained here: the checkpoint that was best on dev is read, once, and predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clamp.baselines import ARCHITECTURES
from clamp.config import Config
from clamp.data import Tweet
from clamp.data.collate import EncodedTweets
from clamp.data.schema import POLARITIES
from clamp.evaluate import Predictions, gold_spans, in_batches, predict, score
from clamp.metrics import per_tweet_counts
from clamp.model import Tagger
from clamp.tagging import TAGS, Span, TagDecoder
from clamp.training.frozen_features import encoded_for
from clamp.training.kept_features import shared_in
from repro.evaluate.conditions import OTHERS_IMAGE, conditions
from repro.evaluate.mechanism import mechanism
from repro.evaluate.scoring_rules import joint_f1_by_rule, polarity_f1_by_rule
from repro.evaluate.slices import sliced_counts


def evaluate(
    config: Config, model_folder: Path, test: list[Tweet], root: Path | None, features: Path
) -> dict[str, Any]:
    """{"clean": scores, "conditions": {name: scores}, "rules": {...}, "mechanism": {...}, "slices": {...}}, JSON-ready.

    Scores are as in a record's metrics; `repro.evaluate.mechanism` and `slices` (real tweets alone) say what the last
    parts hold. With others' images each tweet's counts are kept too: whether the image is used is tested over tweets.
    config is the run's, model_folder its best checkpoint, root the folder of the real data sets, `features` the one
    where what frozen encoders say stays.
    """
    model = ARCHITECTURES[config.model.architecture].from_pretrained(model_folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    batch_size = config.train.batch_size
    keep = shared_in(features) if config.train.feature_cache else None
    data = encoded_for(model, test, keep)
    predictions = predict(model, data, batch_size=batch_size)
    is_real = config.data.name != "synthetic"
    return {
        "clean": _scores(predictions, test),
        "conditions": {
            name: _changed_scores(
                model,
                encoded_for(model, condition.change(test, config), keep),
                batch_size,
                per_tweet=name == OTHERS_IMAGE,
            )
            for name, condition in conditions(config, root).items()
        },
        "rules": _rules(model, data, predictions, batch_size),
        "mechanism": mechanism(model, config, data, predictions),
        "slices": sliced_counts(config.data.name, predictions.spans, test, root) if is_real else {},
    }


def _changed_scores(model: Tagger, data: EncodedTweets, batch_size: int, *, per_tweet: bool) -> dict[str, Any]:
    predictions = predict(model, data, batch_size=batch_size)
    scores = _scores(predictions, data.tweets)
    if not per_tweet:
        return scores
    return {**scores, "per_tweet": [list(one) for one in per_tweet_counts(predictions.spans, gold_spans(data.tweets))]}


def _scores(predictions: Predictions, tweets: list[Tweet]) -> dict[str, Any]:
    found = score(predictions, tweets)
    return {"joint": found["joint"], "mate": found["mate"], "masc_accuracy": found["masc"]["accuracy"]}


@dataclass
class _Tagged:
    """Each word's most probable tag, and the spans of the best well-formed path, by tweet."""

    tags: list[list[str]]
    viterbi: list[list[Span]]


@torch.no_grad()
def _tagged(model: Tagger, data: EncodedTweets, batch_size: int) -> _Tagged:
    found = _Tagged([[] for _ in data.tweets], [[] for _ in data.tweets])
    well_formed = TagDecoder("viterbi")
    for indices, batch in in_batches(data, batch_size):
        batch = batch.to(next(model.parameters()).device)
        logits_BTC, mask_BT = model(batch).tag_logits_BTC.float().cpu(), batch.word_mask_BT.cpu()
        best_BT = logits_BTC.argmax(dim=-1).tolist()
        for b, (index, spans) in enumerate(zip(indices, well_formed.decode(logits_BTC, mask_BT), strict=True)):
            found.tags[index] = [TAGS[tag] for tag in best_BT[b][: int(mask_BT[b].sum())]]
            found.viterbi[index] = spans
    return found


def _rules(
    model: Tagger, data: EncodedTweets, predictions: Predictions, batch_size: int
) -> dict[str, dict[str, float]]:
    tagged = _tagged(model, data, batch_size)
    gold = [POLARITIES.index(aspect.polarity) for tweet in data.tweets for aspect in tweet.aspects]
    return {
        "joint": joint_f1_by_rule(tagged.tags, tagged.viterbi, data.tweets),
        "masc": polarity_f1_by_rule(np.array(predictions.polarities), gold),
    }
