"""What a user sees while runs train: bars on a terminal, a line for each finished run anywhere else."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm


class Progress:
    """A bar over the runs, and one over the epochs of each run that is being trained."""

    def __init__(self, total: int, processes: int, stream: TextIO | None = None) -> None:
        self._total, self._processes, self._stream = total, processes, stream or sys.stderr
        self._ended = 0
        self._began = time.monotonic()
        self._terminal = self._stream.isatty()
        self._epochs: dict[str, tqdm] = {}
        self._runs = self._bar("runs", total, position=0, leave=True)

    def _bar(self, name: str, total: int, position: int, leave: bool) -> tqdm:
        return tqdm(
            total=total,
            desc=name,
            file=self._stream,
            position=position,
            leave=leave,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar}{postfix}",
            mininterval=0,
            disable=not self._terminal,
        )

    def start(self, name: str, epochs: int) -> None:
        taken = {-bar.pos for bar in self._epochs.values()}
        free = min(set(range(1, self._processes + 1)) - taken) if self._terminal else 0
        self._epochs[name] = self._bar(name, epochs, free, leave=False)

    def epoch(self, name: str, epoch: int, dev_f1: float) -> None:
        bar = self._epochs[name]
        bar.set_postfix_str(f"dev F1 {100 * dev_f1:.1f}", refresh=False)
        bar.update(epoch - bar.n)

    def end(self, name: str, outcome: str) -> None:
        """One run has ended, whether its epochs were shown or not; `outcome` says how, in a few words."""
        self._ended += 1
        line = f"[{self._ended}/{self._total}] {name}: {outcome}{self._time_left()}"
        if name in self._epochs:
            self._epochs.pop(name).close()
        self._runs.update()
        self.say(line)

    def say(self, line: str) -> None:
        """Show a line of its own, above the bars."""
        tqdm.write(line, file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        for bar in self._epochs.values():
            bar.close()
        self._runs.close()

    def _time_left(self) -> str:
        if self._ended == self._total:
            return ""
        seconds = (time.monotonic() - self._began) / self._ended * (self._total - self._ended)
        return f"; about {tqdm.format_interval(seconds)} left"
