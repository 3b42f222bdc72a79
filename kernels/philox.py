"""Dropout masks as a pure function of seed and position, from Philox4x32-7.

Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The counter tells where an
element lies and the key is the seed, so that an element's fate depends on neither tiles, strides, devices nor
implementation. A call yields four 32-bit words, which are read as eight 16-bit halves, the low half of word 0 first.

With T = `threshold(p)` an element is kept where its half is at least T, and what is kept is scaled by
65536 / (65536 - T): the probability is p rounded to a multiple of 2^-16, and the expectation is exact.
"""

from __future__ import annotations

import itertools

import torch

_ROUNDS = 7
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW_32 = 0xFFFFFFFF
_TILE = 64  # keys that share a half of one call
_HALVES = 8

Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def philox4x32(counter: Words, seed: int | torch.Tensor) -> Words:
    """Seven rounds of Philox4x32.

    counter: four int64 tensors that broadcast, each value in [0, 2^32). seed: a signed 64-bit int or a 0-dim int64
    tensor, whose low 32 bits are the key's first word. Returns four int64 tensors of the common shape, values in
    [0, 2^32).
    """
    # A counter's parts stay as small as they came until they are mixed: broadcasting saves about two rounds.
    c0, c1, c2, c3 = counter
    if not isinstance(seed, torch.Tensor):
        seed = torch.full((), seed, dtype=torch.int64, device=c0.device)
    key0, key1 = seed & _LOW_32, (seed >> 32) & _LOW_32
    for _ in range(_ROUNDS):
        # The product may pass 2^63 and wrap to a negative number: its 64 bits are right all the same.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = ((product1 >> 32) ^ (c1 ^ key0)).bitwise_and_(_LOW_32)
        c2 = ((product0 >> 32) ^ (c3 ^ key1)).bitwise_and_(_LOW_32)
        c1, c3 = product1.bitwise_and_(_LOW_32), product0.bitwise_and_(_LOW_32)
        key0, key1 = (key0 + _KEY_STEPS[0]) & _LOW_32, (key1 + _KEY_STEPS[1]) & _LOW_32
    return c0, c1, c2, c3


def threshold(dropout_p: float) -> int:
    """T = round(65536 p), at most 65535 so that something can be kept. Raises ValueError unless 0 <= p < 1."""
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p is {dropout_p}; it must be at least 0 and below 1")
    return min(round(65536 * dropout_p), 65535)


def keep_scale(dropout_p: float) -> float:
    """What kept elements are multiplied by: 65536 / (65536 - T)."""
    return 65536 / (65536 - threshold(dropout_p))


def seed_tensor(dropout_p: float, seed: int | torch.Tensor, device: torch.device) -> torch.Tensor | None:
    """The seed as kernels take it, None where nothing is dropped: a tensor, so that a CUDA graph can be replayed with
    another one.
    """
    if threshold(dropout_p) == 0:
        return None
    return seed if isinstance(seed, torch.Tensor) else torch.full((), seed, dtype=torch.int64, device=device)


def attention_keep_mask(
    shape_BHQK: torch.Size, dropout_p: float, seed: int | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Which attention probabilities of that shape survive, bool.

    Probability (b, h, i, j) reads half (j // 64) % 8 of the call with counter (i, j % 64, b H + h, j // 512): one call
    serves eight tiles of 64 keys.
    """

    def positions(count: int, *shape: int) -> torch.Tensor:
        return torch.arange(count, device=device).view(shape)

    batch, heads, queries, keys = shape_BHQK
    lanes = min(keys, _TILE)
    tiles = min(-(-keys // _TILE), _HALVES)
    blocks = -(-keys // (_TILE * _HALVES))
    words = philox4x32(
        (
            positions(queries, 1, -1, 1, 1),
            positions(lanes, 1, 1, 1, -1),
            positions(batch * heads, -1, 1, 1, 1),
            positions(blocks, 1, 1, -1, 1),
        ),
        seed,
    )
    keep = torch.stack(_keep_halves(words, tiles, dropout_p), dim=3)
    return keep.view(batch, heads, queries, blocks * tiles * lanes)[..., :keys]


def row_keep_mask(
    rows: int, width: int, dropout_p: float, seed: int | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Which elements of a matrix survive: (rows, width) bool.

    Column c of row r reads half c % 8 of the call with counter (c // 8, low 32 bits of r, high 32 bits of r, 0).
    """
    row = torch.arange(rows, device=device)[:, None]
    column_block = torch.arange(-(-width // _HALVES), device=device)[None, :]
    words = philox4x32((column_block, row & _LOW_32, row >> 32, torch.zeros_like(row)), seed)
    keep = torch.stack(_keep_halves(words, _HALVES, dropout_p), dim=2)
    return keep.flatten(start_dim=1)[:, :width]


def _keep_halves(words: Words, count: int, dropout_p: float) -> list[torch.Tensor]:
    """The first `count` halves of each call, as bool: is it at least the threshold?"""
    limit = threshold(dropout_p)
    halves = (word >> 16 if high else word & 0xFFFF for word in words for high in (False, True))
    return [half >= limit for half in itertools.islice(halves, count)]
