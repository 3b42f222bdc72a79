"""Files whose sha256 is known: fetched, checked, left alone where they are there, and how to get them by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.fetch.download import Downloader, FetchError, Unsound, Wanted

_MAX_BYTES = 10_000_000
_MAX_SECONDS = 600.0


@dataclass(frozen=True)
class Published:
    """A file that anyone can fetch: from where, to where, and the sha256 of its bytes."""

    address: str
    target: Path
    sha256: str

    def check(self, file: Path) -> None:
        """Raises Unsound where the file is another."""
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != self.sha256:
            reason = f"sha256 {found[:16]}... is not {self.sha256[:16]}..., that of the published file"
            raise Unsound(f"{self.address}: {reason}")


def fetch_missing(downloader: Downloader, files: Sequence[Published]) -> int:
    """Bring those that are not there, and return how many those were; FetchError, also where another file is there."""
    fetched = 0
    for file in files:
        if file.target.exists():
            try:
                file.check(file.target)
            except Unsound as error:
                raise FetchError(
                    f"{file.target}: not the published file, so it stays; move it away first ({error})"
                ) from None
            continue
        downloader.fetch(Wanted(file.address, file.target, _MAX_BYTES, _MAX_SECONDS, file.check))
        fetched += 1
    return fetched


def by_hand(files: Sequence[Published]) -> str:
    """How to get them without this program."""
    lines = [f"  {file.address}\n    as {file.target} (sha256 {file.sha256})" for file in files]
    return "\n".join(["By hand: save", *lines, "and give the same command again."])
