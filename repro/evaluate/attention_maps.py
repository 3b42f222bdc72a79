"""Where each stage looks for each aspect of a few test tweets, and how far its gate opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clamp.config import Level
from clamp.data import Tweet
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.synthetic import MAX_ASPECTS
from clamp.model import Clamp, Output
from clamp.pyramid import Grid
from clamp.tagging import Span
from repro.evaluate.counterfactuals import label_of


def chosen(tweets: Sequence[Tweet], spans: Sequence[Sequence[Span]]) -> dict[int, str]:
    """Index -> why, by a rule that leaves nothing to choose by hand.

    The first tweet with one, two and three aspects of which the image tells one or more, and the first other tweet
    with an aspect that was found and given another polarity than its own.
    """

    def has(number: int) -> Callable[[int], bool]:
        return lambda index: (
            len(tweets[index].aspects) == number and any(a.told_by == "image" for a in tweets[index].aspects)
        )

    def is_wrong(index: int) -> bool:
        return any(label_of(a, spans[index]) not in (None, a.polarity) for a in tweets[index].aspects)

    rules = {
        f"the first with {number} aspect{'s' if number > 1 else ''}": has(number)
        for number in range(1, MAX_ASPECTS + 1)
    } | {"the first other with a wrong polarity": is_wrong}
    found: dict[int, str] = {}
    for why, fits in rules.items():
        index = next((k for k in range(len(tweets)) if k not in found and fits(k)), None)
        if index is not None:
            found[index] = why
    return found


@torch.no_grad()
def attention_maps(
    model: Clamp, tweets: Sequence[Tweet], spans: Sequence[Sequence[Span]], reasons: Mapping[int, str | None]
) -> list[dict[str, Any]]:
    """Those of `tweets` that `reasons` lists by index, with why (None: no reason of their own), JSON-ready; no pixels.

    `spans` are the predicted ones of all `tweets`.

    Of every stage: its level, the grid of its regions and, for each aspect, the attention over them (averaged over
    heads and the aspect's words) and the mean opening of the gate (over the aspect's words and all D; None without a
    gate).
    """
    if not reasons:
        return []
    shown = [tweets[index] for index in reasons]
    batch = EncodedTweets(shown, model.tokenizer, model.config).batch(range(len(shown)))
    output, gates = _forward(model, batch.to(next(model.parameters()).device))
    return [
        {
            "index": index,
            "why": why,
            "words": list(tweet.words),
            "cells": tweet.cells,
            "distractors": list(tweet.distractors),
            "aspects": [
                {
                    "start": aspect.start,
                    "end": aspect.end,
                    "region": aspect.region,
                    "told_by": aspect.told_by,
                    "gold": aspect.polarity,
                    "predicted": label_of(aspect, spans[index]),
                }
                for aspect in tweet.aspects
            ],
            "stages": [_stage(tweet, b, output, k, gates[k]) for k in range(len(output.stages))],
        }
        for b, (index, why, tweet) in enumerate(zip(reasons, reasons.values(), shown, strict=True))
    ]


def _forward(model: Clamp, batch: Batch) -> tuple[Output, list[Tensor | None]]:
    """The output with attention, and each stage's gate (B, T, D) as it opened."""
    logits: dict[int, Tensor] = {}
    gates = {k: stage.gate for k, stage in enumerate(model.fusion.stages) if isinstance(stage.gate, nn.Module)}
    hooks = [
        gate.register_forward_hook(lambda _, __, out_BTD, k=k: logits.__setitem__(k, out_BTD))
        for k, gate in gates.items()
    ]
    try:
        output = model(batch, need_attention=True)
    finally:
        for hook in hooks:
            hook.remove()
    return output, [logits[k].float().sigmoid().cpu() if k in logits else None for k in range(len(output.stages))]


def _stage(tweet: Tweet, b: int, output: Output, k: int, gate_BTD: Tensor | None) -> dict[str, Any]:
    stage = output.stages[k]
    assert stage.attention_BTR is not None
    attention_TR = stage.attention_BTR[b].float().cpu().numpy()
    maps = [attention_TR[aspect.start : aspect.end].mean(axis=0) for aspect in tweet.aspects]
    gates = None
    if gate_BTD is not None:
        gates = [round(float(gate_BTD[b, aspect.start : aspect.end].mean()), 4) for aspect in tweet.aspects]
    return {
        "level": stage.level,
        "grid": list(grid_of(stage.level, output.grid)),
        "maps": [np.round(map_R.astype(np.float64), 4).tolist() for map_R in maps],
        "gate": gates,
    }


def grid_of(level: Level, grid: Grid) -> Grid:
    """The rows and columns that the regions of an image's level lie on."""
    rows, columns = grid
    if level == "pooled":
        return -(-rows // 2), -(-columns // 2)
    return grid if level == "patch" else (1, 1)
