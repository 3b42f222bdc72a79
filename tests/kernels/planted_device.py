"""A device that is lost for good after any error, as a GPU is after an illegal access, and a section on it."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

import torch

from kernels.bench.measure.devices import Rehearsal
from kernels.bench.measure.rows import Earlier, Poisoned
from kernels.bench.measure.timing import Sample, Variant, compare
from kernels.bench.messages import say


class Planted(Rehearsal):
    """After an error nothing can be done on it."""

    def __init__(self, earlier: Earlier, sender: Connection) -> None:
        super().__init__()
        self.earlier, self._sender = earlier, sender

    def trying(self, row: dict[str, Any]) -> None:
        say(self._sender, "trying", row)

    def usable(self) -> bool:
        return False


def begun_again(name: str, sender: Connection, earlier: Earlier) -> None:
    """Two works by ours and two peers, of which one kills the process in the second work, or loses its GPU.

    Without an end in sight ("for ever") ours does too.
    """

    def fine(_: Sample) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(1),)

    def fatal(_: Sample) -> tuple[torch.Tensor, ...]:
        if "dies" in name:
            os._exit(139)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    device = Planted(earlier, sender)
    outcome: dict[str, Any] = {}
    try:
        for work in ("first", "second"):
            at_fault = fatal if work == "second" else fine
            ours = at_fault if "for ever" in name else fine
            variants = {"kernels": Variant(ours), "eager": Variant(fine), "peer": Variant(at_fault)}
            for row in compare(device, {"work": work}, variants, [Sample({})], launches=("eager",)):
                say(sender, "row", row)
    except Poisoned as error:
        outcome = {"error": str(error), "poisoned": True}
    say(sender, "end", outcome)
