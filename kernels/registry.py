"""Registration of the Triton operators with torch: shapes, FLOPs and derivatives, so that every torch tool knows them.

An operator is defined once, under `torch.ops.clamp_kernels`. Its derivative is an autograd.Function at the dispatcher's
Autograd key rather than `torch.library.register_autograd`: the same for the compiler, and about 6 us less a call
(14 against 21 us for a trivial operator on one CPU core, torch 2.13).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

ONCE = "this operator can be differentiated once: its gradients have no derivative"
NAMESPACE = "clamp_kernels"
_LIBRARY = torch.library.Library(NAMESPACE, "DEF")

Formula = Callable[..., int]


def define(schema: str, run: Callable[..., Any], fake: Callable[..., Any], flops: Formula) -> Any:
    """Define `schema` ("name(Tensor x, ...) -> Tensor") and return the operator, to be called like a function.

    run: allocates the outputs and launches the kernels; on CPU tensors that is the interpreter's business.
    fake: the same outputs, empty, from the shapes alone.
    flops: from the arguments' shapes (and `out_shape`) to floating-point operations, a multiply-add counting two.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for key in ("CUDA", "CPU"):
        _LIBRARY.impl(name, run, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    packet = getattr(getattr(torch.ops, NAMESPACE), name)
    register_flop_formula(packet)(flops)
    return packet.default


def differentiate(operator: Any, function: type[torch.autograd.Function]) -> None:
    """Make `function` the derivative of `operator`.

    function.forward takes the operator's arguments and calls it under `below_autograd()`.
    """
    _LIBRARY.impl(operator._schema.name.partition("::")[2], function.apply, "Autograd")


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A Function's backward whose results raise when they are differentiated in turn; it saves its inputs.

    torch's `once_differentiable` raises only where the gradient that came in has a derivative itself: with
    create_graph=True and out.sum() it would drop the second-order term in silence.
    """

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        with torch.no_grad():
            results = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return results
        made = [result for result in results if result is not None]
        # What the gradients are functions of: the way back from them leads there, and stops here.
        origins = [x for x in (*gradients, *ctx.saved_tensors) if isinstance(x, torch.Tensor) and x.requires_grad]
        marked = iter(_Once.apply(len(made), *made, *origins))  # type: ignore[no-untyped-call]
        return tuple(None if result is None else next(marked) for result in results)

    return once


class _Once(torch.autograd.Function):
    """The first `count` tensors as they are, and an error for whoever asks for their derivatives by the others."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.detach() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(ONCE)


def below_autograd() -> Any:
    """A context in which an operator's own kernel runs, and not its derivative's bookkeeping again."""
    return torch._C._AutoDispatchBelowAutograd()
