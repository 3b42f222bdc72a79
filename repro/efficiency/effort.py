"""How long each part of the measurement goes on, and with which batches."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from repro.efficiency.timing import Rounds

SMALL, LARGE, TRAINING, CORPUS = 1, 32, 16, 16  # tweets in a batch


@dataclass(frozen=True)
class Effort:
    """How long each section goes on, the batches of the latency, and whether anything is compiled."""

    small: Rounds  # every system, at SMALL
    large: Rounds  # every system, at LARGE
    between: Rounds  # each batch between them
    training: Rounds
    sizes: Rounds  # each number of regions or tokens
    parts: Rounds
    compiled: Rounds
    corpus: Rounds
    profile: Rounds
    batches: tuple[int, ...]
    corpus_tweets: int
    compiles: bool
    soundness_steps: int

    def shortened(self, factor: float) -> Effort:
        """For a device on which many more rounds fit into the same time."""
        changes = {
            field.name: Rounds(rounds.least, factor * rounds.seconds)
            for field in fields(self)
            if isinstance(rounds := getattr(self, field.name), Rounds)
        }
        return replace(self, **changes)  # type: ignore[arg-type]  # mypy reads one type into all fields


MINUTES = 26.0  # that FULL takes on two cores
FULL = Effort(
    small=Rounds(20, 45.0),
    large=Rounds(2, 150.0),
    between=Rounds(3, 5.0),
    training=Rounds(2, 140.0),
    sizes=Rounds(5, 3.0),
    parts=Rounds(3, 5.0),
    compiled=Rounds(3, 20.0),
    corpus=Rounds(2, 0.0),
    profile=Rounds(20, 5.0),
    batches=(SMALL, 2, 4, 8, 16, LARGE),
    corpus_tweets=32,
    compiles=True,
    soundness_steps=30,
)
_ONCE = Rounds(1, 0.0)
QUICK = Effort(
    small=_ONCE,
    large=_ONCE,
    between=_ONCE,
    training=_ONCE,
    sizes=_ONCE,
    parts=_ONCE,
    compiled=_ONCE,
    corpus=_ONCE,
    profile=_ONCE,
    batches=(SMALL, 2, LARGE),
    corpus_tweets=4,
    compiles=False,
    soundness_steps=3,
)
