"""Are a tweet's words and its own image closer than its words and another's image, where MCL compares them?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from clamp.data.collate import EncodedTweets
from clamp.evaluate import in_batches
from clamp.model import Clamp, Tagger
from repro.records.evaluation import ALIGNMENT_BINS

_SEED = 20250721


@torch.no_grad()
def alignment(model: Tagger, data: EncodedTweets, batch_size: int) -> dict[str, Any] | None:
    """How many cosines of z_t and z_v fall into each bin, of matched and of mismatched pairs, and the AUC of the two.

    Mismatched: every tweet's words with the image of another one, the same for all systems. None for a system without
    a global contrast, and where fewer than two tweets have an image.
    """
    if not isinstance(model, Clamp) or not model.contrast.global_contrast:
        return None
    text_NE, image_NE = _embeddings(model, data, batch_size)
    if len(text_NE) < 2:
        return None
    order = np.random.default_rng(_SEED).permutation(len(text_NE))
    other_NE = np.empty_like(image_NE)
    other_NE[order] = image_NE[np.roll(order, 1)]  # one cycle: nobody keeps its own
    matched_N, mismatched_N = ((text_NE * of_image_NE).sum(axis=1) for of_image_NE in (image_NE, other_NE))
    return {
        "n": len(text_NE),
        "matched": _histogram(matched_N),
        "mismatched": _histogram(mismatched_N),
        "mean_matched": round(float(matched_N.mean()), 4),
        "mean_mismatched": round(float(mismatched_N.mean()), 4),
        "auc": round(auc(matched_N, mismatched_N), 4),
    }


def _embeddings(model: Clamp, data: EncodedTweets, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (N, E) float64 of words and image of the tweets that have an image, in their order."""
    device = next(model.parameters()).device
    rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for indices, batch in in_batches(data, batch_size):
        batch = batch.to(device)
        regions_BRD, region_mask_BR, _ = model.encode_image(batch)
        embedded = model.contrast.embed(model.encode_text(batch), batch.word_mask_BT, regions_BRD, region_mask_BR)
        z_t, z_v, valid_B = (part.cpu().numpy() for part in embedded)
        rows |= {index: (z_t[b], z_v[b]) for b, index in enumerate(indices) if valid_B[b]}
    sides = [np.array([rows[index][side] for index in sorted(rows)], dtype=np.float64) for side in (0, 1)]
    return sides[0], sides[1]


def _histogram(cosines_N: np.ndarray) -> list[int]:
    counts, _ = np.histogram(np.clip(cosines_N, -1.0, 1.0), bins=ALIGNMENT_BINS, range=(-1.0, 1.0))
    return [int(count) for count in counts]


def auc(positive_N: np.ndarray, negative_M: np.ndarray) -> float:
    """The probability that a positive lies above a negative, a tie counting half (Mann and Whitney's U / N M)."""
    ordered_M = np.sort(negative_M)
    below_N, at_most_N = (np.searchsorted(ordered_M, positive_N, side=side) for side in ("left", "right"))
    return float((below_N + at_most_N).mean() / 2 / len(ordered_M))
