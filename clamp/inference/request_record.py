"""What a row of the corpus has to hold to be predicted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import AliasChoices, Field, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as form

from clamp.inference.words import split_words

_LONGEST_REASON = 200  # characters; a row may hold a megabyte of them
_PLACE = "$T$"  # of the target in a sentence, where data sets name the target apart

# What other programs and data sets call the fields, in any case; the first that is there counts.
FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "tweet_id", "index"),
    "text": ("text", "tweet", "sentence", "full_text"),
    "words": ("words", "tokens"),
    "image": (
        "image",
        "image_id",
        "imageid",
        "image_path",
        "image_name",
        "img",
        "img_id",
        "imgid",
        "#2 imageid",
        "photo",
        "picture",
        "file_name",
        "filename",
    ),
    "proxy": ("proxy",),
    "aspects": ("aspects",),
    "target": ("target", "aspect_term"),
}


class BadRecord(ValueError):
    """A row that cannot be predicted; its text is the reason."""


def one_line(reason: str) -> str:
    """A reason without line ends, and without its middle where it is long: its end says most."""
    line = " ".join(reason.split())
    half = _LONGEST_REASON // 2
    return line if len(line) <= _LONGEST_REASON else f"{line[:half]}…{line[-half:]}"


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """A row as it was read: the line that it starts in, from 1, and its JSON or its fields; or why it has neither."""

    line: int
    content: bytes | dict[str, object]
    fault: str = ""


class RequestRecord(NamedTuple):  # many go from process to process: a tuple takes a third of a dataclass's time
    """A tweet to predict. `text` and the words' places in it (start, end) are there where it came as text.

    `image` is a path within the images' folder, or a file's content; `proxy` is what was said of the image, for models
    that read that. `given` are the aspects (start, end), in words, whose polarity is asked for; None: find them.
    """

    id: str
    words: tuple[str, ...]
    text: str | None = None
    places: tuple[tuple[int, int], ...] = ()
    image: str | bytes | None = None
    proxy: str | None = None
    given: tuple[tuple[int, int], ...] | None = None


@form(frozen=True)
class _HubImage:
    """As the `datasets` of Hugging Face have it."""

    content: Annotated[bytes | None, Field(alias="bytes")] = None
    path: StrictStr | None = None


@form(frozen=True)
class _GivenAspect:
    """In words, or in characters of the text; the end is exclusive."""

    start: Annotated[StrictInt | None, Field(validation_alias=AliasChoices("start", "from"))] = None
    end: Annotated[StrictInt | None, Field(validation_alias=AliasChoices("end", "to"))] = None
    start_char: StrictInt | None = None
    end_char: StrictInt | None = None


def _called(field: str) -> AliasChoices:
    names = FIELD_NAMES[field]
    spellings = [spelling for name in names for spelling in (name, name.capitalize(), name.upper())]
    return AliasChoices(*dict.fromkeys([*names, *spellings]))


@form(frozen=True)
class _Form:
    id: Annotated[StrictStr | StrictInt | StrictFloat | None, Field(validation_alias=_called("id"))] = None
    text: Annotated[StrictStr | None, Field(validation_alias=_called("text"))] = None
    words: Annotated[list[StrictStr] | None, Field(validation_alias=_called("words"))] = None
    image: Annotated[StrictStr | _HubImage | None, Field(validation_alias=_called("image"))] = None
    proxy: Annotated[StrictStr | None, Field(validation_alias=_called("proxy"))] = None
    aspects: Annotated[list[_GivenAspect] | None, Field(validation_alias=_called("aspects"))] = None
    target: Annotated[StrictStr | None, Field(validation_alias=_called("target"))] = None


_FORM = TypeAdapter(_Form)


def record_of(row: CorpusRow) -> RequestRecord:
    """The record that a row holds; fields with other names are ignored. BadRecord where it holds none.

    The `id` of a row without one is its line. Where `words` are given they count, and `text` does not.
    """
    if row.fault:
        raise BadRecord(row.fault)
    try:
        raw = _FORM.validate_json(row.content) if isinstance(row.content, bytes) else _FORM.validate_python(row.content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = f"{fault['loc'][0]}: " if fault["loc"] else ""
        raise BadRecord(f"{field}{fault['msg']}") from None
    image = _image_of(raw.image)
    if isinstance(row.content, dict):
        _check_encodable(raw, image)
    identity, proxy = _identity(raw.id, row.line), raw.proxy or None
    if raw.words is not None:
        words = _checked(raw.words)
        return RequestRecord(identity, words, image=image, proxy=proxy, given=_given(raw.aspects, words, None, ()))
    if raw.text is None:
        raise BadRecord("neither text nor words")
    text, aspects = _with_target(raw)
    places = tuple(split_words(text))
    words = _checked([text[start:end] for start, end in places])
    return RequestRecord(identity, words, text, places, image, proxy, _given(aspects, words, text, places))


def _identity(value: str | int | float | None, line: int) -> str:
    if value is None:
        return str(line)
    try:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)  # of a spreadsheet
    except ValueError:  # Python writes no numbers of more than some thousand digits
        raise BadRecord("id: too long a number") from None


def _check_encodable(raw: _Form, image: str | bytes | None) -> None:
    """Python's strings, unlike those of the JSON reader, may hold halves of characters, which tokenizers refuse."""
    name = image if isinstance(image, str) else ""
    try:
        "".join([raw.text or "", *(raw.words or ()), raw.proxy or "", name, str(raw.id), raw.target or ""]).encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"not text: {error.reason}") from None


