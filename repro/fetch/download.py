"""One file over HTTPS: continued where it was cut off, checked, and put in its place in one step.

What has come so far lies beside the target as .NAME.part. Next to it .NAME.part.json holds the address and the strong
ETag of the version that it is of: only that version is continued (RFC 9110, If-Range), any other begins anew.

pooch 1.9 was given the same hosts as the tests give this. It too checks a sum, tries again and renames at the end; but
it begins a cut file anew, in the next call as well, takes an endless one until the disk is full, waits for ever for one
that comes a byte at a time, follows a redirect to plain http, asks for a missing or wrong file as often as for a busy
one, and keeps any content of a file without a sum, as images are.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import httpx2

_PASSING = (408, 425, 429, 500, 502, 503, 504)  # worth another try
_GONE = (404, 410)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROGRESS = 1 << 16  # bytes after which a connection that broke was not in vain


class FetchError(Exception):
    """Something could not be fetched; its text is one line that says what and why."""


class Missing(FetchError):
    """The host has no such file."""


class Unanswered(FetchError):
    """The host cannot be reached, fails again and again, or is too slow."""


class Refused(FetchError):
    """What came is not what was asked for, or would have come from where nothing is fetched from."""


class Unsound(FetchError):
    """The whole file came, and its content is not what it should be."""


class _Passing(Exception):
    """A fault that may be gone at the next try; `after` is how many seconds the host asks to wait."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True)
class Rules:
    """How patient a download is. `loopback` also allows plain http to this machine itself."""

    tries: int = 5  # in a row without progress
    first_pause: float = 1.0  # seconds, doubled from try to try
    longest_pause: float = 60.0  # seconds; a host that asks for more is given up
    timeout: float = 20.0  # seconds to connect, or without a byte
    redirects: int = 5
    loopback: bool = False


@dataclass(frozen=True)
class Wanted:
    """A file to be fetched: from where, to where, its bounds, and what finds fault with its content.

    `check` is given the complete file before it is in its place, and raises Unsound.
    """

    url: str
    target: Path
    max_bytes: int
    max_seconds: float
    check: Callable[[Path], None]


class _Part:
    """What has come of a file so far, and the version that it belongs to."""

    def __init__(self, wanted: Wanted) -> None:
        self.file, self._mark = part_of(wanted.target), part_of(wanted.target).with_suffix(".part.json")
        self._url, self._target = wanted.url, wanted.target
        self.resumed = False

    def etag(self) -> str | None:
        """Of the version that can be continued, if there is one."""
        try:
            mark = json.loads(self._mark.read_text(encoding="utf-8"))
            return mark["etag"] if mark["url"] == self._url and self.size() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def begin(self, etag: str | None) -> BinaryIO:
        """An empty part of this version, open for writing."""
        self._mark.unlink(missing_ok=True)  # first: it speaks of the bytes that go now
        self.resumed = False
        file = self.file.open("wb")
        if etag and re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):  # a weak one promises no equal bytes
            temporary = self._mark.with_suffix(".tmp")
            temporary.write_text(json.dumps({"url": self._url, "etag": etag}), encoding="utf-8")
            os.replace(temporary, self._mark)
        return file

    def go_on(self) -> BinaryIO:
        self.resumed = True
        return self.file.open("ab")

    def discard(self) -> None:
        self._mark.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)

    def finish(self) -> None:
        self._mark.unlink(missing_ok=True)
        put_in_place(self.file, self._target)


def part_of(target: Path) -> Path:
    """Where a file lies until it is complete: in the same folder, under a hidden name."""
    return target.with_name(f".{target.name}.part")


