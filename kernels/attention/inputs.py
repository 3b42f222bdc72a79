"""What a call of cross-attention is given: one definition of its ten arguments and of their order."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Inputs(NamedTuple):
    """The arguments of `kernels.cross_attention`, in the order in which its implementations and operators take them."""

    q_BHQD: Tensor
    k_BHKD: Tensor
    v_BHKD: Tensor
    key_mask_BK: Tensor | None
    key_bias_BK: Tensor | None
    scale: float
    dropout_p: float
    seed: Any  # int or 0-dim int64 tensor; for the registered operators a tensor, or None without dropout
    return_mass: bool
    query_mask_BQ: Tensor | None
