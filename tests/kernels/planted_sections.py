"""What stands in for a report's sections: one for each way to end. Processes import it by name."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any

from kernels.bench.measure.rows import Earlier
from kernels.bench.messages import say

RAISED = {
    "fails": "RuntimeError: planted",
    "out of memory": "OutOfMemoryError: CUDA out of memory",
    "poisoned": "AcceleratorError: CUDA error: an illegal memory access was encountered",
}


def child(name: str, sender: Connection, earlier: Earlier) -> None:
    if name.startswith("begun again"):
        from planted_device import begun_again  # brings torch, for which the others need not wait

        return begun_again(name, sender, earlier)
    row: dict[str, Any] = {"work": name}
    if name == "preflight":
        row |= {"variant": "machine", "check": "has a C compiler", "right": False, "error": "planted"}
    if name == "wrong":
        row |= {"check": "parity", "variant": "kernels", "right": False, "errors": {}, "limits": {}}
    say(sender, "row", row)
    if name == "dies":
        os._exit(11)
    if name in ("dies in mid-message", "hangs in mid-message"):
        os.write(sender.fileno(), b'["row", {"work": "ne')
        if name.startswith("dies"):
            os._exit(9)
    if name.startswith("hangs"):
        time.sleep(300)
    say(sender, "end", {"error": RAISED[name]} if name in RAISED else {})
