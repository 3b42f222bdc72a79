"""What a row of the corpus has to hold to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from pydantic import StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as form

from clamp.inference.words import split_words

_LONGEST_REASON = 200  # characters; a row may hold a megabyte of them


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


class RequestRecord(
    NamedTuple
):  # of which many go from process to process: a tuple takes a third of a dataclass's time
    """A tweet to predict. `text` and the words' places in it (start, end) are there where it came as text.

    `image` is a path within the images' folder; `proxy` is what was said of the image, for models that read that.
    """

    id: str
    words: tuple[str, ...]
    text: str | None = None
    places: tuple[tuple[int, int], ...] = ()
    image: str | None = None
    proxy: str | None = None


@form(frozen=True)
class _Form:
    id: StrictStr | StrictInt | None = None
    text: StrictStr | None = None
    words: list[StrictStr] | None = None
    image: StrictStr | None = None
    proxy: StrictStr | None = None


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
    if isinstance(row.content, dict):
        _check_encodable(raw)
    try:
        identity = str(row.line) if raw.id is None else str(raw.id)
    except ValueError:  # Python writes no numbers of more than some thousand digits
        raise BadRecord("id: too long a number") from None
    image, proxy = _image_name(raw.image), raw.proxy or None
    if raw.words is not None:
        return RequestRecord(identity, _checked(raw.words), image=image, proxy=proxy)
    if raw.text is None:
        raise BadRecord("neither text nor words")
    places = tuple(split_words(raw.text))
    words = _checked([raw.text[start:end] for start, end in places])
    return RequestRecord(identity, words, raw.text, places, image, proxy)


def _check_encodable(raw: _Form) -> None:
    """Python's strings, unlike those of the JSON reader, may hold halves of characters, which tokenizers refuse."""
    try:
        "".join([raw.text or "", *(raw.words or ()), raw.proxy or "", raw.image or "", str(raw.id)]).encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"not text: {error.reason}") from None


def _checked(words: list[str]) -> tuple[str, ...]:
    if not words:
        raise BadRecord("no words")
    for word in words:
        if not word.strip():
            raise BadRecord(f"empty word {word!r}")
    return tuple(words)


def _image_name(name: str | None) -> str | None:
    """The name, if it stays in its folder: who writes the corpus need not be who owns the machine."""
    if not name:
        return None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not name.isprintable():
        raise BadRecord(f"image {name!r} is not the name of a file within the images' folder")
    return name
