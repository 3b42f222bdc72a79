"""Work in a process of its own that asks this one, which has the model, and goes on while its answers are made.

torch's DataLoader was compared: over 6,000 tweets with images of 64 pixels, on two cores with other work on them, it
took as much memory and was 4 to 6 % faster. This stays because the decoding and the writing of results lie in the other
process too, and because the death of that process is one line here; on cores of its own neither is measured.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from clamp.config import ConfigError
from clamp.data.schema import DataError
from clamp.system.lifetimes import end_with_parent

_Item = TypeVar("_Item")
_News = TypeVar("_News")
# Pairs of an item and a question about it -> pairs of the item and the answer, in order.
Exchange = Callable[[Iterable[tuple[_Item, object]]], Iterator[tuple[_Item, Any]]]

_SLOT = 2**26  # bytes of a question or an answer; only what is written of it takes memory


@dataclass(frozen=True)
class _Sent:
    """A question or an answer is in its slot, in parts of these lengths; of none: it follows in the pipe."""

    lengths: tuple[int, ...]


@dataclass(frozen=True)
class _Asked:
    question: Any


@dataclass(frozen=True)
class _Told:
    news: Any


@dataclass(frozen=True)
class _Failed:
    reason: str


@dataclass(frozen=True)
class _Ended:
    pass


def run_beside(
    work: Callable[[Exchange[Any]], Iterable[_News]], answer: Callable[[Any], object], depth: int
) -> Iterator[_News]:
    """What `work(exchange)` yields in a process of its own, in order; its questions are answered here by `answer`.

    `exchange` may be at most `depth` pairs ahead of those that it yields. The item of a pair stays in its process; a
    question of None is not asked, and its answer is None. `answer` may use a question's arrays until it returns. A
    ConfigError, DataError or OSError of `work` is a ConfigError here, and so is its process's end by a signal.

    A thread would not do: most of the work around a small model holds Python's lock, for which its forward pass,
    hundreds of short operators, would wait again and again. The process is a fork of this one and ends with it.
    Questions and answers lie in memory that both share; a pipe would copy images three times, and hand them over in
    pieces. The memory is anonymous: containers have little of the kind that has a name.
    """
    context = multiprocessing.get_context("fork")
    questions, answers = _Channel(context, depth), _Channel(context, depth)
    process = context.Process(target=_live, args=(work, questions, answers, depth), daemon=True)
    process.start()
    questions.sender.close()
    answers.receiver.close()
    try:
        while not isinstance(message := _received(questions, process), _Ended):
            if isinstance(message, _Failed):
                raise ConfigError(message.reason)
            if isinstance(message, _Told):
                yield message.news
            elif process.is_alive():  # else the last message says why it is not, and nobody needs the answer
                packed = _Packed.of(answer(message.question))
                with contextlib.suppress(BrokenPipeError):
                    answers.send(packed)
    finally:
        process.kill()
        process.join()
        questions.receiver.close()
        answers.sender.close()


@dataclass(frozen=True)
class _Packed:
    """A pickle and the arrays that it leaves out."""

    parts: tuple[bytes | memoryview, ...]

    @classmethod
    def of(cls, content: object) -> _Packed:
        arrays: list[pickle.PickleBuffer] = []
        packed = pickle.dumps(content, protocol=5, buffer_callback=arrays.append)
        return cls((packed, *(array.raw() for array in arrays)))

    @property
    def fits(self) -> bool:
        return sum(map(len, self.parts)) <= _SLOT


class _Channel:
    """A way from one process to the other: contents in slots, used in turn, and a pipe that tells of them."""

    def __init__(self, context: ForkContext, depth: int) -> None:
        self._slots = [mmap.mmap(-1, _SLOT) for _ in range(depth)]
        self._count = 0  # of what was sent, or read, in this process
        self.receiver, self.sender = context.Pipe(duplex=False)

    def _slot(self) -> mmap.mmap:
        slot = self._slots[self._count % len(self._slots)]
        self._count += 1
        return slot

    def send(self, packed: _Packed) -> None:
        """Put it in the next slot, of which the other process has made what it needed."""
        slot = self._slot()
        if packed.fits:
            slot.seek(0)
            for part in packed.parts:
                slot.write(part)
            self.sender.send(_Sent(tuple(map(len, packed.parts))))
        else:
            self.sender.send(_Sent(()))
            self.sender.send_bytes(pickle.dumps([bytes(part) for part in packed.parts]))

    def read(self, sent: _Sent, *, copied: bool) -> Any:
        """What the message tells of; arrays that are not copied last until their slot's next use."""
        slot = self._slot()
        if not sent.lengths:
            packed, *arrays = pickle.loads(self.receiver.recv_bytes())
            return pickle.loads(packed, buffers=map(bytearray, arrays))
        parts, start = [], 0
        for length in sent.lengths:
            parts.append(memoryview(slot)[start : start + length])
            start += length
        return pickle.loads(parts[0], buffers=map(bytearray, parts[1:]) if copied else parts[1:])


def _received(questions: _Channel, process: BaseProcess) -> _Asked | _Told | _Failed | _Ended:
    try:
        message = questions.receiver.recv()
        return _Asked(questions.read(message, copied=False)) if isinstance(message, _Sent) else message
    except (EOFError, OSError):  # OSError: it ended within a message
        process.join()
        hint = "; the system does that when memory runs out" if process.exitcode == -signal.SIGKILL else ""
        raise ConfigError(f"the process that reads and writes ended (exit code {process.exitcode}){hint}") from None


def _live(
    work: Callable[[Exchange[Any]], Iterable[object]], questions: _Channel, answers: _Channel, depth: int
) -> None:
    """The life of the process that works."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # may reach both; the one that answers ends the other
        signal.signal(stop, signal.SIG_IGN)
    end_with_parent()  # else what is killed would leave a process behind that waits forever for its answers
    torch.set_num_threads(1)
    try:
        for news in work(lambda pairs: _exchanged(pairs, questions, answers, depth)):
            questions.sender.send(_Told(news))
    except (ConfigError, DataError) as error:
        questions.sender.send(_Failed(str(error)))
    except OSError as error:
        questions.sender.send(_Failed(f"{error.filename or 'writing'}: {error.strerror or error}"))
    else:
        questions.sender.send(_Ended())


def _exchanged(
    pairs: Iterable[tuple[_Item, object]], questions: _Channel, answers: _Channel, depth: int
) -> Iterator[tuple[_Item, Any]]:
    waiting: deque[tuple[_Item, bool]] = deque()  # with: is there an answer to come?
    asked = 0

    def next_answered() -> tuple[_Item, Any]:
        nonlocal asked
        item, was_asked = waiting.popleft()
        asked -= was_asked
        return item, answers.read(answers.receiver.recv(), copied=True) if was_asked else None

    for item, question in pairs:
        packed = None if question is None else _Packed.of(question)
        # beside what goes through a pipe nothing may be under way: each process could wait for the other to read
        while len(waiting) == depth or (asked and packed is not None and not packed.fits):
            yield next_answered()
        if packed is not None:
            questions.send(packed)
            asked += 1
        waiting.append((item, packed is not None))
    while waiting:
        yield next_answered()
