"""From a tweet as typed to words, as the annotated tweets have them."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_JOINERS = "\u200c\u200d"  # within words of Persian and of Indic scripts


@cache
def _word() -> re.Pattern[str]:
    # re's \w knows no combining marks: without them a word of Hindi would fall apart at its vowels. Those beyond the
    # basic plane, of scripts that tweets hardly have, would make the search several times as slow.
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[\w{_JOINERS}{marks}]+|\S")


def split_words(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word, in characters: runs of letters, digits and underscores; any other sign stands alone.

    So are the tweets of Twitter-2015 and 2017 split: "#sale", "you're" and "1.2" are 2, 3 and 3 words.
    """
    return [match.span() for match in _word().finditer(text)]
