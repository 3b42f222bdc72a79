"""Reading data files so that whatever is wrong with one becomes a DataError."""

from __future__ import annotations

import codecs
import hashlib
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from clamp.data.schema import DataError

_T = TypeVar("_T")


def encoding_of(start: bytes) -> str:
    """The encoding that a file's first bytes tell by their byte order mark; UTF-8 without one."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else "utf-8"


def read_text(file: Path) -> str:
    """The text of a file, in UTF-8, or in what its byte order mark says; the mark itself is left out."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(file, None, error.strerror or str(error)) from None
    encoding = encoding_of(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(file, None, f"not {encoding.upper().removesuffix('-SIG')} at byte {error.start}") from None


def read_json(file: Path, form: TypeAdapter[_T]) -> _T:
    """The JSON content of a file in the given form, a list or a dict of records; its first fault is reported."""
    try:
        return form.validate_json(read_text(file), strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        record, field = fault["loc"][:1], ".".join(str(part) for part in fault["loc"][1:])
        reason = f"{field}: {fault['msg']}" if field else fault["msg"]
        one_line = " ".join(reason.split())  # a field may be named after a key of the file
        raise DataError(file, repr(record[0]) if record else None, one_line) from None


@cache
def _sha256_of_state(file: Path, size: int, modified_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_sha256(file: Path) -> str:
    """The file's sha256; read again only when its size or its time of change differs."""
    try:
        state = file.stat()
        return _sha256_of_state(file.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise DataError(file, None, error.strerror or str(error)) from None
