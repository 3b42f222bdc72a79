"""Does a system read the mouths that matter, and only those? Its labels before and after mouths are redrawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from clamp.config import SyntheticConfig
from clamp.data import Aspect, Tweet
from clamp.data.collate import EncodedTweets
from clamp.evaluate import predict
from clamp.model import Tagger
from clamp.tagging import Span
from repro.evaluate.redrawn_images import Redrawn, redrawn_tweets, redrawn_two_looks
from repro.records.evaluation import COUNTERFACTUAL_TWEETS

Kind = Literal["own", "own_told_by_text", "another_aspect", "distractors"]
KINDS: tuple[Kind, ...] = ("own", "own_told_by_text", "another_aspect", "distractors")


def counterfactuals(model: Tagger, config: SyntheticConfig, batch_size: int) -> dict[str, dict[str, int]]:
    """Of each kind of redrawing, over the aspects whose span was found before: {"n", "unchanged"}, counts.

    "own": the mouth of an aspect that the image tells; its label should follow, and `followed` counts the labels that
    are what the mouth shows now. Labels should stay where a mouth is redrawn that is "own_told_by_text", belongs to
    "another_aspect" of the tweet, or to all its "distractors". A span that is no longer found has changed.
    """
    tweets, changed = redrawn_tweets(config, min(COUNTERFACTUAL_TWEETS, config.test))
    before = _spans(model, tweets, batch_size)
    after = _spans(model, [redrawn.tweet for redrawn in changed], batch_size)
    found: dict[str, dict[str, int]] = {kind: {"n": 0, "unchanged": 0} for kind in KINDS}
    found["own"]["followed"] = 0
    for redrawn, spans in zip(changed, after, strict=True):
        for position, aspect in enumerate(tweets[redrawn.of].aspects):
            was, now = (label_of(aspect, labelled) for labelled in (before[redrawn.of], spans))
            if was is not None:
                kind = _kind(redrawn, position, aspect)
                found[kind]["n"] += 1
                found[kind]["unchanged"] += now == was
                if kind == "own":
                    found[kind]["followed"] += now == redrawn.shows
    return found


def two_look_counterfactuals(model: Tagger, config: SyntheticConfig, batch_size: int) -> dict[str, dict[str, int]]:
    """The same of tweets that need two looks: {"n", "unchanged", "followed"}, counts by kind of redrawing.

    Over the aspects that the image tells and whose span was found before. Labels should follow a redrawn "named_mouth"
    and a "badge" that names another figure; `followed` counts those that are what the image tells now. With another
    "own_mouth" the image tells what it told, so that `followed` counts the labels that are right.
    """
    tweets, changed = redrawn_two_looks(config, min(COUNTERFACTUAL_TWEETS, config.test))
    before = _spans(model, tweets, batch_size)
    found: dict[str, dict[str, int]] = {}
    for kind, of_kind in changed.items():
        after = _spans(model, [redrawn.tweet for redrawn in of_kind], batch_size)
        tally = found[kind] = {"n": 0, "unchanged": 0, "followed": 0}
        for redrawn, spans in zip(of_kind, after, strict=True):
            assert redrawn.aspect is not None
            aspect = tweets[redrawn.of].aspects[redrawn.aspect]
            was, now = (label_of(aspect, labelled) for labelled in (before[redrawn.of], spans))
            if was is not None:
                tally["n"] += 1
                tally["unchanged"] += now == was
                tally["followed"] += now == redrawn.shows
    return found


def _spans(model: Tagger, tweets: list[Tweet], batch_size: int) -> list[list[Span]]:
    return predict(model, EncodedTweets(tweets, model.tokenizer, model.config), batch_size=batch_size).spans


def label_of(aspect: Aspect, spans: Sequence[Span]) -> str | None:
    """The predicted polarity of an annotated span; None where it was not found."""
    return next((polarity for start, end, polarity in spans if (start, end) == (aspect.start, aspect.end)), None)


def _kind(redrawn: Redrawn, position: int, aspect: Aspect) -> Kind:
    if redrawn.aspect is None:
        return "distractors"
    if redrawn.aspect != position:
        return "another_aspect"
    return "own" if aspect.told_by == "image" else "own_told_by_text"
