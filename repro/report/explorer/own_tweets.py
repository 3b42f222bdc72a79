"""Where a trained CLAMP looks in anybody's own tweets: one page, the report's explorer without gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from clamp.baselines import TextOnly
from clamp.config import ConfigError
from clamp.corpus.readers import read_rows
from clamp.corpus.request import first_image, image_folders
from clamp.data import Aspect, DataError, Tweet
from clamp.data.collate import EncodedTweets
from clamp.data.images import ImageAbsentError, read_image
from clamp.data.schema import Polarity
from clamp.evaluate import predict
from clamp.inference.request_record import BadRecord, RequestRecord, one_line, record_of
from clamp.model import Clamp, Tagger
from clamp.tagging import Span
from repro.evaluate.attention_maps import attention_maps
from repro.report.explorer.pages import CLAMP, TEXT_ONLY, explorer, view
from repro.report.templates import render

MOST = 200  # tweets a page: with its images it stays of some megabytes
_BATCH = 16


def own_page(model_folder: Path, file: Path, images: Path | None, text_only_folder: Path | None) -> str:
    """The page of the tweets in `file` as HTML that needs no other file.

    ConfigError or DataError names the folder, the record or the image that cannot be used.
    """
    tweets = read_tweets(file, images)
    model = _loaded(Clamp, model_folder)
    if model.config.vision.kind == "proxy":
        raise ConfigError(f"{model_folder}: this model reads descriptions in place of images: it has no image regions")
    seen, missing = _as_seen(model, tweets)
    spans = {CLAMP: _predicted(model, seen)}
    if text_only_folder is not None:
        unseen = [replace(tweet, image=None) for tweet in tweets]
        spans[TEXT_ONLY] = _predicted(_loaded(TextOnly, text_only_folder), unseen)
    views = []
    for number, (tweet, one) in enumerate(zip(seen, _maps(model, seen, spans[CLAMP]), strict=True)):
        name, shown = f"Tweet {number + 1}", one
        if number in missing:  # there was nothing to look at: its words and labels alone
            name, shown = f"{name} ({missing[number]})", one | {"stages": []}
            tweet = replace(tweet, image=_blank(model))
        found = {system: of[number] for system, of in spans.items()}
        views.append(view(tweet, shown, name, found, is_annotated=False))
    return render(
        "explore.html.jinja",
        title=f"Where CLAMP looks: {file.name}",
        introduction=(
            f"{len(tweets)} tweet{'s' if len(tweets) > 1 else ''} of {file.name}, and the image regions that each "
            "stage of a trained CLAMP looked at. Choose a tweet, then point at an aspect. Aspects and polarities are "
            "predictions: nothing here says whether they are right. Images are as the model sees them: resized to a "
            f"square of {model.config.vision.image_size} pixels. {_said_of(missing)}"
        ),
        explorer=explorer(views, list(spans)),
    )


def read_tweets(file: Path, images: Path | None) -> list[Tweet]:
    """The tweets of a corpus as `clamp predict` reads it, at most MOST; their images are sought as there.

    DataError names the line that cannot be used, and why.
    """
    tweets: list[Tweet] = []
    folders = image_folders(file, images)
    for row in read_rows(file):
        if len(tweets) == MOST:
            raise DataError(file, None, f"more than {MOST} tweets, the most that a page holds; split the file")
        try:
            tweets.append(_tweet(record_of(row), row.line, folders))
        except BadRecord as error:
            raise DataError(f"{file}: line {row.line}", None, one_line(str(error))) from None
    if not tweets:
        raise DataError(file, None, "there is no tweet in it")
    return tweets


def _tweet(record: RequestRecord, line: int, folders: Sequence[Path]) -> Tweet:
    image = first_image(folders, record.image) if isinstance(record.image, str) else record.image
    return Tweet(id=str(line), words=record.words, aspects=(), image=image)  # type: ignore[arg-type]  # content, too


_Model = TypeVar("_Model", bound=Tagger)


def _loaded(kind: type[_Model], folder: Path) -> _Model:
    return kind.from_pretrained(folder).to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _as_seen(model: Clamp, tweets: Sequence[Tweet]) -> tuple[list[Tweet], dict[int, str]]:
    """The tweets with their images at the model's own size, as pixels, and why some have none, by index."""
    seen, missing = [], {}
    for number, tweet in enumerate(tweets):
        pixels = None
        if tweet.image is None:
            missing[number] = "no image"
        else:
            try:
                pixels = read_image(tweet.image)  # type: ignore[arg-type]
            except DataError as error:
                missing[number] = "image absent" if isinstance(error, ImageAbsentError) else "image unreadable"
        if pixels is not None:
            one = EncodedTweets([replace(tweet, image=pixels)], model.tokenizer, model.config).batch([0]).pixels_BCHW
            assert one is not None
            pixels = np.ascontiguousarray(one[0].permute(1, 2, 0).numpy())
        seen.append(replace(tweet, image=pixels))
    return seen, missing


def _said_of(missing: dict[int, str]) -> str:
    if not missing:
        return ""
    return f"{len(missing)} of the tweets have no image that could be read: of those the page shows words and labels."


def _blank(model: Clamp) -> np.ndarray:
    side = model.config.vision.image_size
    return np.full((side, side, 3), 255, np.uint8)


def _predicted(model: Tagger, tweets: Sequence[Tweet]) -> list[list[Span]]:
    return predict(model, EncodedTweets(tweets, model.tokenizer, model.config), batch_size=_BATCH).spans


def _maps(model: Clamp, tweets: Sequence[Tweet], spans: Sequence[Sequence[Span]]) -> list[dict[str, Any]]:
    """`attention_maps` of the predicted aspects of all tweets, some at a time."""
    labelled = [
        replace(tweet, aspects=tuple(Aspect(start, end, cast(Polarity, polarity)) for start, end, polarity in of))
        for tweet, of in zip(tweets, spans, strict=True)
    ]
    parts = [slice(start, start + _BATCH) for start in range(0, len(tweets), _BATCH)]
    every = [
        attention_maps(model, labelled[part], spans[part], dict.fromkeys(range(len(labelled[part])))) for part in parts
    ]
    return [one for part in every for one in part]
