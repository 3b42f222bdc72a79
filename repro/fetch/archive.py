"""Images out of a zip or tar.gz file that somebody else packed: the wanted ones, whatever else is in it.

Only a member whose last name is that of a wanted image is ever read, and it is written under that name: no member says
where anything goes. An archive with a member that no honest one has is refused before anything is written.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from repro.fetch.download import FetchError, Unsound, part_of, put_in_place

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 20_000_000
MAX_UNPACKED_BYTES = 16 * 2**30  # all of a tar.gz, wanted or not
MAX_RATIO = 50  # images are packed already
_SMALL = 100_000  # bytes below which no ratio is absurd
_LONGEST_READ = 2**24  # bytes at a time: what a list of members or a name may take
_LONGEST_SHOWN = 60


class ArchiveError(FetchError):
    """An archive that is unusable or not to be trusted; its text names the file and the member."""


@dataclass(frozen=True)
class Member:
    """What an archive says of a file in it. `packed` is unknown in a tar.gz, where all members are packed together."""

    path: str
    size: int
    packed: int | None
    is_file: bool
    is_readable: bool  # not encrypted, and packed in a way that a zip of images is
    open: Callable[[], IO[bytes]]


def take_images(
    archive: Path,
    wanted: Collection[str],
    folder: Path,
    folder_name: str,
    check: Callable[[Path], None],
    on_image: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Put the wanted images into `folder` and return why each of the others is not there, by name.

    Of two members of one name, that in a folder `folder_name` counts. `check` raises Unsound for a broken image.
    Raises ArchiveError, and OSError where nothing can be written.
    """
    faults = dict.fromkeys(wanted, "not in the archive")
    with _one_line_errors(archive):
        with _members(archive) as members:
            chosen = choose(members, frozenset(wanted), folder_name)
        folder.mkdir(parents=True, exist_ok=True)
        with _members(archive) as members:
            for position, member in enumerate(members):
                if (name := chosen.get(position)) is not None:
                    fault = _take(member, folder / name, check)
                    if fault is None:
                        del faults[name]
                    else:
                        faults[name] = fault
                    on_image()
    return faults


def choose(members: Iterable[Member], wanted: Collection[str], folder_name: str) -> dict[int, str]:
    """Position in the archive -> the wanted name that its member has; ArchiveError for what is not to be trusted."""
    found: dict[str, list[tuple[bool, int]]] = {}
    total = 0
    for position, member in enumerate(members):
        if position >= MAX_MEMBERS:
            raise ArchiveError(f"more than {MAX_MEMBERS} members")
        *parents, name = re.split(r"[/\\]", member.path)
        if name in wanted:
            _check_honest(member, parents)
            total += member.size
            found.setdefault(name, []).append((parents[-1:] == [folder_name], position))
    if total > MAX_UNPACKED_BYTES:
        raise ArchiveError(f"its images would take {total} bytes")
    return {_the_one(name, places): name for name, places in found.items()}


def _check_honest(member: Member, parents: list[str]) -> None:
    if ".." in parents or parents[:1] == [""] or re.match(r"[A-Za-z]:", member.path):
        raise ArchiveError(f"{_shown(member.path)} leads out of the archive")
    if not member.is_file:
        raise ArchiveError(f"{_shown(member.path)} is a link, a folder or a device")
    if not member.is_readable:
        raise ArchiveError(f"{_shown(member.path)} is encrypted or packed in an unusual way")
    if not 0 <= member.size <= MAX_MEMBER_BYTES:
        raise ArchiveError(f"{_shown(member.path)} would take {member.size} bytes; no image is that large")
    if member.packed is not None and member.size > max(_SMALL, MAX_RATIO * member.packed):
        raise ArchiveError(f"{_shown(member.path)} would grow from {member.packed} to {member.size} bytes")


def _the_one(name: str, places: list[tuple[bool, int]]) -> int:
    preferred = [position for is_preferred, position in places if is_preferred]
    candidates = preferred or [position for _, position in places]
    if len(candidates) > 1:
        raise ArchiveError(f"{_shown(name)} is in it {len(candidates)} times")
    return candidates[0]


def _shown(path: str) -> str:
    return repr(path if len(path) <= _LONGEST_SHOWN else path[:_LONGEST_SHOWN] + "...")


def _take(member: Member, target: Path, check: Callable[[Path], None]) -> str | None:
    """Unpack one image, and say what is wrong with it if it is not to be kept."""
    part = part_of(target)
    try:
        with member.open() as source, part.open("wb") as file:
            shutil.copyfileobj(source, file)
        check(part)
        put_in_place(part, target)
    except Unsound as error:
        return str(error)
    finally:
        part.unlink(missing_ok=True)
    return None


class _Guarded:
    """A file that refuses to be read in absurd stretches or beyond an end: sizes in archives are anybody's claims."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file, self._end = file, end

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size if 0 <= size <= _LONGEST_READ else _LONGEST_READ + 1)
        if len(content) > _LONGEST_READ:
            raise ArchiveError(f"a list or a name in it takes more than {_LONGEST_READ} bytes")
        self._check_end()
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._end:
            raise ArchiveError(f"it would take more than {self._end} bytes")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def _check_end(self) -> None:
        if self._file.tell() > self._end:
            raise ArchiveError(f"it would take more than {self._end} bytes")


class _Forward(_Guarded):
    """The same for what can only be unpacked from the start: going back would begin all over, for ever perhaps."""

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < self.tell():
            raise ArchiveError("a member in it begins before the one before it has ended")
        return super().seek(offset, whence)


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    """The members in the archive's order; each can be opened until the next one is asked for."""
    with archive.open("rb") as file:
        kind = _kind(file.read(512))
        file.seek(0)
        if kind == "zip":
            guarded: Any = _Guarded(file, archive.stat().st_size)
            with zipfile.ZipFile(guarded) as opened:
                yield _zip_members(opened)
        else:
            with gzip.GzipFile(fileobj=file) as unpacked:
                forward: Any = _Forward(cast(IO[bytes], unpacked), MAX_UNPACKED_BYTES)
                with tarfile.open(fileobj=forward, mode="r:", errorlevel=2) as tar:
                    yield _tar_members(tar)


def _kind(start: bytes) -> str:
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if start.startswith(b"Rar!"):
        raise ArchiveError("a rar archive; unpack it by hand, and pack it as zip or put the images in their folder")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ArchiveError("a web page, not an archive; download the archive itself in a browser")
    raise ArchiveError("neither a zip nor a tar.gz file")


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        mode = info.external_attr >> 16  # of Unix; 0 where it was packed elsewhere
        yield Member(
            path=info.filename,
            size=info.file_size,
            packed=info.compress_size,
            is_file=not info.is_dir() and mode & 0o170000 in (0, 0o100000),
            is_readable=not info.flag_bits & 1 and info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            open=lambda info=info: opened.open(info),  # type: ignore[misc]
        )


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        yield Member(
            path=info.name,
            size=info.size,
            packed=None,
            is_file=info.type in (tarfile.REGTYPE, tarfile.AREGTYPE),
            is_readable=True,
            open=lambda info=info: cast(IO[bytes], tar.extractfile(info)),  # type: ignore[misc]
        )


@contextlib.contextmanager
def _one_line_errors(archive: Path) -> Iterator[None]:
    """Whatever a damaged archive makes its reader raise, as an ArchiveError that names it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk is full, or the file is not there; a place before the start is the archive's fault
        own = isinstance(error, ArchiveError)
        reason = str(error) if own else f"damaged: {' '.join(str(error).split()) or type(error).__name__}"
        raise ArchiveError(f"{archive}: {reason}") from None
