"""The attention explorer: what its page needs to know of every tweet, of the report's and of anybody's own.

The page (explorer.html.jinja, explorer.css, explorer.js) computes nothing: every sentence, number and image is made
here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from clamp.data import Tweet
from repro.evidence.cells import GENERATED
from repro.evidence.evidence import Evidence
from repro.report.figures.attention_maps import HEAT, mapped_tweets, mass_on

CLAMP, TEXT_ONLY = "CLAMP", "text only"
NOT_FOUND, NOT_KEPT = "not found", "not kept"
POLARITY = {"POS": "positive", "NEU": "neutral", "NEG": "negative"}
_COLOURS = np.asarray(colormaps[HEAT](np.arange(256), bytes=True))[:, :3]
_PIXEL_EXACT = 96  # pixels a side up to which an image is kept as PNG; larger ones are photographs

SpansBySystem = Mapping[str, Sequence[Sequence[Any]] | None]
"""System -> its predicted [start, end, polarity] of a tweet; None where they were not kept."""


def report_explorer(evidence: Evidence) -> dict[str, Any] | None:
    """The explorer of the generated test tweets whose attention was recorded; None where none was."""
    kept = {CLAMP: _examples(evidence, "full"), TEXT_ONLY: _examples(evidence, "text_only")}
    views = []
    for tweet, one in mapped_tweets(evidence):
        index = one["index"]
        spans_of = {system: spans[index] if index < len(spans) else None for system, spans in kept.items()}
        why = f", {one['why']}" if one["why"] else ""
        views.append(view(tweet, one, f"Test tweet {index + 1}{why}", spans_of, is_annotated=True))
    return explorer(views, ["told by", "gold", *kept]) if views else None


def _examples(evidence: Evidence, variant: str) -> list[list[list[Any]]]:
    """The spans of the first test tweets that a system predicted, as of the tweets that CLAMP's maps are of."""
    block = evidence.block(GENERATED)
    cell, full = block.get(variant), block.get("full")
    for evaluation in cell.evaluations if cell and full else ():
        within = evaluation.evaluation.mechanism
        examples = [[list(span) for span in spans] for spans in (within.examples or ())] if within else []
        if cell and full and examples and evaluation.seed in full.by_seed():
            same = [of.by_seed()[evaluation.seed].config["data"]["synthetic"] for of in (cell, full)]
            return examples if same[0] == same[1] else []
    return []


def explorer(views: Sequence[dict[str, Any]], columns: Sequence[str]) -> dict[str, Any]:
    """What explorer.html.jinja shows; `columns` head the cells of every aspect.

    "still" is the view without a script and on paper: the first tweet with an aspect (else the first), its first
    aspect, and that aspect's heat at every stage as an image.
    """
    first = next((one for one in views if one["aspects"]), views[0])
    heats = [_heat_image(stage) for stage in first["stages"]] if first["aspects"] else []
    return {
        "data": {"columns": list(columns), "colours": _COLOURS.tobytes().hex(), "tweets": list(views)},
        "scale": [f"#{_COLOURS[level].tobytes().hex()}" for level in range(0, 256, 51)],
        "still": {"tweet": first, "heats": heats},
        "has_cells": any(one["cells"] for one in views),
        "has_gate": any(gate is not None for one in views for stage in one["stages"] for gate in stage["gate"]),
    }


def view(
    tweet: Tweet, one: dict[str, Any], name: str, spans_of: SpansBySystem, *, is_annotated: bool
) -> dict[str, Any]:
    """One tweet as the page shows it. `one` is its part of `attention_maps`; tweet.image is pixels (H, W, 3) uint8.

    With `is_annotated`, aspects are gold ones and labels right or wrong; else they are those that CLAMP predicts.
    """
    assert isinstance(tweet.image, np.ndarray)
    return {
        "name": name,
        "words": one["words"],
        "image": _data_uri(tweet.image),
        "cells": one["cells"],
        "distractors": one["distractors"],
        "summary": _summary(one, spans_of, is_annotated),
        "also": _also(one, spans_of, is_annotated),
        "aspects": [
            {
                "start": aspect["start"],
                "end": aspect["end"],
                "cell": aspect["region"],
                "labels": _labels(aspect, spans_of, is_annotated),
            }
            for aspect in one["aspects"]
        ],
        "stages": [_stage(number, stage, one) for number, stage in enumerate(one["stages"], 1)],
    }


