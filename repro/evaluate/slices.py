"""Where on real tweets does the image help? Counts of spans by what the tweet is like and its image is said to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from clamp.config import ProxyField
from clamp.data import DataError, Tweet, load_twitter
from clamp.data.schema import POLARITIES, Polarity
from clamp.evaluate import gold_spans
from clamp.tagging import Span

SliceCounts = dict[str, list[int]]  # value -> spans right, predicted, gold
SliceName = Literal["named", "polarity", "aspects", "mood"]
SLICES: dict[SliceName, tuple[str, ...]] = {  # and the values by which the tweets' spans are divided
    "named": ("named", "not named"),
    "polarity": POLARITIES,
    "aspects": ("1", "2", "3 or more"),
    "mood": ("as the image", "against the image", "neither"),
}
_WORDS: tuple[ProxyField, ...] = ("caption_blip2", "captions")  # what tools that read no mood said of an image
_MOOD = re.compile(r"The image expresses (Positive|Neutral|Negative)\b")
_MOODS: dict[str, Polarity] = {"Positive": "POS", "Neutral": "NEU", "Negative": "NEG"}
_OPPOSITE: dict[Polarity, Polarity] = {"POS": "NEG", "NEG": "POS"}


def sliced_counts(
    name: str, spans: Sequence[Sequence[Span]], tweets: Sequence[Tweet], root: Path | None
) -> dict[SliceName, SliceCounts]:
    """Slice -> value -> [right, predicted, gold] of the predicted `spans` of a real data set's test tweets.

    root is the folder of the data sets. Slices for which it has nothing said of the images are left out.
    """
    by_aspects = _by_tweet(spans, tweets, _number)
    found: dict[SliceName, SliceCounts] = {
        "polarity": _count(spans, tweets, lambda _, span: span[2]),
        "aspects": by_aspects,
    }
    if root is None:
        return found
    said, moods = (_said(root / name, fields, len(tweets)) for fields in (_WORDS, ("emotion",)))
    if said is not None:
        words = [f" {' '.join(_words([text]))} " for text in said]
        found["named"] = _count(
            spans,
            tweets,
            lambda k, span: "named" if _is_named(tweets[k].words[span[0] : span[1]], words[k]) else "not named",
        )
    if moods is not None:
        in_mood = [_mood(text) for text in moods]
        found["mood"] = _by_tweet(spans, tweets, lambda k, tweet: _against(tweet, in_mood[k]))
    return found


def _said(folder: Path, fields: Sequence[ProxyField], count: int) -> list[str] | None:
    """What these fields say of each test tweet's image; None where they are not there."""
    try:
        tweets = load_twitter(folder, "test", visual="proxy", proxy_fields=fields)
    except DataError:
        return None
    return [tweet.proxy_text for tweet in tweets] if len(tweets) == count else None


def _count(
    spans: Sequence[Sequence[Span]], tweets: Sequence[Tweet], value: Callable[[int, Span], str | None]
) -> SliceCounts:
    """Of each value: a right span has the same one as the gold span that it is. A span without one is left out."""
    counts: SliceCounts = {}
    for k, (predicted, gold) in enumerate(zip(map(set, spans), map(set, gold_spans(list(tweets))), strict=True)):
        for column, some in enumerate((predicted & gold, predicted, gold)):
            for span in some:
                if (of := value(k, span)) is not None:
                    counts.setdefault(of, [0, 0, 0])[column] += 1
    return counts


def _by_tweet(
    spans: Sequence[Sequence[Span]], tweets: Sequence[Tweet], value: Callable[[int, Tweet], str | None]
) -> SliceCounts:
    """Where all spans of a tweet have its value."""
    values = [value(k, tweet) for k, tweet in enumerate(tweets)]
    return _count(spans, tweets, lambda k, _: values[k])


def _number(_: int, tweet: Tweet) -> str | None:
    number = len(tweet.aspects)
    return None if not number else str(number) if number < 3 else "3 or more"


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"\w+", text.casefold())]


def _is_named(aspect: Sequence[str], text: str) -> bool:
    """Whether the aspect's words stand in the text one after the other; cases and signs do not count."""
    words = _words(aspect)
    return bool(words) and f" {' '.join(words)} " in text


def _mood(text: str) -> Polarity | None:
    """The image's mood, as it was said in the form in which it was asked for."""
    said = _MOOD.match(text)
    return _MOODS[said[1]] if said else None


def _against(tweet: Tweet, mood: Polarity | None) -> str | None:
    """Of a tweet with aspects and an image of known mood: whether the words' polarities are that, or its opposite."""
    polarities = {aspect.polarity for aspect in tweet.aspects}
    if mood is None or not polarities:
        return None
    if _OPPOSITE.get(mood) in polarities:
        return "against the image"
    return "as the image" if polarities == {mood} else "neither"
