"""Batches of tweets of similar length, so that little of what is computed is padding.

A tweet has a length for each part that a batch pads by itself: its own sub-words, and those that describe its image.
Sorting by their sum leaves long texts beside long descriptions. Instead the tweets are cut in two, along whichever part
and at whichever whole number of batches leaves the fewest positions to compute, and each side again until it is one
batch: how bounding volume hierarchies are built (the surface area heuristic of Goldsmith and Salmon, 1987).
"""

from __future__ import annotations

import numpy as np
import torch

_POOL_BATCHES = 64  # fewer leave more padding; without pools the same tweets would meet in every epoch


def length_bucketed(
    lengths_NP: np.ndarray, batch_size: int, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Every index once, in batches of similar length, all full but one a pool.

    Args:
        lengths_NP: (N, parts) integers.
        batch_size: tweets in a full batch.
        generator: draws which tweets can meet (pools of about 64 batches) and the order of the batches. None: all can,
            and the batches come with their first tweets in order; for evaluation.
    """
    count = len(lengths_NP)
    if generator is None:
        return sorted(index.tolist() for index in _cut(lengths_NP, np.arange(count), batch_size))
    order_N = torch.randperm(count, generator=generator).numpy()
    all_batches = -(-count // batch_size)
    pools = max(1, round(all_batches / _POOL_BATCHES))
    width = -(-all_batches // pools) * batch_size
    batches = [
        index.tolist()
        for start in range(0, count, width)
        for index in _cut(lengths_NP, order_N[start : start + width], batch_size)
    ]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _cut(lengths_NP: np.ndarray, index_N: np.ndarray, batch_size: int) -> list[np.ndarray]:
    batches, waiting = [], [index_N]
    while waiting:
        index_M = waiting.pop()
        if len(index_M) <= batch_size:
            batches.append(index_M)
        else:
            waiting += _halves(lengths_NP, index_M, batch_size)
    return batches


def _halves(lengths_NP: np.ndarray, index_M: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The two sides of the cut that leaves the fewest positions, padding included."""
    cuts = np.arange(batch_size, len(index_M), batch_size)
    tried = []
    for part_M in lengths_NP[index_M].T:
        sorted_M = index_M[np.argsort(part_M, kind="stable")]
        lengths_MP = lengths_NP[sorted_M]
        longest_below_M = np.maximum.accumulate(lengths_MP).sum(axis=1)
        longest_above_M = np.maximum.accumulate(lengths_MP[::-1])[::-1].sum(axis=1)
        positions = cuts * longest_below_M[cuts - 1] + (len(index_M) - cuts) * longest_above_M[cuts]
        best = int(positions.argmin())
        tried.append((positions[best], sorted_M, cuts[best]))
    _, sorted_M, cut = min(tried, key=lambda one: one[0])
    return sorted_M[:cut], sorted_M[cut:]
