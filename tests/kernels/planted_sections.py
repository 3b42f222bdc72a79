"""What stands in for a report's sections: one for each way to end. Processes import it by name."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection


def child(name: str, sender: Connection) -> None:
    sender.send(("row", {"work": name}))
    if name == "dies":
        os._exit(11)
    if name == "hangs":
        time.sleep(300)
    sender.send(("end", {"error": "RuntimeError: planted"} if name == "fails" else {}))
