"""A model compiled for prediction on a CPU, its weights laid out once and not in every product.

A matrix product on a CPU first copies the weights into the order in which the processor's vector units read them. Where
few rows share that copy, as those of one tweet do, it takes a large part of the product's time. torch.compile makes it
once for all where its `freezing` is on: weights are then constants of the program.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import torch._inductor.config as inductor

from clamp.config import ConfigError

P = ParamSpec("P")
T = TypeVar("T")

_COMPILERS = ("g++", "clang++")


def compiled(forward: Callable[P, T], *, any_length: bool) -> Callable[P, T]:
    """`forward` of a module in eval mode, compiled when it is first called; for calls without gradients.

    any_length: one program for whatever number of tokens and regions, and one more for batches of several tweets.
    Otherwise one for each shape, eight at most, and faster: the best order depends on how many rows share the weights.

    The weights are those of the first call, kept a second time in their new order; what is later changed in them is not
    seen. ConfigError where there is no C++ compiler.
    """
    if not any(map(shutil.which, _COMPILERS)):
        raise ConfigError(f"compiling a model needs a C++ compiler ({' or '.join(_COMPILERS)}), and there is none here")
    program = torch.compile(forward, dynamic=any_length)

    @wraps(forward)
    def call(*args: P.args, **options: P.kwargs) -> T:
        # In every call, because any may be the first of its shape. As an option of torch.compile it would come too
        # late: what is to be a constant is decided when Python is traced.
        with inductor.patch(freezing=True), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            return program(*args, **options)

    return call
