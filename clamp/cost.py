"""What a forward pass costs, counted rather than timed."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clamp.data.collate import Batch
from clamp.model import Tagger


@torch.no_grad()
def forward_flops(model: Tagger, batch: Batch) -> int:
    """Floating-point operations of one forward pass, a multiply-add counted as two; matrix products and convolutions.

    SDPA is pinned to its mathematical form: the counter sees nothing of the fused CPU kernels.
    """
    model.eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops()