def put_in_place(part: Path, target: Path) -> None:
    """From now on, and whatever happens to the machine, there is the whole file under its name or none."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)


class Downloader:
    """Connections that several threads share; a context manager."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._stopped = threading.Event()
        self._client = httpx2.Client(
            timeout=rules.timeout,
            follow_redirects=False,
            headers={"accept-encoding": "identity", "user-agent": "clamp-repro"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.close()

    def stop(self) -> None:
        """Have every download under way end soon; what has come of it is kept."""
        self._stopped.set()

    def fetch(self, wanted: Wanted, on_bytes: Callable[[int], object] = lambda _: None) -> None:
        """Bring the file to `wanted.target`, which appears whole and checked or not at all.

        `on_bytes` is told of every stretch that arrives. Raises FetchError.
        """
        wanted.target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(wanted)
        end = time.monotonic() + wanted.max_seconds
        failures = 0
        while True:
            before = part.size()
            try:
                self._transfer(wanted, part, end, on_bytes)
                return self._finish(wanted, part)
            except _Passing as fault:
                failures = 1 if part.size() >= before + _PROGRESS else failures + 1
                self._pause(wanted, fault, failures, end)

    def _finish(self, wanted: Wanted, part: _Part) -> None:
        try:
            wanted.check(part.file)
        except Unsound as error:
            was_resumed = part.resumed
            part.discard()
            if was_resumed:  # two halves may not belong together: it deserves a try in one piece
                raise _Passing(str(error)) from None
            raise
        part.finish()

    def _pause(self, wanted: Wanted, fault: _Passing, failures: int, end: float) -> None:
        pause = max(fault.after, min(self._rules.longest_pause, self._rules.first_pause * 2 ** (failures - 1)))
        if fault.after > self._rules.longest_pause:
            raise Unanswered(f"{wanted.url}: {fault}; the host asks to come back in {fault.after:.0f} s") from None
        if failures >= self._rules.tries or time.monotonic() + pause > end:
            raise Unanswered(f"{wanted.url}: {fault}; tried {failures} times in a row") from None
        if self._stopped.wait(pause):
            raise Unanswered(f"{wanted.url}: stopped") from None

    def _transfer(self, wanted: Wanted, part: _Part, end: float, on_bytes: Callable[[int], object]) -> None:
        """One request, its body into the part; returns when all of it is there."""
        etag = part.etag()
        headers = {"range": f"bytes={part.size()}-", "if-range": etag} if etag else {}
        try:
            with self._answer(wanted.url, headers) as response:
                _check_status(wanted.url, response, part)
                total = _total_bytes(response, part, etag)
                if total is not None and total > wanted.max_bytes:
                    raise Refused(f"{wanted.url}: {total} bytes, more than the {wanted.max_bytes} it may have")
                with part.go_on() if response.status_code == 206 else part.begin(response.headers.get("etag")) as file:
                    self._copy(wanted, response, file, end, on_bytes)
        except Refused:
            part.discard()
            raise
        except httpx2.InvalidURL as error:
            raise Refused(f"{wanted.url}: {_reason(error)}") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise _Passing(_reason(error)) from None
        if total is not None and part.size() != total:
            part.discard()
            raise _Passing(f"{part.size()} bytes came where {total} were announced")

    def _copy(
        self,
        wanted: Wanted,
        response: httpx2.Response,
        file: BinaryIO,
        end: float,
        on_bytes: Callable[[int], object],
    ) -> None:
        room = wanted.max_bytes - file.tell()
        for chunk in response.iter_raw():
            room -= len(chunk)
            if room < 0:
                raise Refused(f"{wanted.url}: more than the {wanted.max_bytes} bytes it may have")
            if time.monotonic() > end:
                raise Unanswered(f"{wanted.url}: not done after {wanted.max_seconds:.0f} s")
            if self._stopped.is_set():
                raise Unanswered(f"{wanted.url}: stopped")
            file.write(chunk)
            on_bytes(len(chunk))

    @contextlib.contextmanager
    def _answer(self, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
        """The response behind all redirects, its body still to be read."""
        here = self._allowed(httpx2.URL(url), url)
        for _ in range(self._rules.redirects + 1):
            with self._client.stream("GET", here, headers=headers) as response:
                if not response.has_redirect_location:
                    yield response
                    return
            here = self._allowed(here.join(response.headers["location"]), url)
        raise Refused(f"{url}: more than {self._rules.redirects} redirects")

    def _allowed(self, address: httpx2.URL, asked: str) -> httpx2.URL:
        to_itself = self._rules.loopback and address.scheme == "http" and address.host in _LOOPBACK
        if to_itself or (address.scheme == "https" and address.host):
            return address
        leads = "" if str(address) == asked else f" leads to {address}, which"
        raise Refused(f"{asked}{leads} is no https address")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_status(url: str, response: httpx2.Response, part: _Part) -> None:
    status = response.status_code
    said = f"the host answers {status} {response.reason_phrase}".rstrip()
    if status in _GONE:
        raise Missing(f"{url}: {said}")
    if status == 416:  # the file is shorter than what we have of it
        part.discard()
        raise _Passing(said)
    if status in _PASSING:
        raise _Passing(said, after=_retry_after(response.headers.get("retry-after", "")))
    if status not in (200, 206):
        raise Refused(f"{url}: {said}")
    coding = response.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise Refused(f"{url}: packed as {coding}, which was not asked for")


def _total_bytes(response: httpx2.Response, part: _Part, etag: str | None) -> int | None:
    """How large the whole file will be, if the host says; _Passing where a part is not the one that was asked for."""
    if response.status_code == 200:
        length = response.headers.get("content-length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else None
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("content-range", ""))
    if etag is None or found is None or response.headers.get("etag") != etag or int(found[1]) != part.size():
        part.discard()
        raise _Passing("the host sent another part than the one asked for")
    return int(found[3])


def _retry_after(value: str) -> float:
    """Seconds from now of a Retry-After header, in either of its forms; 0 for anything else."""
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
