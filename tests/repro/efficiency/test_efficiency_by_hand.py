"""CLAMP's FLOPs at the paper's size: plain arithmetic, the counter, and what docs/efficiency.md says agree."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from repro.efficiency.measure import flops
from repro.efficiency.steps import infer
from repro.efficiency.systems import PAPER, build, make_batch
from repro.report.tables.costs.efficiency import MOST_OWN_FLOPS

T, D, FFN, LAYERS = 64, 768, 3072, 12
PATCHES, POOLED, SIDE, CHANNELS, TAGS = 196, 49, 16, 3, 7
STAGES = (POOLED, PATCHES, PATCHES)
CPU = torch.device("cpu")


def product(rows: int, inner: int, columns: int) -> int:
    """Of two matrices, a multiply-add counted as two."""
    return 2 * rows * inner * columns


def encoder_layers(length: int, layers: int = LAYERS) -> int:
    """Query, key, value and output; scores and values of all heads; the two layers of the FFN."""
    attention = 4 * product(length, D, D) + 2 * product(length, D, length)
    return layers * (attention + product(length, D, FFN) + product(length, FFN, D))


TERMS = {
    "text encoder": encoder_layers(T),
    "image encoder: patches": product(PATCHES, CHANNELS * SIDE * SIDE, D),
    "image encoder: layers": encoder_layers(PATCHES + 1),
    "projections": 0,
    "pooling": product(POOLED, PATCHES, D),
    "keys and values": sum(product(regions, D, 2 * D) for regions in STAGES),
    "query": len(STAGES) * product(T, D, D),
    "scores": sum(product(T, D, regions) for regions in STAGES),
    "values": sum(product(T, regions, D) for regions in STAGES),
    "output": len(STAGES) * product(T, D, D),
    "gate": len(STAGES) * product(T, 2 * D, D),
    "FFN": len(STAGES) * (product(T, D, FFN) + product(T, FFN, D)),
    "tag head": product(T, D, TAGS),
}
ENCODERS = ("text encoder", "image encoder: patches", "image encoder: layers")
TOTAL = sum(TERMS.values())


def counted(layers: int) -> int:
    """FLOPs of CLAMP with so many layers in either encoder, everything else at the paper's size."""
    shallow = {"num_hidden_layers": layers}
    size = replace(PAPER, text={**PAPER.text, **shallow, "vocab_size": 50}, vision={**PAPER.vision, **shallow})
    model = build("clamp_reference", size, CPU)
    return flops(model, partial(infer, model, make_batch(size, 1, CPU)))


def test_the_counter_agrees_with_the_count_by_hand() -> None:
    one, two = counted(1), counted(2)
    assert two - one == pytest.approx(encoder_layers(T, 1) + encoder_layers(PATCHES + 1, 1), rel=0.001)
    assert one + (LAYERS - 1) * (two - one) == pytest.approx(TOTAL, rel=0.001)


def test_what_clamp_adds_is_within_its_bound() -> None:
    assert 1 - sum(TERMS[name] for name in ENCODERS) / TOTAL <= MOST_OWN_FLOPS


def test_the_documentation_has_these_numbers() -> None:
    text = (Path(__file__).parents[3] / "docs" / "efficiency.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w :]+?) \| .* \| ([\d.]+) \|$", text, flags=re.MULTILINE))
    assert rows == {name: f"{count / 1e9:.3f}" for name, count in {**TERMS, "total": TOTAL}.items()}
