"""Forward of cross-attention in Triton.

Every program owns a block of the queries of a head of a sample. Where rows are short, inputs have 16 bits and the
compute capability is 9.0, it keeps its queries' whole rows of logits in registers, in tiles of 64 keys with a tail of
16, 32 or 64: keys and values are read once, the mass included. Elsewhere it walks over keys and values once with a
running maximum and sum (Milakov and Gimelshein, 2018, arXiv 1805.02867), and for the mass a second time over the keys.
What the programs contribute to the mass is summed by another kernel, in a fixed order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from kernels import launch
from kernels.attention import configs
from kernels.attention.inputs import Inputs
from kernels.attention.mass import mass_share, sum_parts
from kernels.attention.tiles import (
    LOG2_E,
    dropout_of,
    keep_bits,
    load_key_bias,
    load_rows,
    rows_in_one_piece,
    store_rows,
    view,
)


@triton.jit
def _place(H, Lq, BLOCK_Q: tl.constexpr):
    """Sample, head, their joint number, and queries of this program; a head's programs are neighbours."""
    blocks = tl.cdiv(Lq, BLOCK_Q)
    bh = tl.program_id(0) // blocks
    return bh // H, bh % H, bh, tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)


@triton.jit
def _logits(b_q, b_k, bias_K, scale, PRECISION: tl.constexpr):
    """In bits; -inf at keys that take no part: their rows are loaded without waiting for the mask, and may hold NaN."""
    products = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * (scale * LOG2_E)
    return tl.where(bias_K[None, :] != float("-inf"), products + bias_K[None, :], float("-inf"))