def _checked(words: list[str]) -> tuple[str, ...]:
    if not words:
        raise BadRecord("no words")
    for word in words:
        if not word.strip():
            raise BadRecord(f"empty word {word!r}")
    return tuple(words)


def _image_of(image: str | _HubImage | None) -> str | bytes | None:
    """The content, or the name if it stays in its folder: who writes the corpus need not be who owns the machine."""
    if isinstance(image, _HubImage):
        if image.content:
            return image.content
        image = image.path
    if not image:
        return None
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or not image.isprintable():
        raise BadRecord(f"image {image!r} is not the name of a file within the images' folder")
    return image


def _with_target(raw: _Form) -> tuple[str, list[_GivenAspect] | None]:
    """The text, its target put in its place, and the aspects whose polarity is asked for."""
    text = raw.text or ""
    if raw.target is None:
        return text, raw.aspects
    before, *after = text.split(_PLACE)
    if len(after) != 1:
        raise BadRecord(f"target: {_PLACE} occurs {len(after)} times in the text instead of once")
    aspect = _GivenAspect(start_char=len(before), end_char=len(before) + len(raw.target))
    return before + raw.target + after[0], [*(raw.aspects or ()), aspect]


def _given(
    aspects: Sequence[_GivenAspect] | None, words: Sequence[str], text: str | None, places: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...] | None:
    """The aspects in words; None where none are asked about."""
    if aspects is None:
        return None
    found = []
    for number, aspect in enumerate(aspects):
        start, end = aspect.start, aspect.end
        if start is None and text is not None and aspect.start_char is not None and aspect.end_char is not None:
            first, last = aspect.start_char, aspect.end_char
            within = [k for k, (a, b) in enumerate(places) if a < last and first < b]
            if not 0 <= first < last <= len(text) or not within:
                raise BadRecord(f"aspects: {number}: no word lies in characters {first}:{last} of {len(text)}")
            start, end = within[0], within[-1] + 1
        if start is None or end is None:
            raise BadRecord(
                f"aspects: {number}: needs start and end, in words, or start_char and end_char, in the text"
            )
        if not 0 <= start < end <= len(words):
            raise BadRecord(f"aspects: {number}: {start}:{end} is no part of the {len(words)} words")
        found.append((start, end))
    return tuple(found)


def named_fields(names: Sequence[str]) -> dict[str, str]:
    """Which of a table's columns hold which of our fields: field -> column, whatever the case of its name."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(re.sub(r"\s+", " ", name.strip()).casefold(), name)
    found = {
        field: next((folded[name] for name in known if name in folded), None) for field, known in FIELD_NAMES.items()
    }
    return {field: column for field, column in found.items() if column is not None}
