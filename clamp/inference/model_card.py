"""A model's card: what it is, what it was trained on, how it scored and what it is not good for, for the model hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from clamp.config import ModelConfig
from clamp.metrics import scores_from_counts

UNKNOWN = "not recorded"

_CARD = """\
---
library_name: clamp-repro
tags:
- aspect-based-sentiment-analysis
- multimodal
- safetensors
---

# {architecture} for joint aspect and sentiment tagging

Finds every aspect term in a tweet with its image and the sentiment towards it: positive, neutral or negative.
Architecture `{architecture}` of clamp-repro, an open implementation of CLAMP (arXiv 2507.16854), not by its author.

## Use

```python
from clamp.inference.predictor import Predictor
predictor = Predictor.from_pretrained("FOLDER_OR_HUB_ID")
print(predictor("a lovely evening at the river", "photo.jpg"))
```

Only JSON and safetensors are read; no code of this repository is executed.

## Model

| | |
|---|---|
| architecture | {architecture} |
| text encoder | {text} |
| image | {vision} |
| decoder | {decoder} |
| parameters | {parameters} |

## Training

| | |
|---|---|
| data | {data} |
| view of the image | {visual} |
| images | {images} |
| sha256 of the data | {manifest} |
| seed | {seed} |
| best epoch on dev | {best_epoch} |
| sources (hash) | {source_hash} |
| commit | {git_sha} |
| torch | {torch} |
| hardware | {hardware} |
| started | {started} |

## Scores

Exact match, in percent; the checkpoint was selected on dev.

| split | joint precision | joint recall | joint F1 | aspect F1 | polarity accuracy | polarity macro F1 |
|---|---|---|---|---|---|---|
{scores}

## Limits

- The scores hold for data like those that it was trained on: {data}. On other text and images they are unknown.
- Text is read up to {max_tokens} sub-words; later words are never part of an aspect.
- A probability is the model's own and need not be calibrated.
- What attention points at is where the model looked, not why it decided.
- A sentiment towards a name is said by one text of one moment. It is no basis for decisions about people.
"""

_SCORES = (
    ("joint", "precision"), ("joint", "recall"), ("joint", "f1"), ("mate", "f1"), ("masc", "accuracy"),
    ("masc", "macro_f1"),
)  # fmt: skip


def model_card(config: ModelConfig, record: Mapping[str, Any] | None) -> str:
    """The card of a model in Markdown; `record` is its run's result.json, of `clamp train` or of the experiments.

    What that does not say is "not recorded".
    """

    def recorded(*path: str) -> Any:
        value: Any = record
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    manifest = recorded("provenance", "data")
    digests = [f"{name} {digest}" for name, digest in manifest.items()] if isinstance(manifest, Mapping) else []
    return _CARD.format(
        architecture=config.architecture,
        text=_encoder(config.text.weights, config.text.architecture),
        vision=_vision(config, recorded("config", "data", "visual")),
        images=_images(recorded("images") or recorded("result", "images")),
        decoder=config.decoder,
        max_tokens=config.text.max_tokens,
        parameters=_cell(recorded("result", "cost", "parameters")),
        data=_cell(recorded("config", "data", "name")),
        visual=_cell(recorded("config", "data", "visual")),
        manifest=_cell("; ".join(digests) or None),
        seed=_cell(recorded("seed")),
        best_epoch=_cell(recorded("result", "best_epoch")),
        source_hash=_cell(recorded("provenance", "source_hash")),
        git_sha=_cell(recorded("provenance", "git_sha")),
        torch=_cell(recorded("provenance", "packages", "torch")),
        hardware=_cell(recorded("provenance", "hardware")),
        started=_cell(recorded("provenance", "started")),
        scores="\n".join(_score_row(split, recorded("result", "metrics", split)) for split in ("dev", "test")),
    )


def _score_row(split: str, metrics: Any) -> str:
    reports = metrics if isinstance(metrics, Mapping) else {}
    values = [_scores(reports.get(report)).get(name) for report, name in _SCORES]
    return f"| {split} | " + " | ".join(map(_percent, values)) + " |"


def _scores(report: Any) -> Mapping[str, Any]:
    """By name; the experiments' records hold three counts, from which the others follow."""
    if isinstance(report, list) and len(report) == 3:
        return asdict(scores_from_counts([tuple(report)]))
    return report if isinstance(report, Mapping) else {}


def _encoder(weights: str | None, architecture: Mapping[str, Any] | None) -> str:
    kind = _cell((architecture or {}).get("model_type"))
    return f"{kind}, from {_cell(weights)}" if weights else f"{kind}, trained from scratch"


def _images(by_split: Any) -> str:
    """What became of the images of every split."""
    if not isinstance(by_split, Mapping) or not by_split:
        return UNKNOWN
    told = {
        split: ", ".join(f"{counts[what]} {what}" for what in ("read", "present", "absent", "unread") if what in counts)
        for split, counts in by_split.items()
    }
    return _cell("; ".join(f"{split}: {counted}" for split, counted in told.items()))


def _vision(config: ModelConfig, visual: Any) -> str:
    if visual == "none" and config.architecture != "text_only":
        return "not read: trained on words alone"
    if config.architecture in ("text_only", "caption_concat"):
        return "not read" if config.architecture == "text_only" else "read as a caption"
    if config.vision.kind == "conv":
        return f"convolutional stem trained from scratch, {config.vision.image_size} pixels a side"
    if config.vision.kind == "proxy":
        return "read as words that were said of it"
    return _encoder(config.vision.encoder.weights, config.vision.encoder.architecture)


def _cell(value: Any) -> str:
    """As text that cannot break out of its table cell."""
    return UNKNOWN if value is None else " ".join(str(value).split()).replace("|", "\\|") or UNKNOWN


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}" if isinstance(value, int | float) else UNKNOWN
