"""What a section tells the report: lines of JSON through a pipe, so that half a message is never taken for one."""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection
from typing import Any

_MOST = 2**20  # bytes at a time


def say(sender: Connection, kind: str, content: Any) -> None:
    """Send one message."""
    line = (json.dumps([kind, content]) + "\n").encode()
    while line:
        line = line[os.write(sender.fileno(), line) :]


class Hearing:
    """The messages of one process, as they come."""

    def __init__(self, receiver: Connection) -> None:
        self._receiver = receiver
        self._begun = b""

    def hear(self) -> list[tuple[str, Any]] | None:
        """What has come in whole since the last time, without waiting for more; None after the end."""
        come = os.read(self._receiver.fileno(), _MOST)
        if not come:
            return None
        *lines, self._begun = (self._begun + come).split(b"\n")
        return [tuple(json.loads(line)) for line in lines]
