"""A model compiled for prediction on a CPU, its weights laid out once and not in every product.

A matrix product on a CPU first copies the weights into the order in which the processor's vector units read them. Where
few rows share that copy, as those of one tweet do, it takes a large part of the product's time. torch.compile makes it
once for all where its `freezing` is on: weights are then constants of the program.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import torch._inductor.config as inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from clamp.config import ConfigError

P = ParamSpec("P")
T = TypeVar("T")


def compiled(forward: Callable[P, T], *, any_length: bool) -> Callable[P, T]:
    """`forward` of a module in eval mode, compiled when it is first called; for calls without gradients.

    any_length: one program for whatever number of tokens and regions, and one more for batches of several tweets.
    Otherwise one for each shape, and faster: the best order of the weights depends on how many rows share them. torch
    keeps eight programs of a class's `forward` in a process, over all its instances; further calls run uncompiled.

    A program holds a copy of the weights, in their new order, as they were when it was first called: what is changed in
    them later is not seen. ConfigError where torch finds no C++ compiler.
    """
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ConfigError("compiling a model needs a C++ compiler, g++ or what CXX names: there is none here") from None
    program = torch.compile(forward, dynamic=any_length)

    @wraps(forward)
    def call(*args: P.args, **options: P.kwargs) -> T:
        # In every call, because any may be the first of its shape. As an option of torch.compile it would come too
        # late: what is to be a constant is decided when Python is traced.
        with inductor.patch(freezing=True), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            return program(*args, **options)

    return call
