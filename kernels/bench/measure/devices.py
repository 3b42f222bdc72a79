"""Where a report is made: a GPU, or the CPU that rehearses it.

A rehearsal runs every line that a GPU would run, at tiny shapes. Its times say nothing and nothing reads them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch

from kernels import dispatch
from kernels.bench.measure.rows import Earlier, Row
from kernels.dispatch import Impl

Call = Callable[[], Any]

_FLUSH_BYTES = 256 * 2**20  # several times the L2 cache of any GPU so far
_GRAPH_WARMUPS = 3


class Device(Protocol):
    """What the sections ask of it."""

    name: str
    rehearses: bool
    dtype: torch.dtype  # of the timed works
    compiler: str  # torch.compile's backend
    impl: Impl  # of our operators
    earlier: Earlier  # what need not be measured again

    def trying(self, row: Row) -> None:
        """Tell, before it is done, what `row` will be about: whoever survives this process then knows what ended it."""

    def usable(self) -> bool:
        """Whether anything can still be done on it, after an error."""

    def times(self, calls: Sequence[Call]) -> list[float]:
        """Milliseconds of each call, made one after another."""

    def graph(self, call: Call) -> Call:
        """A call that replays what `call` launched when it was captured; `call` itself where there are no graphs."""

    def extra_bytes(self, call: Call) -> int | None:
        """Make one call: how much more memory than before is held at its peak; None where this cannot tell."""

    def synchronize(self) -> None:
        """Wait for all work; raises what went wrong in it."""

    def limited(self, seconds: float) -> Any:
        """A context that raises TimeoutError when its body takes longer."""


class Cuda:
    """The current GPU. Times are those of its own clock, the L2 cache flushed before each call."""

    name = "cuda"
    rehearses = False
    dtype = torch.bfloat16
    compiler = "inductor"
    impl: Impl = "triton"

    def __init__(self, earlier: Earlier | None = None, trying: Callable[[Row], None] = lambda _: None) -> None:
        self.earlier, self._trying = earlier or Earlier(), trying
        self._flush: torch.Tensor | None = None

    def trying(self, row: Row) -> None:
        self._trying(row)

    def usable(self) -> bool:
        try:
            torch.zeros(1, device=self.name).add_(1).item()
        except RuntimeError:
            return False
        return True

    def times(self, calls: Sequence[Call]) -> list[float]:
        # The calls follow each other without a wait, as triton.testing.do_bench makes them: a GPU that is kept busy
        # does not wait for Python, unless Python is the slower of the two.
        if self._flush is None:
            self._flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=self.name)
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in calls]
        torch.cuda.synchronize()
        for call, (start, end) in zip(calls, events, strict=True):
            self._flush.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in events]

    def graph(self, call: Call) -> Call:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_GRAPH_WARMUPS):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = call()

        def replay() -> Any:
            graph.replay()
            return results

        return replay

    def extra_bytes(self, call: Call) -> int:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        def stop(*_: object) -> None:
            raise TimeoutError(f"took longer than {seconds:.0f} s")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Cpu:
    """The processor: wall-clock times, and no graphs."""

    name = "cpu"
    rehearses = False
    dtype = torch.float32
    compiler = "inductor"
    impl: Impl = "torch"
    earlier = Earlier()

    def trying(self, row: Row) -> None:
        pass

    def usable(self) -> bool:
        return True

    def times(self, calls: Sequence[Call]) -> list[float]:
        milliseconds = []
        for call in calls:
            start = time.perf_counter()
            call()
            milliseconds.append(1e3 * (time.perf_counter() - start))
        return milliseconds

    def graph(self, call: Call) -> Call:
        return call

    def extra_bytes(self, call: Call) -> int | None:
        call()
        return None

    def synchronize(self) -> None:
        pass

    def limited(self, seconds: float) -> Any:
        return nullcontext()


class Rehearsal(Cpu):
    """The processor in the place of a GPU."""

    rehearses = True
    dtype = torch.float16  # Triton's interpreter has no bfloat16
    compiler = "eager"

    def __init__(self) -> None:
        self.impl = "triton" if dispatch.obstacle(torch.empty(0, dtype=self.dtype)) is None else "torch"
