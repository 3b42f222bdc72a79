"""Attention mass in the kernels: what a probability counts in it, and the sum over a sample's heads."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kernels import launch
from kernels.attention.tiles import load_vector


@triton.jit
def mass_share(query_mask, b, i_Q, H, Lq, BLOCK_Q: tl.constexpr):
    """What a probability of each of the queries i counts in its sample's mass: 1 / (H |W|) in W, else 0."""
    valid_Q = i_Q < Lq
    count = Lq
    if query_mask is not None:
        count = 0
        for start in range(0, Lq, BLOCK_Q):
            all_Q = start + tl.arange(0, BLOCK_Q)
            count += tl.sum(load_vector(query_mask, b, all_Q, all_Q < Lq, 0).to(tl.int32))
        valid_Q = load_vector(query_mask, b, i_Q, valid_Q, 0) != 0
    return tl.where(valid_Q, 1.0 / (H * tl.maximum(count, 1)), 0.0)


@triton.jit
def attention_sum_kernel(p_parts, p_sum, parts, Lk, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr):
    """(B, parts, Lk) float32 to (B, Lk), blocks of parts in their order."""
    tiles = tl.cdiv(Lk, BLOCK_K)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    j_K = tl.program_id(0) % tiles * BLOCK_K + tl.arange(0, BLOCK_K)
    sum_K = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, parts, BLOCK_P):
        part_P = start + tl.arange(0, BLOCK_P)
        mask = (part_P < parts)[:, None] & (j_K < Lk)[None, :]
        b_parts = tl.load(p_parts + (b * parts + part_P)[:, None] * Lk + j_K[None, :], mask=mask, other=0.0)
        sum_K += tl.sum(b_parts, axis=0)
    tl.store(p_sum + b * Lk + j_K, sum_K.to(p_sum.dtype.element_ty), mask=j_K < Lk)


def sum_parts(parts_BPK: torch.Tensor, sum_BK: torch.Tensor) -> None:
    """Fill `sum_BK` with the sums over what the programs of each sample left, in a fixed order."""
    batch, parts, keys = parts_BPK.shape
    launch.launch(
        attention_sum_kernel,
        (batch * triton.cdiv(keys, 128),),
        parts_BPK,
        sum_BK,
        parts,
        keys,
        BLOCK_P=16,
        BLOCK_K=128,
        num_warps=4,
        num_stages=1,
    )
