"""How many bytes a call moves, counted where its kernels are interpreted, against those that it cannot but move.

Every lane of every load and store that no mask stops counts, and what operators of torch read and write around the
kernels. What cannot be avoided is to read each input and to write each output once; an operator's intermediate tensors
are moved, but not unavoidable. A cache may hold what is read twice, so this is what a call asks of the memory system
rather than what reaches the chips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels import launch
from kernels.inspect.shipped import Call, Case

_MOVES_NOTHING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")


def measure(case: Case) -> dict[str, Any]:
    """One row; `inspect.traffic_report` says what is in it. Only where Triton interprets."""
    by_kernel = _by_kernel(case)
    moved, least = sum(by_kernel.values()), compulsory_bytes(case.whole)
    return {
        "operator": case.whole.operator,
        "case": case.whole.case,
        "moved_bytes": moved,
        "compulsory_bytes": least,
        "ratio": moved / least,
        "limit": case.limit,
        "by_kernel": by_kernel,
    }


def _by_kernel(case: Case) -> dict[str, int]:
    if case.part is None:
        return dict(count(case.whole))
    few, more = case.interpreted
    moved_few, moved_more = count(case.part(few)), count(case.part(more))
    by_kernel = {}
    for name, moved in moved_more.items():
        each = (moved - moved_few[name]) // (more - few)
        by_kernel[name] = case.times * (moved_few[name] + (case.size - few) * each)
    return by_kernel


def compulsory_bytes(call: Call) -> int:
    """What `call` must read and write, of the shapes alone."""
    arguments = call.arguments(torch.device("meta"))
    with launch.observed(lambda *_: None, launch.INTERPRETED_ARCHITECTURE):
        outputs = call.function(*arguments)
    return _bytes(arguments) + _bytes(outputs)


def count(call: Call) -> Counter[str]:
    """Bytes moved by each kernel, and by each operator of torch, of one call on CPU tensors."""
    arguments = call.arguments(torch.device("cpu"))
    around = _AroundKernels()
    with launch.observed(around.interpret, launch.INTERPRETED_ARCHITECTURE), around:
        call.function(*arguments)
    return around.moved


class _AroundKernels(TorchDispatchMode):
    """Counts what torch's own operators move, and hands each launch to Triton's interpreter, counting there."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: Counter[str] = Counter()
        self._interpreting = False

    def interpret(self, kernel: Any, grid: launch.Grid, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._interpreting = True  # it copies tensors to where it works, which a GPU need not
        with _counting(self.moved, kernel.fn.__name__):
            kernel[grid](*arguments, **options)
        self._interpreting = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not (self._interpreting or func.is_view or name in _MOVES_NOTHING):
            self.moved[f"torch {name}"] += _bytes((args, kwargs)) + _bytes(outputs)
        return outputs


@contextmanager
def _counting(moved: Counter[str], kernel: str) -> Iterator[None]:
    """Triton's interpreter with its loads and stores counted; all kinds of them end in these two functions."""
    from triton.runtime.interpreter import interpreter_builder as builder

    load, store = builder.create_masked_load, builder.create_masked_store

    def add(pointers: Any, mask: Any) -> None:
        lanes = np.count_nonzero(np.broadcast_to(mask.data, pointers.data.shape))
        moved[kernel] += int(lanes) * -(-pointers.get_element_ty().primitive_bitwidth // 8)

    def counted_load(pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        add(pointers, mask)
        return load(pointers, mask, *rest, **named)

    def counted_store(pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        add(pointers, mask)
        return store(pointers, value, mask, *rest, **named)

    builder.create_masked_load, builder.create_masked_store = counted_load, counted_store
    try:
        yield
    finally:
        del builder.create_masked_load, builder.create_masked_store  # the class's own are behind them


def _bytes(values: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
