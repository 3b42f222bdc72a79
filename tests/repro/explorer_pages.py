"""Pages with an explorer, for its tests: made-up records, and tweets of one's own under an untrained model."""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from builders import tiny_config, tiny_model
from made_up import evaluation, evidence_of, record
from PIL import Image

from clamp.config import SyntheticConfig
from clamp.data import Tweet
from clamp.model import Clamp
from repro.evaluate.attention_maps import attention_maps
from repro.evaluate.redrawn_images import first_test_tweets
from repro.evidence.evidence import Evidence

KEPT = 20
CHOSEN = {22: "one made-up reason", 3: "another made-up reason"}
HOSTILE = '</script><img/src=x/onerror=document.title="hit"><!--{{7*7}}'


def pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@cache
def generated() -> tuple[Tweet, ...]:
    return tuple(first_test_tweets(SyntheticConfig(), 25))


@cache
def _maps(name: str) -> list[dict[str, Any]]:
    """By an untrained model; every aspect is found, but the second of a tweet never, and a third is wrong."""
    labels = [
        [(a.start, a.end, a.polarity if k == 0 else "NEU") for k, a in enumerate(tweet.aspects) if k != 1]
        for tweet in generated()
    ]
    reasons = {**CHOSEN, **{k: None for k in range(KEPT) if k not in CHOSEN}} if name == "rich" else dict(CHOSEN)
    model = tiny_model(tiny_config().model)
    assert isinstance(model, Clamp)
    return attention_maps(model, generated(), labels, reasons)


def made_up_evidence(name: str) -> Evidence:
    """ "rich": as evaluations are today; "old": without the first tweets and without any system's spans."""
    records = [record("full"), record("text_only")]
    evaluations = [evaluation(r) for r in records]
    full, text_only = (e["evaluation"]["mechanism"] for e in evaluations)
    full["attention"] = json.loads(json.dumps(_maps(name)))
    if name == "rich":
        gold = [[[a.start, a.end, a.polarity] for a in tweet.aspects] for tweet in generated()[:KEPT]]
        full["examples"] = gold
        text_only["examples"] = [
            [*spans, [len(t.words) - 1, len(t.words), "NEG"]] for spans, t in zip(gold, generated(), strict=False)
        ]
    return evidence_of(records, evaluations)


def save_models(folder: Path) -> tuple[Path, Path]:
    """An untrained CLAMP that finds aspects, and an untrained text only."""
    model = tiny_model(tiny_config().model, seed=1)
    model.save_pretrained(folder / "clamp")
    tiny_model(tiny_config(model__architecture="text_only").model, seed=2).save_pretrained(folder / "text_only")
    return folder / "clamp", folder / "text_only"


def write_own(folder: Path, tweets: int) -> Path:
    """A file of tweets, hostile words and an image larger than the model's among them, and their images."""
    images = folder / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for k in range(tweets):
        Image.fromarray(rng.integers(0, 256, (40 + 30 * (k % 3), 90, 3), dtype=np.uint8)).save(images / f"{k}.png")
        words = [*generated()[k % 25].words, HOSTILE]
        lines.append(json.dumps({"words": words, "image": f"{k}.png"}))
    (folder / "own.jsonl").write_text("\n".join(lines) + "\n\n")
    return folder / "own.jsonl"


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and the data of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        (found,) = [s for s, (_, a) in zip(self.scripts, self.of("script"), strict=True) if "type" in a]
        return json.loads(found)

    def of(self, tag: str) -> list[tuple[str, dict[str, str | None]]]:
        return [(name, attributes) for name, attributes in self.tags if name == tag]

    def loads(self) -> list[str]:
        """Every address that the page would load or lead to, but data within it and places within it."""
        values = [a.get(key) or "" for _, a in self.tags for key in ("src", "href", "srcset", "action", "data")]
        styled = [a["style"] or "" for _, a in self.tags if "style" in a]
        return [v for v in values if v and not v.startswith(("data:image/", "#"))] + [s for s in styled if "url" in s]
