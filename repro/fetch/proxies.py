"""What public repositories say of every image of a data set, merged into the visual_proxy.json that the reader takes.

No gold annotation may get in. The rows of the emotion files hold some (`text_emotion`, `aspect`, `relation_s`,
`eccl_label`, and the number of answers that an image has); of them nothing is read but the image's name and the first
answer that a row of type "base" gives for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as form

from clamp.data import DataError
from clamp.data.files import read_json, read_text
from clamp.system.files import written
from repro.fetch.addresses import FetchedField

FIELDS: tuple[FetchedField, ...] = get_args(FetchedField)
_CAPTIONS = TypeAdapter(dict[str, Annotated[list[str], Field(min_length=8, max_length=8)]])
_PROXIES = TypeAdapter(dict[str, dict[str, Any]])


@form(frozen=True)
class _Row:
    """All that is kept of a row; pydantic drops the rest."""

    type: str
    image: str
    image_emotion: str


_ROWS = TypeAdapter(list[_Row])


def lacking(file: Path, names: Collection[str]) -> list[str]:
    """Those of the images of which a visual_proxy.json does not hold every field that is fetched, or the file none."""
    if not file.exists():
        return list(names)
    there = read_json(file, _PROXIES)
    return [name for name in names if not all(there.get(name, {}).get(field) is not None for field in FIELDS)]


def merge(sources: Sequence[tuple[FetchedField, Path]], file: Path, names: Collection[str]) -> None:
    """Set the fetched fields of the named images in a visual_proxy.json, whose other fields and images stay.

    Several files of a field are read in their order: an image's first answer counts. DataError where a file is not of
    its form, or none says anything of an image.
    """
    said: dict[FetchedField, dict[str, Any]] = {field: {} for field in FIELDS}
    last = dict(sources)
    for field, source in sources:
        said[field] = {**_READERS[field](source), **said[field]}
    merged = read_json(file, _PROXIES) if file.exists() else {}
    for field, by_image in said.items():
        for name in names:
            if name not in by_image:
                raise DataError(last[field], repr(name), f"no {field}")
            merged.setdefault(name, {})[field] = by_image[name]
    with written(file) as stream:
        stream.write((json.dumps(merged, indent=1, sort_keys=True) + "\n").encode())


def _captions(file: Path) -> dict[str, list[str]]:
    """{image name: [8 captions]}."""
    return read_json(file, _CAPTIONS)


def _blip2(file: Path) -> dict[str, str]:
    """A line an image, "NAME :caption"; a caption may be empty."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(file).removesuffix("\n").split("\n"), start=1):
        parts = re.fullmatch(r"(\S+) :(.*)", line)
        if parts is None:
            raise DataError(file, number, "not 'NAME :caption'")
        found.setdefault(parts[1], parts[2].strip())
    return found


def _emotion(file: Path) -> dict[str, str]:
    """A list of rows, one or more an image."""
    found: dict[str, str] = {}
    for row in read_json(file, _ROWS):
        if row.type == "base":
            found.setdefault(row.image, row.image_emotion)
    return found


_READERS: dict[FetchedField, Callable[[Path], Mapping[str, Any]]] = {
    "captions": _captions,
    "caption_blip2": _blip2,
    "emotion": _emotion,
}
