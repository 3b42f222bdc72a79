"""A model of few parameters, a folder of images, and windows so small that a few tweets need several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import tiny_config, tiny_model, tweets
from corpora import COUNT
from PIL import Image

from clamp.corpus import job
from clamp.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model(tiny_config().model))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, tweet in enumerate(tweets(COUNT)):
        assert isinstance(tweet.image, np.ndarray)
        Image.fromarray(tweet.image).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    predictor.save_pretrained(folder)
    return folder


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "WINDOW", 8)
