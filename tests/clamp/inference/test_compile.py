"""A compiled model: the same answers, its weights laid out once, for whatever length or for one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config as inductor
from builders import tiny_config, tiny_model, tweets
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

import clamp.inference.predictor
from clamp.baselines import ARCHITECTURES
from clamp.config import ConfigError
from clamp.inference.compile import compiled
from clamp.inference.predictor import Predictor


def _has_compiler() -> bool:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _has_compiler(), reason="torch.compile needs a C++ compiler")
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="on other processors torch lays out no float32 weights")


@pytest.fixture(autouse=True)
def _no_programs_of_others() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@x86
@needs_compiler
@pytest.mark.parametrize("any_length", [True, False])
@torch.no_grad()
def test_weights_are_laid_out_once_and_stay_as_they_were(any_length: bool) -> None:
    layer = nn.Linear(8, 8)
    call = compiled(layer.forward, any_length=any_length)
    rows = {length: torch.randn(length, 8) for length in (4, 7)}
    expected = {length: layer(x) for length, x in rows.items()}

    def same(length: int) -> None:
        torch.testing.assert_close(call(rows[length]), expected[length], rtol=1e-5, atol=1e-6)

    same(4)
    assert counters["inductor"]["mkldnn_linear_weight_pack_matcher_count"] == 1
    same(7)
    assert counters["stats"]["unique_graphs"] == (1 if any_length else 2)
    layer.weight.zero_()
    same(4)  # the weights of the first call
    assert not inductor.freezing  # nothing else is compiled so


def test_without_a_compiler_it_says_what_is_missing() -> None:
    predictor = Predictor(tiny_model(tiny_config().model))
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, g\+\+ or what CXX names: there is none here"),
    ):
        predictor.compile()
    assert predictor.predict([{"text": "the red kite"}])  # as before


def test_a_predictor_calls_its_program_and_leaves_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []

    def recorded(forward: Callable[..., Any], *, any_length: bool) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            called.append(any_length)
            return forward(*args, **options)

        return call

    monkeypatch.setattr(clamp.inference.predictor, "compiled", recorded)
    predictor = Predictor(tiny_model(tiny_config().model))
    expected = predictor("the red kite")
    assert predictor.compile()("the red kite") == expected
    assert called == [True]
    assert "forward" not in vars(predictor.model)


def _probabilities(predictor: Predictor, some: list[dict[str, object]], regions: bool) -> list[Tensor]:
    found = predictor.predict(some, regions=regions, batch_size=1)
    return [torch.tensor([a.probabilities for a in p.aspects], dtype=torch.float64) for p in found]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_compiled_predictor_finds_the_same(architecture: str) -> None:
    predictor = Predictor(tiny_model(tiny_config(model__architecture=architecture).model))
    records = [{"words": list(t.words), "image": t.image} for t in tweets(12)]
    records[3]["image"] = np.zeros((5, 9, 3), np.uint8)
    records[5]["image"] = None
    regions = predictor.model.uses_image
    expected, spans = _probabilities(predictor, records, regions), predictor.predict(records)
    found = _probabilities(predictor.compile(), records, regions)
    assert any(len(p) for p in expected)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert [[(a.start, a.end, a.polarity) for a in p.aspects] for p in predictor.predict(records)] == [
        [(a.start, a.end, a.polarity) for a in p.aspects] for p in spans
    ]
    # one tweet and several, each with regions or without; graphs that only differ in what they return are one
    assert 2 <= counters["stats"]["unique_graphs"] <= 3
    assert not counters["graph_break"]
