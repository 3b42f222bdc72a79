"""What others offer for the same works: SDPA's backends one by one, FlexAttention, and two packages for losses.

A peer that is not installed, or refuses its inputs, raises; the report then holds its reason.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.bench.measure.devices import Device
from kernels.bench.measure.timing import Variant, forward_backward
from kernels.bench.works import eager

SDPA = "SDPA "  # with which the names of its backends begin
_SDPA_BACKENDS = {
    SDPA + "efficient": SDPBackend.EFFICIENT_ATTENTION,
    SDPA + "cudnn": SDPBackend.CUDNN_ATTENTION,
    SDPA + "flash": SDPBackend.FLASH_ATTENTION,  # takes no mask, and says so
    SDPA + "math": SDPBackend.MATH,
}
FLEX = "FlexAttention"
COMPILED = "torch.compile"
INF_CL = "Inf-CL"
SIGLIP = "siglip-kernel"


def sdpa(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor, dropout_p: float = 0.0
) -> torch.Tensor:
    """scaled_dot_product_attention with a key mask."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask[:, None, None], dropout_p=dropout_p)


def sdpa_backends() -> dict[str, Variant]:
    """SDPA pinned to each backend in turn: left alone, it lets the mask decide."""

    def pinned(backend: SDPBackend) -> Variant:
        return forward_backward(sdpa, lambda: _pinned(backend))

    return {name: pinned(backend) for name, backend in _SDPA_BACKENDS.items()}


@contextmanager
def _pinned(backend: SDPBackend) -> Iterator[None]:
    with sdpa_kernel(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that refuses warns of every other too
        yield


def default_backend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor) -> str:
    """The backend that SDPA picks when it is not told."""
    return SDPBackend(torch._fused_sdp_choice(q, k, v, attn_mask=key_mask[:, None, None])).name


def flex_attention(device: Device) -> Variant:
    """FlexAttention with the key mask as a block mask, which is made once a sample: its making is not timed."""
    from torch.nn.attention.flex_attention import create_block_mask
    from torch.nn.attention.flex_attention import flex_attention as flex

    compiled = flex if device.rehearses else torch.compile(flex, dynamic=False)
    block_masks: dict[int, Any] = {}

    def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor, **_: Any) -> Any:
        if id(key_mask) not in block_masks:

            def attends(b: Any, h: Any, i: Any, j: Any) -> Any:
                return key_mask[b, j]

            block_masks[id(key_mask)] = create_block_mask(
                attends, q.shape[0], None, q.shape[2], k.shape[2], device=device.name
            )
        return compiled(q, k, v, block_mask=block_masks[id(key_mask)])

    return forward_backward(forward)


def compiled(device: Device, forward: Callable[..., Any]) -> Variant:
    """torch.compile of an eager form, for the shapes at hand."""
    return forward_backward(torch.compile(forward, backend=device.compiler, dynamic=False))


def inf_cl() -> Variant:
    """Inf-CL 1.2's loss on one GPU: both directions, each with its own products, as its own example calls it."""
    flash_loss = importlib.import_module("inf_cl").cal_flash_loss

    def forward(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return (flash_loss(a, b, scale=scale).mean() + flash_loss(b, a, scale=scale).mean()) / 2

    return forward_backward(forward)


def siglip_kernel() -> Variant:
    """siglip-kernel 0.1's sigmoid loss: another loss with products of the same size, three where ours has four."""
    sigmoid_loss = importlib.import_module("siglip_kernel").fused_siglip_loss

    def forward(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return sigmoid_loss(a, b, scale.log(), scale.new_full((), -10.0))

    return forward_backward(forward)


def contrastive(device: Device) -> dict[str, Callable[[], Variant]]:
    """How to make each variant that is not ours; making one raises where its package is not installed."""
    return {
        "eager": lambda: forward_backward(eager.info_nce),
        "eager, one product": lambda: forward_backward(eager.info_nce_one_product),
        COMPILED: lambda: compiled(device, eager.info_nce),
        SIGLIP: siglip_kernel,
        INF_CL: inf_cl,
    }
