"""Pieces of the attention kernels: rows of a head, a sample's keys, the probabilities of a tile, and its dropout."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels import philox

# Triton 3.6 takes no plain text as the default of a constant.
_CACHE_AS_USUAL = tl.constexpr("")
# Logits are kept in bits, as exponents of two: log2(e) goes into the scale and the bias, not into each element.
LOG2_E = tl.constexpr(1.4426950408889634)
# Below it a bias is cut off: the lowest number of float32 is a common bias, which must not become -inf in bits.
_LOWEST_BIAS = tl.constexpr(-(2.0**126))


class View(NamedTuple):
    """A tensor as a kernel takes it: the data, and the strides of all dimensions but a head's innermost, which is 1."""

    p: torch.Tensor
    s: tuple[int, ...]


def view(x: torch.Tensor | None) -> View | None:
    return None if x is None else View(x, x.stride()[:3])


def rows_in_one_piece(x: torch.Tensor) -> torch.Tensor:
    """As the kernels need it: the elements of a row side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


class Dropout(NamedTuple):
    """What `philox` defines a mask by: the seed, its threshold, and what kept elements are multiplied by."""

    p_seed: torch.Tensor
    threshold: int
    keep_scale: float


def dropout_of(dropout_p: float, seed: torch.Tensor | None) -> Dropout | None:
    """None where nothing is dropped; the seed is not read then."""
    threshold = philox.threshold(dropout_p)
    if threshold == 0:
        return None
    if seed is None:
        raise ValueError(f"dropout_p is {dropout_p}, and there is no seed")
    return Dropout(seed, threshold, philox.keep_scale(dropout_p))


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
def load_vector(x, b, i_N, valid_N, other: tl.constexpr, EVICTION: tl.constexpr = _CACHE_AS_USUAL):
    """Elements i of row b of a matrix."""
    p_row = x.p + b.to(tl.int64) * x.s[0]
    return tl.load(p_row + i_N.to(tl.int64) * x.s[1], mask=valid_N, other=other, eviction_policy=EVICTION)


@triton.jit
def bias_in_bits(bias_K):
    """A finite bias as it is added to logits in bits."""
    return tl.maximum(bias_K.to(tl.float32), _LOWEST_BIAS) * LOG2_E


@triton.jit
def load_key_bias(key_mask, key_bias, b, j_K, Lk, EVICTION: tl.constexpr = _CACHE_AS_USUAL):
    """What is added to the logits (in bits) of keys j, -inf where a key takes no part, and which keys take part."""
    valid_K = j_K < Lk
    if key_mask is not None:
        valid_K = load_vector(key_mask, b, j_K, valid_K, 0, EVICTION) != 0
    if key_bias is None:
        bias_K = tl.where(valid_K, 0.0, float("-inf"))
    else:
        given_K = load_vector(key_bias, b, j_K, valid_K, float("-inf"), EVICTION)
        valid_K = given_K != float("-inf")
        bias_K = tl.where(valid_K, bias_in_bits(given_K), float("-inf"))
    return bias_K, valid_K


@triton.jit
def load_lse(p_lse, bh, i_Q, Lq):
    """The two parts of rows' logsumexp, in bits: the largest logit, and log2 of the sum of exponentials below it.

    +inf and 0 for a row without a valid key, and past the end. They stay apart because their sum would lose the
    second beside a large logit, and with it what the probabilities add up to.
    """
    p_row_Q = p_lse + 2 * bh.to(tl.int64) * Lq + i_Q
    inside_Q = i_Q < Lq
    return tl.load(p_row_Q, mask=inside_Q, other=float("inf")), tl.load(p_row_Q + Lq, mask=inside_Q, other=0.0)


@triton.jit
def probabilities(b_q, b_k, bias_K, lse, scale, PRECISION: tl.constexpr):
    """Softmax of a tile whose rows' logsumexp is known; 0 in a row without a valid key."""
    top_Q, sum_Q = lse
    logits = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * (scale * LOG2_E) + bias_K[None, :]
    return tl.exp2((logits - top_Q[:, None]) - sum_Q[:, None])


@triton.jit
def key_place(tile, BLOCK_K: tl.constexpr, SHARED: tl.constexpr):
    """Where a tile's first key j lies: j // 64 and j % 64.

    Tiles come in runs of SHARED that lie 64 keys apart, so that a run shares its calls of Philox; SHARED = 1 is one
    tile after the other.
    """
    run, member = tile // SHARED, tile % SHARED
    runs: tl.constexpr = 64 // BLOCK_K  # of 64 SHARED keys
    return run // runs * SHARED + member, run % runs * BLOCK_K


@triton.jit
def tile_keys(tile, BLOCK_K: tl.constexpr, SHARED: tl.constexpr):
    """A tile's keys."""
    block, lane = key_place(tile, BLOCK_K, SHARED)
    return block * 64 + lane + tl.arange(0, BLOCK_K)


def tile_count(keys: int, block_k: int, shared: int) -> int:
    """How many tiles hold that many keys; what comes after them holds none."""
    whole, rest = divmod(keys, 64 * shared)
    count = whole * 64 * shared // block_k
    if rest:
        # The last key of the first `rest` that any run has.
        runs = triton.cdiv(min(rest, 64), block_k)
        count += (runs - 1) * shared + triton.cdiv(rest - (runs - 1) * block_k, 64)
    return count


@triton.jit
def _philox_words(dropout, bh, i_Q, b_lanes, call):
    return tl.philox(
        tl.load(dropout.p_seed),
        i_Q[:, None].to(tl.uint32),
        b_lanes.to(tl.uint32),
        bh.to(tl.uint32),
        tl.zeros([1, 1], tl.uint32) + call,
        n_rounds=7,
    )


@triton.jit
def keep_bits(dropout, bh, i_Q, b_lanes, call, TILES: tl.constexpr):
    """Bit t: does dropout keep query i's probability of key 512 call + 64 t + lane (`philox.attention_keep_mask`)?

    b_lanes: (1, keys) or (queries, keys).
    """
    words = _philox_words(dropout, bh, i_Q, b_lanes, call)
    bits = tl.zeros_like(words[0]).to(tl.int32)
    for tile in tl.static_range(TILES):
        half = words[tile // 2] >> 16 if tile % 2 else words[tile // 2] & 0xFFFF
        bits |= (half.to(tl.int32) >= dropout.threshold).to(tl.int32) << tile
    return bits


@triton.jit
def keeps(dropout, bh, i_Q, b_lanes, block):
    """Does dropout keep query i's probability of key 64 block + lane? A call for each, of which a half is used."""
    words = _philox_words(dropout, bh, i_Q, b_lanes, block // 8)
    half = block % 8
    low = tl.where(half < 2, words[0], words[1])
    high = tl.where(half < 6, words[2], words[3])
    word = tl.where(half < 4, low, high) >> half % 2 * 16
    return (word & 0xFFFF).to(tl.int32) >= dropout.threshold
