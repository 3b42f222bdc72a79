"""A web server on this machine that misbehaves as told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Request(BaseHTTPRequestHandler):
    """One request; answers are functions of it."""

    protocol_version = "HTTP/1.1"
    host: Host

    def do_GET(self) -> None:
        self.close_connection = True
        self.host.asked.append(Asked(self.path, self.headers.get("range"), self.headers.get("if-range")))
        answers = self.host.answers.get(self.path, [status(404)])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]  # the last one again and again
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            answer(self)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would go to the terminal."""


Answer = Callable[[Request], None]


@dataclass(frozen=True)
class Asked:
    path: str
    range: str | None
    if_range: str | None


class Host:
    """Serves `answers[path]`, in turn; a context manager."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        handler = type("Handler", (Request,), {"host": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def on(self, path: str, *answers: Answer) -> str:
        """The address of `path`, which is answered so from now on."""
        self.answers[path] = list(answers)
        return self.address + path

    def times(self, path: str) -> int:
        return sum(asked.path == path for asked in self.asked)


def whole(
    body: bytes, etag: str | None = None, ranges: bool = True, cut: int | None = None, pause: float = 0
) -> Answer:
    """The body, or the range of it that was asked for; the connection closes `cut` bytes into what is announced.

    `pause` is how many seconds pass between stretches of 4096 bytes.
    """

    def answer(request: Request) -> None:
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if wanted and ranges and request.headers.get("if-range") in (None, etag):
            start = int(wanted[1])
        part = body[start:]
        headers = {"content_length": len(part)} | ({"etag": etag} if etag else {})
        if start:
            headers["content_range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        request.head(206 if start else 200, **headers)
        for k in range(0, len(part[:cut]), 4096):
            request.wfile.write(part[:cut][k : k + 4096])
            time.sleep(pause)

    return answer


def status(code: int, **headers: object) -> Answer:
    return lambda request: request.head(code, content_length=0, **headers)


def redirect(location: str, code: int = 302) -> Answer:
    return status(code, location=location)


def endless(request: Request) -> None:
    """Bytes for ever, their number unsaid."""
    request.head(200)
    while True:
        request.wfile.write(b"x" * 4096)


def silent(request: Request) -> None:
    """No answer for longer than a test waits."""
    time.sleep(1.5)


def dripping(request: Request) -> None:
    """A byte now and then, each soon enough not to be a timeout."""
    request.head(200, content_length=10_000)
    for _ in range(100):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.05)


def raw(*lines: str, body: bytes = b"") -> Answer:
    """Exactly these lines as the answer's head."""
    return lambda request: request.wfile.write("\r\n".join([*lines, "", ""]).encode() + body) and None
