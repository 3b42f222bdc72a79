"""Backward of cross-attention in Triton: deterministic, without atomics, with gradients of key bias and mass.

With P, keep and c as in `reference.cross_attention`, and w_i = 1 for a valid query of W and 0 for another:

    share_i = w_i / (H |W|)
    dP_ij   = c keep_ij dout_i . v_j + share_i dmass_j
    delta_i = sum_j P_ij dP_ij = dout_i . out_i + share_i sum_j P_ij dmass_j
    dS_ij   = P_ij (dP_ij - delta_i)
    dq_i    = scale sum_j dS_ij k_j          dk_j    = scale sum_i dS_ij q_i
    dv_j    = c sum_i keep_ij P_ij dout_i    dbias_j = sum_h sum_i dS_hij

Up to 128 queries one program owns a head of a sample: it walks over the keys once (twice with a gradient of the mass,
which delta needs first), keeps dq in registers, and writes each key's dk and dv once. Beyond, and where that would
spill registers, the same kernel takes a block of the queries and computes delta and dq only; a second one, by blocks of
keys, computes dk, dv and dbias.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from kernels import launch
from kernels.attention import configs
from kernels.attention.inputs import Inputs
from kernels.attention.mass import mass_share, sum_parts
from kernels.attention.tiles import (
    bias_in_bits,
    dropout_of,
    keep_bits,
    keeps,
    key_place,
    load_key_bias,
    load_lse,
    load_rows,
    load_vector,
    probabilities,
    rows_in_one_piece,
    store_rows,
    tile_count,
    tile_keys,
    view,
)


@triton.jit
def _logit_gradients(
    probs, kept, b_dout, b_v, delta_Q, share_Q, dmass, b, j_K, inside_K, PRECISION: tl.constexpr
):  # fmt: skip
    """dS of a tile, of the probabilities before and after dropout."""
    rest = -delta_Q[:, None]
    if dmass is not None:
        rest += share_Q[:, None] * load_vector(dmass, b, j_K, inside_K, 0.0)[None, :]
    return kept * tl.dot(b_dout, tl.trans(b_v), input_precision=PRECISION) + probs * rest


@triton.jit
def attention_bwd_queries_kernel(
    dout, dmass, q, k, v, key_mask, key_bias, out, p_lse, dropout, query_mask,
    dq, dk, dv, p_dbias, p_delta, p_share, H, Lq, Lk, tiles, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    SHARED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq of a block of queries; of all of them, with dk, also dk, dv and dbias; with p_delta, also delta and share."""
    bh = tl.program_id(0)
    b, h = bh // H, bh % H
    i_Q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    valid_Q = i_Q < Lq
    b_q = load_rows(q, b, h, i_Q, valid_Q, D, BLOCK_D)
    b_dout = load_rows(dout, b, h, i_Q, valid_Q, D, BLOCK_D)
    b_out = load_rows(out, b, h, i_Q, valid_Q, D, BLOCK_D)
    row_Q = bh.to(tl.int64) * Lq + i_Q
    lse = load_lse(p_lse, bh, i_Q, Lq)
    delta_Q = tl.sum(b_dout.to(tl.float32) * b_out.to(tl.float32), axis=1)

    share_Q = delta_Q
    if dmass is not None:
        share_Q = tl.max(mass_share(query_mask, b, i_Q, H, Lq, BLOCK_Q)[:, None], axis=1)
        received = tl.zeros([BLOCK_Q, BLOCK_K], tl.float32)
        bias_K, valid_K = load_key_bias(key_mask, key_bias, b, tile_keys(0, BLOCK_K, SHARED), Lk)
        for tile in range(0, tiles):
            j_K = tile_keys(tile, BLOCK_K, SHARED)
            b_k = load_rows(k, b, h, j_K, valid_K, D, BLOCK_D)
            dmass_K = load_vector(dmass, b, j_K, valid_K, 0.0)
            received += probabilities(b_q, b_k, bias_K, lse, scale, PRECISION) * dmass_K[None, :]
            bias_K, valid_K = load_key_bias(key_mask, key_bias, b, tile_keys(tile + 1, BLOCK_K, SHARED), Lk)
        delta_Q += share_Q * tl.sum(received, axis=1)
    if p_delta is not None:
        tl.store(p_delta + row_Q, delta_Q, mask=valid_Q)
        if p_share is not None:
            tl.store(p_share + row_Q, share_Q, mask=valid_Q)

    b_dq = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    bits = tl.zeros([BLOCK_Q, BLOCK_K], tl.int32)
    # Handed from one tile to the next: the compiler lays out the operands of a product for the narrowest type that they
    # are computed from, and would find the mask's bytes here.
    bias_K, valid_K = load_key_bias(key_mask, key_bias, b, tile_keys(0, BLOCK_K, SHARED), Lk)
    for tile in range(0, tiles):
        j_K = tile_keys(tile, BLOCK_K, SHARED)
        b_k = load_rows(k, b, h, j_K, valid_K, D, BLOCK_D)
        b_v = load_rows(v, b, h, j_K, valid_K, D, BLOCK_D)
        probs = probabilities(b_q, b_k, bias_K, lse, scale, PRECISION)
        kept = probs
        if dropout is not None:
            if tile % SHARED == 0:
                block, lane = key_place(tile, BLOCK_K, SHARED)
                # A choice that is always the same: each thread then draws for the probabilities that it holds.
                b_lanes = tl.where(probs >= 0, (lane + tl.arange(0, BLOCK_K))[None, :], 0)
                bits = keep_bits(dropout, bh, i_Q, b_lanes, block // 8, SHARED)
            kept = tl.where((bits >> tile % SHARED) & 1 != 0, probs * dropout.keep_scale, 0.0)
        dlogits = _logit_gradients(
            probs, kept, b_dout, b_v, delta_Q, share_Q, dmass, b, j_K, valid_K, PRECISION
        )  # fmt: skip
        b_dlogits = dlogits.to(b_q.dtype)
        if dk is not None:
            if p_dbias is not None:
                tl.store(p_dbias + bh.to(tl.int64) * Lk + j_K, tl.sum(dlogits, axis=0), mask=j_K < Lk)
            b_dv = tl.dot(tl.trans(kept.to(b_dout.dtype)), b_dout, input_precision=PRECISION)
            store_rows(dv, b, h, j_K, j_K < Lk, b_dv, D, BLOCK_D)
            b_dk = tl.dot(tl.trans(b_dlogits), b_q, input_precision=PRECISION)
            store_rows(dk, b, h, j_K, j_K < Lk, b_dk * scale, D, BLOCK_D)
        b_dq = tl.dot(b_dlogits, b_k, b_dq, input_precision=PRECISION)
        bias_K, valid_K = load_key_bias(key_mask, key_bias, b, tile_keys(tile + 1, BLOCK_K, SHARED), Lk)
    store_rows(dq, b, h, i_Q, valid_Q, b_dq * scale, D, BLOCK_D)


@triton.jit
def attention_bwd_keys_kernel(
    dout, dmass, q, k, v, key_mask, key_bias, p_lse, dropout,
    dk, dv, p_dbias, p_delta, p_share, H, Lq, Lk, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dk, dv and dbias of a block of keys, from what the other kernel left.

    Keys do not mix here: what masked ones hold and get is dropped at the end.
    """
    bh, tile = tl.program_id(0), tl.program_id(1)
    b, h = bh // H, bh % H
    j_K = tile_keys(tile, BLOCK_K, 1)
    inside_K = j_K < Lk
    bias_K = tl.zeros([BLOCK_K], tl.float32)
    if key_bias is not None:
        bias_K = bias_in_bits(load_vector(key_bias, b, j_K, inside_K, 0.0))
    b_k = load_rows(k, b, h, j_K, inside_K, D, BLOCK_D)
    b_v = load_rows(v, b, h, j_K, inside_K, D, BLOCK_D)

    b_dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    b_dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dbias_K = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, Lq, BLOCK_Q):
        i_Q = start + tl.arange(0, BLOCK_Q)
        valid_Q = i_Q < Lq
        row_Q = bh.to(tl.int64) * Lq + i_Q
        b_q = load_rows(q, b, h, i_Q, valid_Q, D, BLOCK_D)
        b_dout = load_rows(dout, b, h, i_Q, valid_Q, D, BLOCK_D)
        lse = load_lse(p_lse, bh, i_Q, Lq)
        delta_Q = tl.load(p_delta + row_Q, mask=valid_Q, other=0.0)
        share_Q = delta_Q
        if p_share is not None:
            share_Q = tl.load(p_share + row_Q, mask=valid_Q, other=0.0)
        probs = probabilities(b_q, b_k, bias_K, lse, scale, PRECISION)
        kept = probs
        if dropout is not None:
            block, lane = key_place(tile, BLOCK_K, 1)
            b_lanes = tl.where(probs >= 0, (lane + tl.arange(0, BLOCK_K))[None, :], 0)
            kept = tl.where(keeps(dropout, bh, i_Q, b_lanes, block), probs * dropout.keep_scale, 0.0)
        dlogits = _logit_gradients(
            probs, kept, b_dout, b_v, delta_Q, share_Q, dmass, b, j_K, inside_K, PRECISION
        )  # fmt: skip
        if p_dbias is not None:
            dbias_K += tl.sum(dlogits, axis=0)
        b_dv = tl.dot(tl.trans(kept.to(b_dout.dtype)), b_dout, b_dv, input_precision=PRECISION)
        b_dk = tl.dot(tl.trans(dlogits.to(b_q.dtype)), b_q, b_dk, input_precision=PRECISION)

    _, valid_K = load_key_bias(key_mask, key_bias, b, j_K, Lk)
    store_rows(dk, b, h, j_K, inside_K, tl.where(valid_K[:, None], b_dk * scale, 0.0), D, BLOCK_D)
    store_rows(dv, b, h, j_K, inside_K, tl.where(valid_K[:, None], b_dv, 0.0), D, BLOCK_D)
    if p_dbias is not None:
        tl.store(p_dbias + bh.to(tl.int64) * Lk + j_K, tl.where(valid_K, dbias_K, 0.0), mask=inside_K)


Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def allocate(*arguments: Any) -> Gradients:
    """Empty dq, dk, dv, in the memory layout of their inputs where that has rows in one piece, and dbias."""
    need_bias_grad, a = arguments[4], Inputs(*arguments[5:])
    dq_BHQD, dk_BHKD, dv_BHKD = (torch.empty_like(rows_in_one_piece(x)) for x in a[:3])
    if a.key_bias_BK is None or not need_bias_grad:
        return dq_BHQD, dk_BHKD, dv_BHKD, a.q_BHQD.new_empty(0)
    return dq_BHQD, dk_BHKD, dv_BHKD, torch.empty_like(a.key_bias_BK, memory_format=torch.contiguous_format)


def backward(
    dout_BHQD: torch.Tensor,
    dmass_BK: torch.Tensor | None,
    out_BHQD: torch.Tensor,
    lse_BH2Q: torch.Tensor,
    need_bias_grad: bool,
    *arguments: Any,
) -> Gradients:
    """Gradients of q, k, v and key_bias (empty where not needed), from those of out and, if any, of the mass.

    Args:
        dout_BHQD: of q's type, any strides.
        dmass_BK: float32, or None.
        out_BHQD, lse_BH2Q: what the forward returned; lse float32, contiguous.
        arguments: the forward's `Inputs`.
    """
    a = Inputs(*arguments)
    dq_BHQD, dk_BHKD, dv_BHKD, dbias_BK = allocate(dout_BHQD, dmass_BK, out_BHQD, lse_BH2Q, need_bias_grad, *a)
    if a.q_BHQD.numel() == 0 or a.k_BHKD.numel() == 0:
        return dq_BHQD.zero_(), dk_BHKD.zero_(), dv_BHKD.zero_(), dbias_BK.zero_()
    q_BHQD, k_BHKD, v_BHKD, dout_BHQD, out_BHQD = map(rows_in_one_piece, (*a[:3], dout_BHQD, out_BHQD))
    B, H, Lq, D = q_BHQD.shape
    Lk = k_BHKD.shape[2]
    dropout = dropout_of(a.dropout_p, a.seed)
    arch, features = launch.architecture(q_BHQD.device), (dmass_BK is not None, dropout is not None)
    by_queries, by_keys = configs.backward(arch, q_BHQD.dtype, Lq, D, *features)
    parts_BHK = q_BHQD.new_empty((B, H, Lk), dtype=torch.float32) if dbias_BK.numel() else None
    delta_BHQ = None if by_keys is None else lse_BH2Q.new_empty((B, H, Lq))
    share_BHQ = None if by_keys is None or dmass_BK is None else lse_BH2Q.new_empty((B, H, Lq))

    inputs = (*map(view, (dout_BHQD, dmass_BK, q_BHQD, k_BHKD, v_BHKD, a.key_mask_BK, a.key_bias_BK)),)
    key_gradients = (view(dk_BHKD), view(dv_BHKD), parts_BHK)
    precision = configs.backward_precision(q_BHQD.dtype, D)
    widths = {"D": D, "BLOCK_D": max(16, triton.next_power_of_2(D)), "PRECISION": precision}
    shared = 1 if dropout is None else min(8, max(1, triton.cdiv(Lk, 64)))
    launch.launch(
        attention_bwd_queries_kernel,
        (B * H, triton.cdiv(Lq, by_queries.block_q)),
        *inputs, view(out_BHQD), lse_BH2Q, dropout, view(a.query_mask_BQ),
        view(dq_BHQD), *(key_gradients if by_keys is None else (None, None, None)), delta_BHQ, share_BHQ,
        H, Lq, Lk, tile_count(Lk, by_queries.block_k, shared), a.scale,
        **widths, SHARED=shared, **_options(by_queries),
    )  # fmt: skip
    if by_keys is not None:
        launch.launch(
            attention_bwd_keys_kernel,
            (B * H, triton.cdiv(Lk, by_keys.block_k)),
            *inputs, lse_BH2Q, dropout, *key_gradients, delta_BHQ, share_BHQ, H, Lq, Lk, a.scale,
            **widths, **_options(by_keys),
        )  # fmt: skip
    if parts_BHK is not None:
        sum_parts(parts_BHK, dbias_BK)
    return dq_BHQD, dk_BHKD, dv_BHKD, dbias_BK


def _options(config: configs.LoopConfig) -> dict[str, int]:
    block_q, block_k, num_warps, num_stages, maxnreg = config
    options = {"BLOCK_Q": block_q, "BLOCK_K": block_k, "num_warps": num_warps, "num_stages": num_stages}
    return options if maxnreg is None else options | {"maxnreg": maxnreg}
