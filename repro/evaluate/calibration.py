"""Reliability: how often the predicted polarity of a gold aspect is right, by how probable the system calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clamp.metrics import ConfidenceBins, confidence_bins
from repro.records.evaluation import Calibration


def reliability(probabilities_NC: ArrayLike, gold_N: ArrayLike) -> dict[str, list[Any]]:
    """Of each bin, how many predictions, their mean confidence (0 where there is none), and how many are right."""
    bins = confidence_bins(probabilities_NC, gold_N)
    return {
        "count": bins.count.astype(int).tolist(),
        "confidence": (bins.confidence / np.maximum(bins.count, 1)).round(4).tolist(),
        "right": bins.right.astype(int).tolist(),
    }


def calibration_error(bins: Calibration) -> float:
    """The expected calibration error that the bins amount to, in 0..1; 0 of no prediction."""
    count, confidence, right = (
        np.asarray(getattr(bins, name), dtype=np.float64) for name in ("count", "confidence", "right")
    )
    return ConfidenceBins(count, count * confidence, right).calibration_error


def pooled(measured: Sequence[Calibration]) -> Calibration:
    """The bins of several evaluations as one."""
    counts = np.array([bins.count for bins in measured], dtype=np.float64)
    total = (counts * [bins.confidence for bins in measured]).sum(axis=0)
    count = counts.sum(axis=0)
    return Calibration(
        count=count.astype(int).tolist(),
        confidence=(total / np.maximum(count, 1)).tolist(),
        right=np.sum([bins.right for bins in measured], axis=0).tolist(),
    )
