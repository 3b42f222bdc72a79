"""Backward of cross-attention in Triton: deterministic, without atomics, with gradients of key bias and mass.

With P, keep and c as in `reference.cross_attention`, and w_i = 1 for a valid query of W and 0 for another:

    share_i = w_i / (H |W|)
    dP_ij   = c keep_ij dout_i . v_j + share_i dmass_j
    delta_i = sum_j P_ij dP_ij = dout_i . out_i + share_i sum_j P_ij dmass_j
    dS_ij   = P_ij (dP_ij - delta_i)
    dq_i    = scale sum_j dS_ij k_j          dk_j    = scale sum_i dS_ij q_i
    dv_j    = c sum_i keep_ij P_ij dout_i    dbias_j = sum_h sum_i dS_hij

Up to 128 queries one program owns a head of a sample: it walks over the keys once (twice with a gradient of the mass,
which delta needs first), keeps dq in registers, and writes each key's dk and dv once. Beyond, and where that would spill
registers, the same program takes a block of the queries and computes delta and dq only; a second kernel, by blocks of
keys, computes dk, dv and dbias.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels import launch, philox
from kernels.attention_tiles import (
    Dropout,
    View,
    load_key_bias,
    load_rows,
    load_vector,
    probabilities,
    store_rows,
    tile_count,
    tile_gain,
    tile_keys,
)


class Config(NamedTuple):
    """Queries and keys of a tile, and how the compiler spreads it."""

    block_q: int
    block_k: int
    num_warps: int
    num_stages: int


@triton.jit
def _mass_weight(query_mask, b, H, Lq, BLOCK_Q: tl.constexpr):
    """What a probability of a valid query counts in the mass."""
    count = Lq
    if query_mask is not None:
        count = 0
        for start in range(0, Lq, BLOCK_Q):
            i_Q = start + tl.arange(0, BLOCK_Q)
            count += tl.sum(load_vector(query_mask, b, i_Q, i_Q < Lq, 0).to(tl.int32))
    return 1.0 / (H * tl.maximum(count, 1))


@triton.jit
def _mass_share(query_mask, weight, b, i_Q, Lq):
    """What a probability of each of the queries i counts in the mass."""
    valid_Q = i_Q < Lq
    if query_mask is not None:
        valid_Q = load_vector(query_mask, b, i_Q, valid_Q, 0) != 0
    return tl.where(valid_Q, weight, 0.0)


@triton.jit
def _tile_gradients(
    queries,
    keys,
    dmass,
    b,
    dropout,
    bh,
    tile,
    scale,
    BLOCK_K: tl.constexpr,
    SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Of a tile: the probabilities that dropout kept, and the gradient of the logits."""
    i_Q, b_q, b_dout, lse_Q, delta_Q, share_Q = queries
    j_K, valid_K, b_k, b_v, bias_K = keys
    probs = probabilities(b_q, b_k, bias_K, lse_Q, scale, PRECISION)
    dprobs = tl.dot(b_dout, tl.trans(b_v), input_precision=PRECISION)
    kept = probs
    if dropout is not None:
        gain = tile_gain(dropout, bh, i_Q, tile, BLOCK_K, SHARED)
        kept = probs * gain
        dprobs = dprobs * gain
    if dmass is not None:
        dmass_K = load_vector(dmass, b, j_K, valid_K, 0.0)
        dprobs += share_Q[:, None] * dmass_K[None, :]
    return kept, probs * (dprobs - delta_Q[:, None])


