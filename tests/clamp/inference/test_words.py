"""How a text is split into words."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamp.inference.words import split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hi \U0001f468\u200d\U0001f469\u200d\U0001f467!", ["hi", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "!"]),
        ("\u2764\ufe0f\u2764\ufe0f", ["\u2764\ufe0f", "\u2764\ufe0f"]),
        ("\U0001f44d\U0001f3fdok", ["\U0001f44d\U0001f3fd", "ok"]),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"]),
        ("1\ufe0f\u20e3", ["1\ufe0f\u20e3"]),
    ],
)
def test_an_emoji_is_one_word(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in split_words(text)] == words


@given(text=st.text(max_size=60))
@settings(max_examples=100)
def test_words_are_all_of_the_text_but_its_spaces(text: str) -> None:
    places = split_words(text)
    assert "".join(text[start:end] for start, end in places) == "".join(text.split())
    assert all(start < end for start, end in places)
    assert all(before[1] <= after[0] for before, after in pairwise(places))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RT @a_b: #Sale's 1.2!", "RT @ a_b : # Sale ' s 1 . 2 !"),
        ("हिन्दी में é ok", "हिन्दी में é ok"),
        ("a-b…😂😂", "a - b … 😂 😂"),
    ],
)
def test_words_are_split_as_the_annotated_tweets_are(text: str, words: str) -> None:
    assert [text[start:end] for start, end in split_words(text)] == words.split()
