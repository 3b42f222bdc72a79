"""Pieces of the attention kernels: rows of a head, a sample's keys, the probabilities of a tile, and its dropout."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl


class View(NamedTuple):
    """A tensor as a kernel takes it: the data, and the strides of all dimensions but a head's innermost, which is 1."""

    p: torch.Tensor
    s: tuple[int, ...]


def view(x: torch.Tensor | None) -> View | None:
    return None if x is None else View(x, x.stride()[:3])


class Dropout(NamedTuple):
    """What `philox` defines a mask by: the seed, its threshold, and what kept elements are multiplied by."""

    p_seed: torch.Tensor
    threshold: int
    keep_scale: float


@triton.jit
def row_pointers(x, b, h, i_N, BLOCK_D: tl.constexpr):
    """Pointers (N, BLOCK_D) to rows i of head h of sample b."""
    base = x.p + b.to(tl.int64) * x.s[0] + h.to(tl.int64) * x.s[1]
    return base + i_N.to(tl.int64)[:, None] * x.s[2] + tl.arange(0, BLOCK_D)[None, :]


@triton.jit
def row_mask(valid_N, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Which elements of rows padded from D to BLOCK_D may be touched."""
    mask = valid_N[:, None]
    if D < BLOCK_D:
        mask = mask & (tl.arange(0, BLOCK_D) < D)[None, :]
    return mask


@triton.jit
def load_rows(x, b, h, i_N, valid_N, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows (N, BLOCK_D), 0 where not valid: what lies there may be NaN."""
    return tl.load(row_pointers(x, b, h, i_N, BLOCK_D), mask=row_mask(valid_N, D, BLOCK_D), other=0.0)


@triton.jit
def store_rows(x, b, h, i_N, valid_N, rows, D: tl.constexpr, BLOCK_D: tl.constexpr):
    pointers = row_pointers(x, b, h, i_N, BLOCK_D)
    tl.store(pointers, rows.to(x.p.dtype.element_ty), mask=row_mask(valid_N, D, BLOCK_D))


@triton.jit
def load_vector(x, b, i_N, valid_N, other: tl.constexpr, EVICTION: tl.constexpr = ""):
    """Elements i of row b of a matrix."""
    p_row = x.p + b.to(tl.int64) * x.s[0]
    return tl.load(p_row + i_N.to(tl.int64) * x.s[1], mask=valid_N, other=other, eviction_policy=EVICTION)


@triton.jit
def load_key_bias(key_mask, key_bias, b, j_K, Lk, EVICTION: tl.constexpr = ""):
    """What is added to the logits of keys j, -inf where a key takes no part, and which keys take part."""
    valid_K = j_K < Lk
    if key_mask is not None:
        valid_K = load_vector(key_mask, b, j_K, valid_K, 0, EVICTION) != 0
    if key_bias is None:
        bias_K = tl.where(valid_K, 0.0, float("-inf"))
    else:
        bias_K = load_vector(key_bias, b, j_K, valid_K, float("-inf"), EVICTION).to(tl.float32)
        valid_K = bias_K != float("-inf")
    return bias_K, valid_K


@triton.jit
def probabilities(b_q, b_k, bias_K, lse_Q, scale, PRECISION: tl.constexpr):
    """Softmax of a tile whose rows' logsumexp is known; 0 in a row without a valid key, whose logsumexp is +inf."""
    logits = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * scale + bias_K[None, :]
    # Subtracted before exp folds in log2(e): logits may be large, and what is left of them is not.
    return tl.exp(logits - lse_Q[:, None])


@triton.jit
def key_place(tile, BLOCK_K: tl.constexpr, SHARED: tl.constexpr):
    """Where a tile's keys j lie: its first j // 64 and its first j % 64."""
    groups: tl.constexpr = 64 * SHARED // BLOCK_K
    return tile // groups * SHARED, tile % groups * (BLOCK_K // SHARED)


@triton.jit
def tile_keys(tile, BLOCK_K: tl.constexpr, SHARED: tl.constexpr):
    """The keys of a tile: consecutive ones, or such that SHARED neighbours lie 64 apart and share a call of Philox."""
    column_K = tl.arange(0, BLOCK_K)
    if SHARED == 1:
        return tile * BLOCK_K + column_K
    else:
        first, lane = key_place(tile, BLOCK_K, SHARED)
        return (first + column_K % SHARED) * 64 + lane + column_K // SHARED


def tile_count(keys: int, block_k: int, shared: int) -> int:
    """How many tiles hold that many keys."""
    if shared == 1:
        return triton.cdiv(keys, block_k)
    whole, rest = divmod(keys, 64 * shared)
    return whole * 64 * shared // block_k + triton.cdiv(min(rest, 64) * shared, block_k)


@triton.jit
def tile_gain(dropout, bh, i_Q, tile, BLOCK_K: tl.constexpr, SHARED: tl.constexpr):
    """What a tile's probabilities are multiplied by (`philox.attention_keep_mask`): 0, or the keep scale.

    The words of a call are computed once, by one thread, and spread over SHARED columns: tl.join keeps them in its
    registers, and a layout conversion of bits brings them to those of the logits.
    """
    first, lane = key_place(tile, BLOCK_K, SHARED)
    lane_L = lane + tl.arange(0, BLOCK_K // SHARED)
    zero = tl.zeros([i_Q.shape[0], BLOCK_K // SHARED], tl.uint32)
    a, b, c, d = tl.philox(
        tl.load(dropout.p_seed),
        zero + i_Q[:, None].to(tl.uint32),
        zero + lane_L[None, :].to(tl.uint32),
        zero + bh,
        zero + first // 8,
        n_rounds=7,
    )
    if SHARED == 1:  # at most 64 keys
        keep = (a & 0xFFFF) >= dropout.threshold
    elif SHARED == 2:  # at most 128
        keep = tl.join((a & 0xFFFF) >= dropout.threshold, (a >> 16) >= dropout.threshold)
    else:
        a = tl.where(first % 8 == 0, a, c)
        b = tl.where(first % 8 == 0, b, d)
        low = tl.join((a & 0xFFFF) >= dropout.threshold, (b & 0xFFFF) >= dropout.threshold)
        high = tl.join((a >> 16) >= dropout.threshold, (b >> 16) >= dropout.threshold)
        keep = tl.join(low, high)
    return tl.where(tl.reshape(keep, [i_Q.shape[0], BLOCK_K]), dropout.keep_scale, 0.0)
