"""The visual proxy: what independent tools said of an image, as text for models that see no pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, TypeAdapter
from pydantic.dataclasses import dataclass as form

from clamp.data.files import read_json
from clamp.data.schema import DataError

ProxyField = Literal["caption", "faces", "description"]


@form(frozen=True)
class _Face:
    emotion: Annotated[dict[str, FiniteFloat], Field(min_length=1)]


@form(frozen=True)
class _Proxy:
    caption: str | None = None
    faces: list[_Face] | None = None
    description: str | None = None


_JSON_FORM = TypeAdapter(dict[str, _Proxy])


def _tell_faces(faces: Iterable[_Face]) -> str:
    """One sentence: how many faces, and how many show which emotion most."""
    strongest = Counter(max(sorted(face.emotion), key=face.emotion.__getitem__) for face in faces)
    if not strongest:
        return "No face."
    count = strongest.total()
    emotions = ", ".join(f"{number} {emotion}" for emotion, number in sorted(strongest.items()))
    return f"{count} face{'s' if count > 1 else ''}: {emotions}."


def read_proxies(file: Path, fields: Sequence[ProxyField]) -> dict[str, str]:
    """Image name -> the sentences of the wanted fields, in their order.

    The file is a dict: image name -> {"caption", "faces": [{"emotion": {name: percentage}}], "description"}. DataError
    where it is not, and where an image lacks a wanted field.
    """
    texts = {}
    for name, proxy in read_json(file, _JSON_FORM).items():
        sentences = []
        for field in fields:
            value = getattr(proxy, field)
            if value is None:
                raise DataError(file, repr(name), f"no {field}")
            sentences.append(_tell_faces(value) if field == "faces" else value.strip())
        texts[name] = " ".join(sentences)
    return texts
