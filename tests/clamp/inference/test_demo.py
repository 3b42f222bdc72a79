"""The page to try a model on: what it shows, without the page; the page itself needs Gradio."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from builders import tiny_config, tiny_model, tweets

from clamp.config import ConfigError
from clamp.inference.demo import demo_page, highlighted, looked_at
from clamp.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model = tiny_model(tiny_config().model)
    for parameter in model.parameters():  # so that attention differs from region to region
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return Predictor(model)


def test_the_text_comes_back_with_its_aspects(predictor: Predictor) -> None:
    text = "the  red kite, so good"
    found = predictor(text, aspects=[{"start": 1, "end": 3}, {"start": 4, "end": 5}])
    pieces = highlighted(text, found)
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, polarity in pieces if polarity] == ["red kite", "so"]
    assert highlighted("no", predictor("no", aspects=[])) == [("no", None)]


def test_where_each_stage_looked_is_lit(predictor: Predictor) -> None:
    tweet = tweets(1)[0]
    white = np.full_like(tweet.image, 255)
    found = predictor(" ".join(tweet.words), white, aspects=[{"start": 0, "end": 2}], regions=True)
    shown = looked_at(predictor, found, white)
    assert [title for _, title in shown] == ["stage 1 (pooled)", "stage 2 (patch)", "stage 3 (patch)"]
    light_HW = shown[-1][0][..., 0]
    strongest = found.aspects[0].regions[0]
    rows, columns = (
        round(320 * (a + b) / 2) for a, b in ((strongest.top, strongest.bottom), (strongest.left, strongest.right))
    )
    assert light_HW[rows, columns] == light_HW.max() >= 254
    assert light_HW.min() < 254
    assert looked_at(predictor, predictor("a", white, aspects=[]), white) == []


def test_without_gradio_it_says_how_to_get_it(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match=r'pip install "clamp-repro\[demo\]"'):
        demo_page(predictor, [])