@triton.jit
def _finish(
    out, p_lse, dropout, b, h, bh, i_Q, Lq, b_out, top_Q, total_Q, D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Store the normalised rows, 0 without a valid key, and return and store their logsumexp as `load_lse` has it."""
    divisor_Q = tl.where(total_Q > 0, total_Q, 1.0)
    if dropout is not None:
        b_out *= dropout.keep_scale
    store_rows(out, b, h, i_Q, i_Q < Lq, b_out / divisor_Q[:, None], D, BLOCK_D)
    top_Q, sum_Q = tl.where(total_Q > 0, top_Q, float("inf")), tl.log2(divisor_Q)
    p_row_Q = p_lse + 2 * bh.to(tl.int64) * Lq + i_Q
    tl.store(p_row_Q, top_Q, mask=i_Q < Lq)
    tl.store(p_row_Q + Lq, sum_Q, mask=i_Q < Lq)
    return top_Q, sum_Q


@triton.jit
def _tile_keys(tile: tl.constexpr, FULL_TILES: tl.constexpr, TAIL: tl.constexpr):
    return tile * 64 + tl.arange(0, 64 if tile < FULL_TILES else TAIL)


@triton.jit
def _load_values(
    v, key_mask, key_bias, b, h, Lk,
    D: tl.constexpr, BLOCK_D: tl.constexpr, FULL_TILES: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    b_vs = ()
    for tile in tl.static_range(FULL_TILES + (TAIL > 0)):
        j_K = _tile_keys(tile, FULL_TILES, TAIL)
        # Which keys are valid is read again, for the last time: kept from before, it would take registers.
        _, valid_K = load_key_bias(key_mask, key_bias, b, j_K, Lk, "evict_first")
        b_vs += (load_rows(v, b, h, j_K, valid_K, D, BLOCK_D),)
    return b_vs


@triton.jit
def _first_columns(b, N: tl.constexpr):
    """The first N columns of a block, which stay in their threads' registers."""
    GROUPS: tl.constexpr = b.shape[1] // N
    b = tl.reshape(b, [b.shape[0], GROUPS, N])
    return tl.sum(tl.where((tl.arange(0, GROUPS) == 0)[None, :, None], b, 0), axis=1)


@triton.jit
def attention_fwd_row_kernel(
    q, k, v, key_mask, key_bias, dropout, query_mask, out, p_lse, p_mass, H, Lq, Lk, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr,
    FULL_TILES: tl.constexpr, TAIL: tl.constexpr, EARLY_VALUES: tl.constexpr,
):  # fmt: skip
    """out, lse and the part of the mass of a block of queries whose logits are all held at once."""
    TILES: tl.constexpr = FULL_TILES + (TAIL > 0)
    b, h, bh, i_Q = _place(H, Lq, BLOCK_Q)
    b_q = load_rows(q, b, h, i_Q, i_Q < Lq, D, BLOCK_D)
    b_ks = ()
    biases = ()
    for tile in tl.static_range(TILES):
        j_K = _tile_keys(tile, FULL_TILES, TAIL)
        b_ks += (load_rows(k, b, h, j_K, j_K < Lk, D, BLOCK_D),)
        bias_K, _ = load_key_bias(key_mask, key_bias, b, j_K, Lk)
        biases += (bias_K,)

    top_Q = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    logits = ()
    for tile in tl.static_range(TILES):
        b_logits = _logits(b_q, b_ks[tile], biases[tile], scale, "ieee")
        top_Q = tl.maximum(top_Q, tl.max(b_logits, axis=1))
        logits += (b_logits,)
    if EARLY_VALUES:
        b_vs = _load_values(v, key_mask, key_bias, b, h, Lk, D, BLOCK_D, FULL_TILES, TAIL)

    top_Q = tl.where(top_Q == float("-inf"), 0.0, top_Q)
    total_Q = tl.zeros([BLOCK_Q], tl.float32)
    probs = ()
    for tile in tl.static_range(TILES):
        b_probs = tl.exp2(logits[tile] - top_Q[:, None])
        total_Q += tl.sum(b_probs, axis=1)
        probs += (b_probs,)

    if p_mass is not None:
        share_Q = mass_share(query_mask, b, i_Q, H, Lq, BLOCK_Q) / tl.where(total_Q > 0, total_Q, 1.0)
        for tile in tl.static_range(TILES):
            j_K = _tile_keys(tile, FULL_TILES, TAIL)
            mass_K = tl.sum(probs[tile] * share_Q[:, None], axis=0)
            tl.store(p_mass + tl.program_id(0).to(tl.int64) * Lk + j_K, mass_K, mask=j_K < Lk)

    rounded = ()
    for tile in tl.static_range(TILES):
        rounded += (probs[tile].to(b_q.dtype),)
    if not EARLY_VALUES:
        b_vs = _load_values(v, key_mask, key_bias, b, h, Lk, D, BLOCK_D, FULL_TILES, TAIL)
    if dropout is not None:
        # A choice that is always the same makes each thread draw for the probabilities that it holds; the compiler
        # would spread the draws otherwise, and carry their results through shared memory.
        b_lanes = tl.where(rounded[0] >= 0, tl.arange(0, rounded[0].shape[1])[None, :], 0)
        bits = keep_bits(dropout, bh, i_Q, b_lanes, 0, TILES)
    b_out = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for tile in tl.static_range(TILES):
        b_kept = rounded[tile]
        if dropout is not None:
            keep = (bits >> tile) & 1
            if keep.shape[1] > b_kept.shape[1]:
                keep = _first_columns(keep, TAIL)
            b_kept = tl.where(keep != 0, b_kept, 0.0)
        b_out = tl.dot(b_kept, b_vs[tile], b_out)
    _finish(out, p_lse, dropout, b, h, bh, i_Q, Lq, b_out, top_Q, total_Q, D, BLOCK_D)


@triton.jit
def _step(
    state, b_q, k, v, key_mask, key_bias, b, h, j_K, Lk, scale, keep,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Largest logit, sum of exponentials and weighted values of each query, with keys j added."""
    top_Q, total_Q, b_out = state
    bias_K, valid_K = load_key_bias(key_mask, key_bias, b, j_K, Lk)
    b_k = load_rows(k, b, h, j_K, j_K < Lk, D, BLOCK_D)
    b_v = load_rows(v, b, h, j_K, valid_K, D, BLOCK_D)
    b_logits = _logits(b_q, b_k, bias_K, scale, PRECISION)
    new_top_Q = tl.maximum(top_Q, tl.max(b_logits, axis=1))
    base_Q = tl.where(new_top_Q == float("-inf"), 0.0, new_top_Q)
    b_probs = tl.exp2(b_logits - base_Q[:, None])
    shrink_Q = tl.exp2(top_Q - base_Q)
    total_Q = total_Q * shrink_Q + tl.sum(b_probs, axis=1)
    b_kept = b_probs.to(b_v.dtype)
    if keep is not None:
        b_kept = tl.where(keep != 0, b_kept, 0.0)
    b_out = tl.dot(b_kept, b_v, b_out * shrink_Q[:, None], input_precision=PRECISION)
    return new_top_Q, total_Q, b_out


@triton.jit
def attention_fwd_loop_kernel(
    q, k, v, key_mask, key_bias, dropout, query_mask, out, p_lse, p_mass, H, Lq, Lk, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out, lse and the part of the mass of a block of queries, for rows of any length."""
    b, h, bh, i_Q = _place(H, Lq, BLOCK_Q)
    b_q = load_rows(q, b, h, i_Q, i_Q < Lq, D, BLOCK_D)
    column_K = tl.arange(0, BLOCK_K)
    top_Q = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    state = (top_Q, tl.zeros([BLOCK_Q], tl.float32), tl.zeros([BLOCK_Q, BLOCK_D], tl.float32))
    if dropout is None:
        for start in range(0, Lk, BLOCK_K):
            state = _step(
                state, b_q, k, v, key_mask, key_bias, b, h, start + column_K, Lk, scale, None, D, BLOCK_D, PRECISION
            )  # fmt: skip
    else:
        # Tiles that lie 64 keys apart follow each other: eight of them share their calls of Philox.
        for first in range(0, Lk, 512):
            for lane in range(0, 64, BLOCK_K):
                bits = keep_bits(dropout, bh, i_Q, (lane + column_K)[None, :], first // 512, 8)
                for start in range(first + lane, tl.minimum(first + 512, Lk), 64):
                    keep = (bits >> (start % 512 // 64)) & 1
                    state = _step(
                        state, b_q, k, v, key_mask, key_bias, b, h, start + column_K, Lk, scale, keep,
                        D, BLOCK_D, PRECISION,
                    )  # fmt: skip
    top_Q, total_Q, b_out = state
    top_Q, sum_Q = _finish(out, p_lse, dropout, b, h, bh, i_Q, Lq, b_out, top_Q, total_Q, D, BLOCK_D)

    if p_mass is not None:
        share_Q = mass_share(query_mask, b, i_Q, H, Lq, BLOCK_Q)
        for start in range(0, Lk, BLOCK_K):
            j_K = start + column_K
            bias_K, _ = load_key_bias(key_mask, key_bias, b, j_K, Lk)
            b_k = load_rows(k, b, h, j_K, j_K < Lk, D, BLOCK_D)
            b_probs = tl.exp2((_logits(b_q, b_k, bias_K, scale, PRECISION) - top_Q[:, None]) - sum_Q[:, None])
            mass_K = tl.sum(b_probs * share_Q[:, None], axis=0)
            tl.store(p_mass + tl.program_id(0).to(tl.int64) * Lk + j_K, mass_K, mask=j_K < Lk)


def allocate(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Empty out, mass (of no element where it is not asked for) and the two parts of lse, of `Inputs`.

    In memory out is (B, Lq, H, D), as what comes after attention reads it.
    """
    a = Inputs(*arguments)
    B, H, Lq, D = a.q_BHQD.shape
    out_BHQD = a.q_BHQD.new_empty_strided((B, H, Lq, D), (Lq * H * D, D, H * D, 1))
    mass_BK = a.q_BHQD.new_empty((B, a.k_BHKD.shape[2]) if a.return_mass else (0,), dtype=torch.float32)
    return out_BHQD, mass_BK, a.q_BHQD.new_empty((B, H, 2, Lq), dtype=torch.float32)


def forward(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """out, mass and lse of `Inputs`, whose seed is a 0-dim int64 tensor on q's device, not read without dropout.

    Returns:
        out (B, H, Lq, D) of q's type, (B, Lq, H, D) in memory; mass (B, Lk) float32, (0,) where not asked for; and lse
        (B, H, 2, Lq) float32, the logsumexp of each row of logits over the valid keys, in bits and in two parts: the
        largest logit, and log2 of the sum of exponentials relative to it. Without a valid key the first is +inf.
    """
    a = Inputs(*arguments)
    out_BHQD, mass_BK, lse_BH2Q = allocate(*a)
    if a.q_BHQD.numel() == 0 or a.k_BHKD.numel() == 0:  # nothing to attend, or to attend to
        return out_BHQD.zero_(), mass_BK.zero_(), lse_BH2Q.fill_(math.inf)
    q_BHQD, k_BHKD, v_BHKD = map(rows_in_one_piece, (a.q_BHQD, a.k_BHKD, a.v_BHKD))
    B, H, Lq, D = q_BHQD.shape
    Lk = k_BHKD.shape[2]
    dropout = dropout_of(a.dropout_p, a.seed)
    arch, features = launch.architecture(q_BHQD.device), (a.return_mass, dropout is not None)
    row = configs.forward_row(arch, q_BHQD.dtype, Lq, Lk, D, *features)
    loop = configs.forward_loop(arch, q_BHQD.dtype, Lq, D, *features)
    blocks = triton.cdiv(Lq, (row or loop).block_q)
    parts_BPK = q_BHQD.new_empty((B, H * blocks, Lk), dtype=torch.float32) if a.return_mass else None
    given = (
        *map(view, (q_BHQD, k_BHKD, v_BHKD, a.key_mask_BK, a.key_bias_BK)), dropout, view(a.query_mask_BQ),
        view(out_BHQD), lse_BH2Q, parts_BPK, H, Lq, Lk, a.scale,
    )  # fmt: skip
    widths = {"D": D, "BLOCK_D": max(16, triton.next_power_of_2(D))}
    if row is not None:
        full_tiles, rest = divmod(Lk, 64)
        launch.launch(
            attention_fwd_row_kernel, (B * H * blocks,), *given, **widths,
            BLOCK_Q=row.block_q, FULL_TILES=full_tiles,
            TAIL=0 if full_tiles and rest == 0 else max(16, triton.next_power_of_2(rest)),
            EARLY_VALUES=row.early_values, num_warps=row.num_warps, num_stages=1, maxnreg=configs.ALL_REGISTERS,
        )  # fmt: skip
    else:
        launch.launch(
            attention_fwd_loop_kernel, (B * H * blocks,), *given, **widths,
            BLOCK_Q=loop.block_q, BLOCK_K=loop.block_k,
            PRECISION="tf32x3" if q_BHQD.dtype == torch.float32 else "ieee",
            num_warps=loop.num_warps, num_stages=loop.num_stages, maxnreg=loop.maxnreg,
        )  # fmt: skip
    if parts_BPK is not None:
        sum_parts(parts_BPK, mass_BK)
    return out_BHQD, mass_BK, lse_BH2Q
