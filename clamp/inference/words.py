"""From a tweet as typed to words, as the annotated tweets have them."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_JOINERS = "\u200c\u200d"  # within words of Persian and of Indic scripts
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
# What changes the sign before it: text or emoji form, skin tone, keycap, the tags of regional flags.
_CHANGES = "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\u20e3\U000e0020-\U000e007f]*"
_SIGN = rf"[^\w\s]{_CHANGES}(?:\u200d[^\w\s]{_CHANGES})*"  # a family is several signs, joined


@cache
def _word() -> re.Pattern[str]:
    # re's \w knows no combining marks: without them a word of Hindi would fall apart at its vowels. Those beyond the
    # basic plane, of scripts that tweets hardly have, would make the search several times as slow.
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[\w{_JOINERS}{marks}]+|{_FLAG}|{_SIGN}")


def split_words(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word, in characters: runs of letters, digits and underscores; any other sign stands
    alone, and an emoji of several characters is one sign.

    So are the tweets of Twitter-2015 and 2017 split: "#sale", "you're" and "1.2" are 2, 3 and 3 words.
    """
    return [match.span() for match in _word().finditer(text)]