def _data_uri(pixels_HW3: np.ndarray) -> str:
    kind = "png" if max(pixels_HW3.shape[:2]) <= _PIXEL_EXACT else "jpeg"
    stream = io.BytesIO()
    Image.fromarray(pixels_HW3).save(stream, format=kind, quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _label(system: str, aspect: dict[str, Any], spans_of: SpansBySystem) -> str | None:
    """The polarity that a system gives an aspect, or NOT_FOUND; None where its predictions were not kept."""
    if system == CLAMP:
        return aspect["predicted"] or NOT_FOUND
    spans = spans_of[system]
    if spans is None:
        return None
    place = (aspect["start"], aspect["end"])
    return next((polarity for start, end, polarity in spans if (start, end) == place), NOT_FOUND)


def _labels(aspect: dict[str, Any], spans_of: SpansBySystem, is_annotated: bool) -> list[str]:
    labels = [str(aspect["told_by"]), POLARITY[aspect["gold"]]] if is_annotated else []
    for system in spans_of:
        label = _label(system, aspect, spans_of)
        judged = is_annotated and label in POLARITY
        verdict = (", right" if label == aspect["gold"] else ", wrong") if judged else ""
        labels.append(NOT_KEPT if label is None else POLARITY.get(label, label) + verdict)
    return labels


def _summary(one: dict[str, Any], spans_of: SpansBySystem, is_annotated: bool) -> str:
    aspects = one["aspects"]
    number = f"{len(aspects) or 'no'} aspect{'' if len(aspects) == 1 else 's'}"
    labels = {system: [_label(system, aspect, spans_of) for aspect in aspects] for system in spans_of}
    known = {system: row for system, row in labels.items() if None not in row} if is_annotated else {}
    gold = [aspect["gold"] for aspect in aspects]
    right = [f"{system} {sum(map(str.__eq__, map(str, row), gold))} right" for system, row in known.items()]
    return "; ".join([number, *right])


def _also(one: dict[str, Any], spans_of: SpansBySystem, is_annotated: bool) -> list[str]:
    """What systems predicted beside the aspects that are shown."""
    places = {(aspect["start"], aspect["end"]) for aspect in one["aspects"]}
    beside = "no annotated aspect" if is_annotated else "no aspect to CLAMP"
    return [
        f"{system[0].upper()}{system[1:]} also finds “{' '.join(one['words'][start:end])}” ({POLARITY[polarity]}), "
        f"which is {beside}."
        for system, spans in spans_of.items()
        for start, end, polarity in spans or ()
        if (start, end) not in places
    ]


def _stage(number: int, stage: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """A stage's heat for each aspect: a byte a region, as hexadecimal digits, 255 at the map's highest."""
    rows, columns = stage["grid"]
    maps = [np.array(map_R) for map_R in stage["maps"]]
    return {
        "title": f"Stage {number}",
        "regions": f"{stage['level']}, {rows} × {columns} regions",  # noqa: RUF001
        "rows": rows,
        "columns": columns,
        "heat": [np.rint(255 * map_R / max(map_R.max(), 1e-9)).astype(np.uint8).tobytes().hex() for map_R in maps],
        "peak": [int(map_R.argmax()) for map_R in maps],
        "gate": stage["gate"] or [None] * len(maps),
        "says": [_says(row, map_R, stage, one) for row, map_R in enumerate(maps)],
    }


def _says(row: int, map_R: np.ndarray, stage: dict[str, Any], one: dict[str, Any]) -> str:
    down, across = divmod(int(map_R.argmax()), stage["grid"][1])
    highest = f"Highest: {_percent(map_R.max())} at row {down + 1}, column {across + 1}"
    if not one["cells"]:
        return f"{highest}."
    own = mass_on(stage, row, [one["aspects"][row]["region"]], one)
    others = mass_on(stage, row, one["distractors"], one)
    return f"{highest}. On its own cell {_percent(own)}, on distractors {_percent(others)}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _heat_image(stage: dict[str, Any]) -> str:
    levels_RC = np.frombuffer(bytes.fromhex(stage["heat"][0]), np.uint8).reshape(stage["rows"], stage["columns"])
    return _data_uri(_COLOURS[levels_RC])