@triton.jit
def attention_bwd_queries_kernel(
    dout,
    dmass,
    q,
    k,
    v,
    key_mask,
    key_bias,
    out,
    p_lse,
    dropout,
    query_mask,
    dq,
    dk,
    dv,
    p_dbias,
    p_delta,
    H,
    Lq,
    Lk,
    tiles,
    scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq of a block of queries; with dk, of all queries, and dk, dv and dbias; else delta."""
    bh = tl.program_id(0)
    b, h = bh // H, bh % H
    i_Q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    valid_Q = i_Q < Lq
    b_q = load_rows(q, b, h, i_Q, valid_Q, D, BLOCK_D)
    b_dout = load_rows(dout, b, h, i_Q, valid_Q, D, BLOCK_D)
    b_out = load_rows(out, b, h, i_Q, valid_Q, D, BLOCK_D)
    row_Q = bh.to(tl.int64) * Lq + i_Q
    lse_Q = tl.load(p_lse + row_Q, mask=valid_Q, other=float("inf"))
    delta_Q = tl.sum(b_dout.to(tl.float32) * b_out.to(tl.float32), axis=1)

    share_Q = delta_Q
    if dmass is not None:
        share_Q = _mass_share(query_mask, _mass_weight(query_mask, b, H, Lq, BLOCK_Q), b, i_Q, Lq)
        received = tl.zeros([BLOCK_Q, BLOCK_K], tl.float32)
        for tile in range(0, tiles):
            j_K = tile_keys(tile, BLOCK_K, SHARED)
            bias_K, valid_K = load_key_bias(key_mask, key_bias, b, j_K, Lk)
            b_k = load_rows(k, b, h, j_K, valid_K, D, BLOCK_D)
            dmass_K = load_vector(dmass, b, j_K, valid_K, 0.0)
            received += probabilities(b_q, b_k, bias_K, lse_Q, scale, PRECISION) * dmass_K[None, :]
        delta_Q += share_Q * tl.sum(received, axis=1)
    if p_delta is not None:
        tl.store(p_delta + row_Q, delta_Q, mask=valid_Q)

    b_dq = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for tile in range(0, tiles):
        j_K = tile_keys(tile, BLOCK_K, SHARED)
        bias_K, valid_K = load_key_bias(key_mask, key_bias, b, j_K, Lk)
        b_k = load_rows(k, b, h, j_K, valid_K, D, BLOCK_D)
        b_v = load_rows(v, b, h, j_K, valid_K, D, BLOCK_D)
        kept, dlogits = _tile_gradients(
            (i_Q, b_q, b_dout, lse_Q, delta_Q, share_Q),
            (j_K, valid_K, b_k, b_v, bias_K),
            dmass,
            b,
            dropout,
            bh,
            tile,
            scale,
            BLOCK_K,
            SHARED,
            PRECISION,
        )
        if p_dbias is not None:
            tl.store(p_dbias + bh.to(tl.int64) * Lk + j_K, tl.sum(dlogits, axis=0), mask=j_K < Lk)
        b_dlogits = dlogits.to(b_q.dtype)
        if dk is not None:
            b_dv = tl.dot(tl.trans(kept.to(b_dout.dtype)), b_dout, input_precision=PRECISION)
            store_rows(dv, b, h, j_K, j_K < Lk, b_dv, D, BLOCK_D)
            b_dk = tl.dot(tl.trans(b_dlogits), b_q, input_precision=PRECISION) * scale
            store_rows(dk, b, h, j_K, j_K < Lk, b_dk, D, BLOCK_D)
        b_dq = tl.dot(b_dlogits, b_k, b_dq, input_precision=PRECISION)
    store_rows(dq, b, h, i_Q, valid_Q, b_dq * scale, D, BLOCK_D)


@triton.jit
def attention_bwd_keys_kernel(
    dout,
    dmass,
    q,
    k,
    v,
    key_mask,
    key_bias,
    p_lse,
    p_delta,
    dropout,
    query_mask,
    dk,
    dv,
    p_dbias,
    H,
    Lq,
    Lk,
    scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk, dv and dbias of a tile of keys, from the delta that the other kernel left."""
    bh, tile = tl.program_id(0), tl.program_id(1)
    b, h = bh // H, bh % H
    j_K = tile_keys(tile, BLOCK_K, SHARED)
    bias_K, valid_K = load_key_bias(key_mask, key_bias, b, j_K, Lk)
    b_k = load_rows(k, b, h, j_K, valid_K, D, BLOCK_D)
    b_v = load_rows(v, b, h, j_K, valid_K, D, BLOCK_D)
    weight = 0.0
    if dmass is not None:
        weight = _mass_weight(query_mask, b, H, Lq, BLOCK_Q)

    b_dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    b_dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dbias_K = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, Lq, BLOCK_Q):
        i_Q = start + tl.arange(0, BLOCK_Q)
        valid_Q = i_Q < Lq
        row_Q = bh.to(tl.int64) * Lq + i_Q
        b_q = load_rows(q, b, h, i_Q, valid_Q, D, BLOCK_D)
        b_dout = load_rows(dout, b, h, i_Q, valid_Q, D, BLOCK_D)
        lse_Q = tl.load(p_lse + row_Q, mask=valid_Q, other=float("inf"))
        delta_Q = tl.load(p_delta + row_Q, mask=valid_Q, other=0.0)
        share_Q = delta_Q
        if dmass is not None:
            share_Q = _mass_share(query_mask, weight, b, i_Q, Lq)
        kept, dlogits = _tile_gradients(
            (i_Q, b_q, b_dout, lse_Q, delta_Q, share_Q),
            (j_K, valid_K, b_k, b_v, bias_K),
            dmass,
            b,
            dropout,
            bh,
            tile,
            scale,
            BLOCK_K,
            SHARED,
            PRECISION,
        )
        if p_dbias is not None:
            dbias_K += tl.sum(dlogits, axis=0)
        b_dv = tl.dot(tl.trans(kept.to(b_dout.dtype)), b_dout, b_dv, input_precision=PRECISION)
        b_dk = tl.dot(tl.trans(dlogits.to(b_q.dtype)), b_q, b_dk, input_precision=PRECISION)
    store_rows(dk, b, h, j_K, j_K < Lk, b_dk * scale, D, BLOCK_D)
    store_rows(dv, b, h, j_K, j_K < Lk, b_dv, D, BLOCK_D)
    if p_dbias is not None:
        tl.store(p_dbias + bh.to(tl.int64) * Lk + j_K, dbias_K, mask=j_K < Lk)


