"""The visual proxy: what independent tools said of an image, as sentences for models that see no pixels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter
from pydantic.dataclasses import dataclass as form

from clamp.config import ProxyField
from clamp.data.files import read_json
from clamp.data.schema import DataError

_CLOSING = r"""["')\]\u201d\u2019]*"""  # quotes and brackets that end with their sentence
_BETWEEN = re.compile(rf"(?<=[.!?])({_CLOSING})\s+(?=[\"'(\[\u201c\u2018]*[A-Z])")
_ENDED = re.compile(rf"[.!?]{_CLOSING}$")


@form(frozen=True)
class _Face:
    emotion: Annotated[dict[str, FiniteFloat], Field(min_length=1)]


@form(frozen=True)
class _Proxy:
    caption: str | None = None
    faces: list[_Face] | None = None
    description: str | None = None
    caption_blip2: str | None = None
    emotion: str | None = None
    captions: list[str] | None = None


_JSON_FORM = TypeAdapter(dict[str, _Proxy])


def _tell_faces(faces: Iterable[_Face]) -> str:
    """One sentence: how many faces, and how many show which emotion most."""
    strongest = Counter(max(sorted(face.emotion), key=face.emotion.__getitem__) for face in faces)
    if not strongest:
        return "No face."
    count = strongest.total()
    emotions = ", ".join(f"{number} {emotion}" for emotion, number in sorted(strongest.items()))
    return f"{count} face{'s' if count > 1 else ''}: {emotions}."


def split_sentences(text: str) -> tuple[str, ...]:
    """A text's sentences: one ends with its line, and at . ! or ? before white space and a capital.

    Quotes and brackets that close there belong to it, those that open to the next. An abbreviation before a name
    ("St. Louis") ends one too: no list of them is kept.
    """
    pieces = (piece for line in text.splitlines() for piece in _BETWEEN.sub(r"\1\n", line).split("\n"))
    return tuple(" ".join(piece.split()) for piece in pieces if piece.strip())


def _sentences(field: ProxyField, proxy: _Proxy) -> tuple[str, ...] | None:
    """What a field says, one caption a sentence; None where the field is not there."""
    if field == "faces":
        return None if proxy.faces is None else (_tell_faces(proxy.faces),)
    if field == "captions":
        return None if proxy.captions is None else tuple(" ".join(caption.split()) for caption in proxy.captions)
    text: str | None = getattr(proxy, field)
    if text is None:
        return None
    return (" ".join(text.split()),) if field in ("caption", "caption_blip2") else split_sentences(text)


def read_proxies(file: Path, fields: Sequence[ProxyField]) -> dict[str, tuple[str, ...]]:
    """Image name -> the sentences of the wanted fields, in their order, each with a full stop if it has no end.

    The file is a dict: image name -> {"caption", "faces": [{"emotion": {name: percentage}}], "description",
    "caption_blip2", "emotion", "captions": [...]}. An image of which nothing is said is left out. DataError where the
    file is not of this form, and where an image lacks a wanted field.
    """
    found = {}
    for name, proxy in read_json(file, _JSON_FORM).items():
        sentences: list[str] = []
        for field in fields:
            said = _sentences(field, proxy)
            if said is None:
                raise DataError(file, repr(name), f"no {field}")
            sentences += said
        if ended := tuple(s if _ENDED.search(s) else f"{s}." for s in sentences if s):
            found[name] = ended
    return found
