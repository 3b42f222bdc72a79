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

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels import launch
from kernels.attention.mass import mass_share, sum_parts
from kernels.attention.tiles import (
    dropout_of,
    keep_bits,
    keeps,
    key_place,
    load_key_bias,
    load_rows,
    load_vector,
    probabilities,
    store_rows,
    tile_count,
    tile_keys,
    view,
)

# Left to itself, the compiler may rather spill registers than give up a program more a multiprocessor.
_ALL_REGISTERS = 255


class Config(NamedTuple):
    """Queries and keys of a tile, and how the compiler spreads and pipelines it."""

    block_q: int
    block_k: int
    num_warps: int
    num_stages: int
    maxnreg: int | None = None  # registers of a thread; None leaves them to the compiler


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
    lse_Q = tl.load(p_lse + row_Q, mask=valid_Q, other=float("inf"))
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
            received += probabilities(b_q, b_k, bias_K, lse_Q, scale, PRECISION) * dmass_K[None, :]
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
        probs = probabilities(b_q, b_k, bias_K, lse_Q, scale, PRECISION)
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
        bias_K = load_vector(key_bias, b, j_K, inside_K, 0.0).to(tl.float32)
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
        lse_Q = tl.load(p_lse + row_Q, mask=valid_Q, other=float("inf"))
        delta_Q = tl.load(p_delta + row_Q, mask=valid_Q, other=0.0)
        share_Q = delta_Q
        if p_share is not None:
            share_Q = tl.load(p_share + row_Q, mask=valid_Q, other=0.0)
        probs = probabilities(b_q, b_k, bias_K, lse_Q, scale, PRECISION)
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


def configure(arch: int, dtype: torch.dtype, Lq: int, D: int) -> tuple[Config, Config | None]:
    """Tiles of the kernel by queries and of the kernel by keys; None where the first one does everything.

    They leave no register spilled, with a mass, a bias and dropout or without.
    """
    wide = D > 64
    # Rows that do not all begin at multiples of 16 elements: each element's address takes registers of its own.
    scattered = D > 32 and D % 16 != 0
    if dtype == torch.float32:
        # Products in three parts hold each operand as two.
        if wide:
            return Config(16, 16 if scattered else 32, 8, 1, _ALL_REGISTERS), Config(16, 16, 8, 1, _ALL_REGISTERS)
        if Lq <= 32 and not scattered:
            return Config(32, 16, 4, 1, _ALL_REGISTERS), None
        return Config(16, 32, 4, 1, _ALL_REGISTERS), Config(16, 16 if D <= 32 else 32, 4, 1, _ALL_REGISTERS)

    blackwell = 100 <= arch < 120
    # There products read their operands from shared memory, not from registers.
    roomy = arch == 90 or blackwell
    maxnreg = _ALL_REGISTERS if blackwell or wide or scattered or D <= 16 else None
    if scattered and (wide or not roomy) and Lq > 32:
        num_warps = 8 if wide else 4
        return Config(32, 16, num_warps, 2, maxnreg), Config(32, 32, num_warps, 2, maxnreg)
    if Lq > 128 or (Lq > 64 and wide and not roomy):
        if wide:
            return Config(64, 32, 8, 2, maxnreg), Config(32, 64, 8, 2, maxnreg)
        block_k = 16 if scattered else 32
        return Config(128, block_k, 8, 2, maxnreg), Config(*((32, 64) if roomy else (64, 32)), 4, 2, maxnreg)
    block_q = 32 if Lq <= 32 else 64 if Lq <= 64 else 128
    block_k = 16 if block_q > 32 and (wide or scattered or not roomy) else 32
    return Config(block_q, block_k, 8 if block_q == 128 or wide else 4, 2, maxnreg), None


def _precision(dtype: torch.dtype, D: int) -> str:
    """How matrices of float32 are multiplied: on tensor cores, in three parts, where registers suffice for these."""
    return "ieee" if dtype == torch.float32 and D > 64 and D % 16 else "tf32x3"


def allocate(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_bias: torch.Tensor | None, need_bias_grad: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Empty dq, dk, dv, in the memory layout of their inputs where that has rows in one piece, and dbias."""
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
    dq, dk, dv, dbias = allocate(q, k, v, key_bias, need_bias_grad)
    q, k, v, dout, out = (_rows_in_one_piece(x) for x in (q, k, v, dout, out))
    dropout = dropout_of(dropout_p, seed)
    by_queries, by_keys = configure(launch.architecture(q.device), q.dtype, Lq, D)
    parts_BHK = q.new_empty((B, H, Lk), dtype=torch.float32) if dbias.numel() else None
    delta_BHQ = None if by_keys is None else torch.empty_like(lse)
    share_BHQ = None if by_keys is None or dmass is None else torch.empty_like(lse)

    inputs = (*map(view, (dout, dmass, q, k, v, key_mask, key_bias)),)
    key_gradients = (view(dk), view(dv), parts_BHK)
    widths = {"D": D, "BLOCK_D": max(16, triton.next_power_of_2(D)), "PRECISION": _precision(q.dtype, D)}
    shared = 1 if dropout is None else min(8, max(1, triton.cdiv(Lk, 64)))
    launch.launch(
        attention_bwd_queries_kernel,
        (B * H, triton.cdiv(Lq, by_queries.block_q)),
        *inputs, view(out), lse, dropout, view(query_mask),
        view(dq), *(key_gradients if by_keys is None else (None, None, None)), delta_BHQ, share_BHQ,
        H, Lq, Lk, tile_count(Lk, by_queries.block_k, shared), scale,
        **widths, SHARED=shared, **_options(by_queries),
    )  # fmt: skip
    if by_keys is not None:
        launch.launch(
            attention_bwd_keys_kernel,
            (B * H, triton.cdiv(Lk, by_keys.block_k)),
            *inputs, lse, dropout, *key_gradients, delta_BHQ, share_BHQ, H, Lq, Lk, scale,
            **widths, **_options(by_keys),
        )  # fmt: skip
    if parts_BHK is not None:
        sum_parts(parts_BHK, dbias)
    return dq, dk, dv, dbias


def _rows_in_one_piece(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _options(config: Config) -> dict[str, int]:
    block_q, block_k, num_warps, num_stages, maxnreg = config
    options = {"BLOCK_Q": block_q, "BLOCK_K": block_k, "num_warps": num_warps, "num_stages": num_stages}
    return options if maxnreg is None else options | {"maxnreg": maxnreg}
