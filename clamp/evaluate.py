"""A model's predictions on a split, and every score that the tables need of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clamp.config import Level
from clamp.data.bucketing import length_bucketed
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.schema import POLARITIES, Tweet
from clamp.metrics import (
    expected_calibration_error,
    per_tweet_counts,
    polarity_scores,
    scores_from_counts,
    span_scores,
    without_polarity,
)
from clamp.model import Output, Tagger
from clamp.pyramid import Grid, regions_of
from clamp.tagging import Span, polarity_probabilities

UNIFORM = np.full(len(POLARITIES), 1 / len(POLARITIES))


@dataclass
class StagePointing:
    """Where one stage looked for image-told aspects: hits of the argmax, and the mass on distractors.

    `second_hits` count the cell of the figure that the aspect's own one names, where two looks are needed.
    """

    level: Level
    hits: list[float] = field(default_factory=list)
    second_hits: list[float] = field(default_factory=list)
    distractor_mass: list[float] = field(default_factory=list)


@dataclass
class Predictions:
    """Spans of every tweet; polarity probabilities (3,) of every gold aspect, in order; pointing of every stage."""

    spans: list[list[Span]]
    polarities: list[np.ndarray]
    stages: list[StagePointing]


def in_batches(data: EncodedTweets, batch_size: int) -> Iterator[tuple[list[int], Batch]]:
    """Batches of similar length, with the positions of their tweets."""
    for indices in length_bucketed(data.lengths_N2, batch_size):
        yield indices, data.batch(indices)


@torch.no_grad()
def predict(model: Tagger, data: EncodedTweets, *, pointing: bool = False, batch_size: int = 32) -> Predictions:
    """Predictions in the data's order; with `pointing`, also where the stages look. The model is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    pointing = pointing and model.uses_image
    spans: list[list[Span]] = [[] for _ in data.tweets]
    polarities: list[list[np.ndarray]] = [[] for _ in data.tweets]
    stages: list[StagePointing] = []
    for indices, batch in in_batches(data, batch_size):
        batch = batch.to(device)
        output = model(batch, need_attention=pointing)
        log_probs_BTC = output.tag_logits_BTC.float().log_softmax(dim=-1).cpu()
        kept_B = batch.word_mask_BT.sum(dim=1).tolist()
        for b, (index, decoded) in enumerate(zip(indices, model.decode(output, batch), strict=True)):
            spans[index] = decoded
            polarities[index] = _gold_span_polarities(data.tweets[index], log_probs_BTC[b, : kept_B[b]])
        if pointing:
            _point(stages, output, batch)
    return Predictions(spans, [row for rows in polarities for row in rows], stages)


def _gold_span_polarities(tweet: Tweet, log_probs_TC: Tensor) -> list[np.ndarray]:
    """p(polarity) of every gold aspect; uniform, which scoring reads as POS, where truncation cut its words."""
    read = [aspect for aspect in tweet.aspects if aspect.end <= len(log_probs_TC)]
    rows = iter(polarity_probabilities(log_probs_TC[None], [(0, aspect.start, aspect.end) for aspect in read]).numpy())
    return [next(rows) if aspect.end <= len(log_probs_TC) else UNIFORM for aspect in tweet.aspects]


def cells_of_regions(level: Level, grid: Grid, cells: int) -> list[set[int]]:
    """Which cells of the image's cells x cells grid every region of a level overlaps."""
    rows, columns = grid

    def along(index: int, patches: int) -> range:
        return range(index * cells // patches, ((index + 1) * cells - 1) // patches + 1)

    def of_patch(patch: int) -> set[int]:
        row, column = divmod(patch, columns)
        return {down * cells + across for down in along(row, rows) for across in along(column, columns)}

    return [set().union(*map(of_patch, members)) for members in regions_of(level, grid)]


def _point(stages: list[StagePointing], output: Output, batch: Batch) -> None:
    """Add a batch's image-told aspects: argmax region of the head- and word-averaged attention against the gold cell.

    A region that covers several cells scores one part in as many if the gold one is among them. Aspects that truncation
    cut have no attention to look at and are left out.
    """
    if not stages:
        stages += [StagePointing(stage.level) for stage in output.stages]
    kept_B = batch.word_mask_BT.sum(dim=1).tolist()
    for record, stage in zip(stages, output.stages, strict=True):
        assert stage.attention_BTR is not None
        attention_BTR = stage.attention_BTR.float().cpu().numpy()
        for b, tweet in enumerate(batch.tweets):
            told = [a for a in tweet.aspects if a.told_by == "image" and a.end <= kept_B[b]]
            if tweet.image is None or not told:
                continue
            covered = cells_of_regions(stage.level, output.grid, tweet.cells)
            distractors = set(tweet.distractors)
            share_R = np.array([len(cells & distractors) / len(cells) for cells in covered])
            for aspect in told:
                mass_R = attention_BTR[b, aspect.start : aspect.end].mean(axis=0)
                looked_at = covered[int(mass_R.argmax())]
                record.hits.append((aspect.region in looked_at) / len(looked_at))
                if aspect.second_region is not None:
                    record.second_hits.append((aspect.second_region in looked_at) / len(looked_at))
                record.distractor_mass.append(float((mass_R * share_R).sum()))


def gold_spans(tweets: list[Tweet]) -> list[list[Span]]:
    """The annotated (start, end, polarity) of every tweet."""
    return [[(a.start, a.end, a.polarity) for a in tweet.aspects] for tweet in tweets]


def score(predictions: Predictions, tweets: list[Tweet]) -> dict[str, Any]:
    """Joint, MATE and MASC scores and, for generated tweets, pointing; JSON-ready."""
    gold = gold_spans(tweets)
    return {
        "joint": asdict(span_scores(predictions.spans, gold)),
        "mate": asdict(span_scores(without_polarity(predictions.spans), without_polarity(gold))),
        "masc": _polarity_report(predictions, gold),
        "pointing": _pointing_report(predictions.stages),
    }


def _polarity_report(predictions: Predictions, gold: list[list[Span]]) -> dict[str, float | int]:
    labels = [POLARITIES.index(span[2]) for spans in gold for span in spans]
    scores = polarity_scores(predictions.polarities, labels)
    extracted = [
        span[:2] in {predicted[:2] for predicted in found}
        for found, spans in zip(predictions.spans, gold, strict=True)
        for span in spans
    ]
    kept = [k for k, is_extracted in enumerate(extracted) if is_extracted]
    on_extracted = polarity_scores([predictions.polarities[k] for k in kept], [labels[k] for k in kept])
    return {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "n": scores.n,
        "accuracy_on_extracted": on_extracted.accuracy,
        "n_extracted": on_extracted.n,
        "ece": expected_calibration_error(predictions.polarities, labels),
    }


def _pointing_report(stages: list[StagePointing]) -> list[dict[str, Any]] | None:
    if not stages or not stages[0].hits:
        return None
    return [
        {
            "level": stage.level,
            "pointing": float(np.mean(stage.hits)),
            "second_pointing": float(np.mean(stage.second_hits)) if stage.second_hits else None,
            "n": len(stage.hits),
            "distractor_mass": float(np.mean(stage.distractor_mass)),
        }
        for stage in stages
    ]


def counts(predictions: Predictions, tweets: list[Tweet]) -> list[list[int]]:
    """[true positives, predicted, gold] of every tweet."""
    return [list(row) for row in per_tweet_counts(predictions.spans, gold_spans(tweets))]


def joint_f1(predictions: Predictions, tweets: list[Tweet]) -> float:
    """What checkpoints are selected by, on dev."""
    return scores_from_counts(counts(predictions, tweets)).f1