@triton.jit
def sum_heads_kernel(p_partial, p_sum, H, Lk, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr):
    """(B, H, Lk) float32 to (B, Lk), heads in order of blocks."""
    b = tl.program_id(0).to(tl.int64)
    j_K = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    sum_K = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, H, BLOCK_H):
        h_H = start + tl.arange(0, BLOCK_H)
        mask = (h_H < H)[:, None] & (j_K < Lk)[None, :]
        partials = tl.load(p_partial + (b * H + h_H)[:, None] * Lk + j_K[None, :], mask=mask, other=0.0)
        sum_K += tl.sum(partials, axis=0)
    tl.store(p_sum + b * Lk + j_K, sum_K.to(p_sum.dtype.element_ty), mask=j_K < Lk)


def configure(
    arch: int, dtype: torch.dtype, Lq: int, D: int, mass: bool, dropout: bool
) -> tuple[Config, Config | None]:
    """Tiles of the kernel by queries and of the kernel by keys; None where the first one does everything."""
    if Lq > 128:
        return Config(64, 32, 4, 2), Config(64, 32, 4, 2)
    return Config(128 if Lq > 64 else 64 if Lq > 32 else 32, 32, 8 if Lq > 64 else 4, 2), None


def allocate(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_bias: torch.Tensor | None, need_bias_grad: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Empty dq, dk, dv and dbias, in the memory layout of their inputs where that has its rows in one piece."""
    dq, dk, dv = (torch.empty_like(_rows_in_one_piece(x)) for x in (q, k, v))
    if key_bias is None or not need_bias_grad:
        return dq, dk, dv, q.new_empty(0)
    return dq, dk, dv, torch.empty_like(key_bias, memory_format=torch.contiguous_format)


def backward(
    dout: torch.Tensor,
    dmass: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_mask: torch.Tensor | None,
    key_bias: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
    query_mask: torch.Tensor | None,
    need_bias_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k, v and key_bias (empty where not needed), from those of out and, if any, of the mass.

    Args:
        dout: (B, H, Lq, D) of q's type, any strides.
        dmass: (B, Lk) float32, or None.
        out, lse: what the forward returned; lse (B, H, Lq) float32, contiguous, +inf in rows without a valid key.
        seed: 0-dim int64 on q's device; not read without dropout.

    The other arguments are the forward's.
    """
    B, H, Lq, D = q.shape
    Lk = k.shape[2]
    q, k, v, dout, out = (_rows_in_one_piece(x) for x in (q, k, v, dout, out))
    dq, dk, dv, dbias = allocate(q, k, v, key_bias, need_bias_grad)
    partial_BHK = q.new_empty(B, H, Lk, dtype=torch.float32) if dbias.numel() else None
    dropout = None
    if philox.threshold(dropout_p) > 0:
        dropout = Dropout(seed, philox.threshold(dropout_p), philox.keep_scale(dropout_p))
    by_queries, by_keys = configure(
        launch.architecture(q.device), q.dtype, Lq, D, dmass is not None, dropout is not None
    )
    delta_BHQ = None if by_keys is None else torch.empty_like(lse)

    shared = 1 if dropout is None or Lk <= 64 else 2 if Lk <= 128 else 4
    heads, sizes = [_view(x) for x in (dout, dmass, q, k, v, key_mask, key_bias)], (H, Lq, Lk)
    constants = {
        "D": D,
        "BLOCK_D": max(16, triton.next_power_of_2(D)),
        "SHARED": shared,
        "PRECISION": "tf32x3",
    }

    def options(config: Config) -> dict[str, int]:
        return {
            "BLOCK_Q": config.block_q,
            "BLOCK_K": config.block_k,
            "num_warps": config.num_warps,
            "num_stages": config.num_stages,
        }

    launch.launch(
        attention_bwd_queries_kernel,
        (B * H, triton.cdiv(Lq, by_queries.block_q)),
        *heads,
        _view(out),
        lse,
        dropout,
        _view(query_mask),
        _view(dq),
        *((_view(dk), _view(dv), partial_BHK) if by_keys is None else (None, None, None)),
        delta_BHQ,
        *sizes,
        tile_count(Lk, by_queries.block_k, shared),
        scale,
        **constants,
        **options(by_queries),
    )
    if by_keys is not None:
        launch.launch(
            attention_bwd_keys_kernel,
            (B * H, tile_count(Lk, by_keys.block_k, shared)),
            *heads,
            lse,
            delta_BHQ,
            dropout,
            _view(query_mask),
            _view(dk),
            _view(dv),
            partial_BHK,
            *sizes,
            scale,
            **constants,
            **options(by_keys),
        )
    if partial_BHK is not None:
        launch.launch(
            sum_heads_kernel,
            (B, triton.cdiv(Lk, 128)),
            partial_BHK,
            dbias,
            H,
            Lk,
            BLOCK_H=16,
            BLOCK_K=128,
            num_warps=4,
            num_stages=1,
        )
    return dq, dk, dv, dbias


def _rows_in_one_piece(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _view(x: torch.Tensor | None) -> View | None:
    return None if x is None else View(x, x.stride()[:3])
