"""The dropout masks against an independent scalar Philox, and their statistics."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import philox

CPU = torch.device("cpu")


def scalar_philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-7 in Python's integers, written from figure 2 and table 2 of Salmon et al. (2011)."""
    left0, right0, left1, right1 = counter
    for number in range(7):
        high0, low0 = divmod(left0 * 0xD2511F53, 1 << 32)
        high1, low1 = divmod(left1 * 0xCD9E8D57, 1 << 32)
        round_key0 = (key[0] + number * 0x9E3779B9) % (1 << 32)
        round_key1 = (key[1] + number * 0xBB67AE85) % (1 << 32)
        left0, right0 = high1 ^ right0 ^ round_key0, low1
        left1, right1 = high0 ^ right1 ^ round_key1, low0
    return left0, right0, left1, right1


def scalar_half(counter: tuple[int, int, int, int], seed: int, number: int) -> int:
    seed %= 1 << 64
    word = scalar_philox(counter, (seed % (1 << 32), seed >> 32))[number // 2]
    return word >> 16 if number % 2 else word % (1 << 16)


# Random123's published known answers (tests/kat_vectors, "philox4x32 7").
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, int, int, int]
) -> None:
    assert scalar_philox(counter, key) == words
    seed = key[0] | key[1] << 32
    signed = seed - (1 << 64) if seed >> 63 else seed
    result = philox.philox4x32(tuple(torch.tensor(part) for part in counter), signed)
    assert tuple(word.item() for word in result) == words


@settings(deadline=None, derandomize=True)
@given(
    counter=st.tuples(*[st.integers(0, 2**32 - 1)] * 4),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_any_counter_and_seed(counter: tuple[int, int, int, int], seed: int) -> None:
    expected = scalar_philox(counter, (seed % (1 << 32), (seed >> 32) % (1 << 32)))
    parts = tuple(torch.tensor(part) for part in counter)
    for given_seed in (seed, torch.tensor(seed)):
        assert tuple(word.item() for word in philox.philox4x32(parts, given_seed)) == expected


@pytest.mark.parametrize("seed", [0, 123456789012345, -5])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 63), (1, 2, 3, 65), (2, 1, 2, 197), (1, 1, 2, 600)])
def test_attention_mask_is_the_scalar_one(shape: tuple[int, int, int, int], seed: int) -> None:
    batch, heads, queries, keys = shape
    keep = philox.attention_keep_mask(torch.Size(shape), 0.3, seed, CPU)
    expected = [
        scalar_half((i, j % 64, b * heads + h, j // 512), seed, j // 64 % 8) >= round(65536 * 0.3)
        for b in range(batch)
        for h in range(heads)
        for i in range(queries)
        for j in range(keys)
    ]
    assert keep.dtype == torch.bool
    assert torch.equal(keep, torch.tensor(expected).view(shape))


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 8), (3, 59), (7, 64)])
def test_row_mask_is_the_scalar_one(rows: int, width: int) -> None:
    seed = 987654321987654321
    keep = philox.row_keep_mask(rows, width, 0.6, seed, CPU)
    expected = [
        scalar_half((column // 8, row, 0, 0), seed, column % 8) >= round(65536 * 0.6)
        for row in range(rows)
        for column in range(width)
    ]
    assert torch.equal(keep, torch.tensor(expected).view(rows, width))


@pytest.mark.parametrize("column", range(8))
def test_a_half_equal_to_the_threshold_is_kept(column: int) -> None:
    half = scalar_half((0, 0, 0, 0), 21, column)
    assert philox.row_keep_mask(1, 8, half / 65536, 21, CPU)[0, column]
    assert not philox.row_keep_mask(1, 8, (half + 1) / 65536, 21, CPU)[0, column]


def test_an_elements_fate_does_not_depend_on_the_other_sizes() -> None:
    large = philox.attention_keep_mask(torch.Size((3, 2, 9, 700)), 0.5, 11, CPU)
    small = philox.attention_keep_mask(torch.Size((2, 2, 4, 130)), 0.5, 11, CPU)
    assert torch.equal(large[:2, :, :4, :130], small)
    assert torch.equal(philox.row_keep_mask(9, 70, 0.5, 11, CPU)[:4, :13], philox.row_keep_mask(4, 13, 0.5, 11, CPU))


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
def test_keep_rate_and_independence(dropout_p: float) -> None:
    attention = philox.attention_keep_mask(torch.Size((4, 4, 32, 600)), dropout_p, 42, CPU).double()
    rows = philox.row_keep_mask(512, 600, dropout_p, 42, CPU).double()
    p = philox.threshold(dropout_p) / 65536
    for keep in (attention.reshape(-1, 600), rows):
        # Five standard deviations of a mean of independent draws: all together, each column alone, and neighbours.
        assert abs(keep.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / keep.numel())
        assert (keep.mean(dim=0) - (1 - p)).abs().max() < 5 * math.sqrt(p * (1 - p) / keep.shape[0])
        centred = keep - (1 - p)
        for step in (1, 8, 64, 512):
            products = centred[:, step:] * centred[:, :-step]
            assert abs(products.mean()) < 5 * p * (1 - p) / math.sqrt(products.numel())
    assert abs(philox.keep_scale(dropout_p) * (1 - p) - 1) < 1e-12


def test_seeds_differ_in_both_words() -> None:
    masks = [philox.row_keep_mask(16, 64, 0.5, seed, CPU) for seed in (0, 1, 1 << 32, -1)]
    for first in range(4):
        for second in range(first):
            assert 0.4 < (masks[first] == masks[second]).double().mean() < 0.6


def test_threshold() -> None:
    assert philox.threshold(0.0) == 0
    assert philox.threshold(0.1) == 6554
    assert philox.threshold(1 - 1e-9) == 65535
    for outside in (-0.1, 1.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="it must be at least 0 and below 1"):
            philox.threshold(outside)
