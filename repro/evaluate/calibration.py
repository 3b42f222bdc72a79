"""Reliability: how often the predicted polarity of a gold aspect is right, by how probable the system calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BINS = 15  # of equal width over 0..1, open on the left: those of clamp.metrics.expected_calibration_error


def reliability(probabilities_NC: ArrayLike, gold_N: ArrayLike) -> dict[str, list[Any]]:
    """Of each bin, how many predictions, their mean confidence (0 where there is none), and how many are right."""
    probabilities_NC = np.asarray(probabilities_NC, dtype=np.float64)
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == np.asarray(gold_N)
    bin_N = np.digitize(confidence_N, np.linspace(0.0, 1.0, BINS + 1)[1:-1], right=True)
    count, total, right = (np.bincount(bin_N, weights=w, minlength=BINS) for w in (None, confidence_N, right_N))
    return {
        "count": count.tolist(),
        "confidence": (total / np.maximum(count, 1)).round(4).tolist(),
        "right": right.astype(int).tolist(),
    }


def calibration_error(bins: dict[str, list[Any]]) -> float:
    """The expected calibration error that the bins amount to, in 0..1; 0 of no prediction."""
    count, confidence, right = (np.asarray(bins[name], dtype=np.float64) for name in ("count", "confidence", "right"))
    return float(np.abs(right - count * confidence).sum() / max(count.sum(), 1.0))


def pooled(measured: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The bins of several evaluations as one."""
    counts = np.array([bins["count"] for bins in measured], dtype=np.float64)
    total = (counts * [bins["confidence"] for bins in measured]).sum(axis=0)
    count = counts.sum(axis=0)
    return {
        "count": count.astype(int).tolist(),
        "confidence": (total / np.maximum(count, 1)).tolist(),
        "right": np.sum([bins["right"] for bins in measured], axis=0).tolist(),
    }
