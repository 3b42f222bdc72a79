"""A model as an ONNX graph: the same logits for tweets of any length, and nothing where they would differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import tiny_config, tiny_model, tweets

from clamp.__main__ import main
from clamp.config import ConfigError
from clamp.data.collate import EncodedTweets
from clamp.inference import onnx_export
from clamp.inference.onnx_export import export_onnx
from clamp.inference.predictor import Predictor
from clamp.tagging import TAGS

NEEDS = 'needs onnx and onnxruntime: pip install ".[onnx]"'


@pytest.mark.parametrize("architecture", ["clamp", "text_only"])
def test_the_graph_gives_the_models_logits_whatever_the_length(architecture: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason=NEEDS)
    runtime = pytest.importorskip("onnxruntime", reason=NEEDS)
    model = tiny_model(tiny_config(model__architecture=architecture).model)
    Predictor(model).save_pretrained(tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model"), "--onnx", str(tmp_path / "a.onnx")]) == 0
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"))
    data = EncodedTweets(tweets(8), model.tokenizer, model.config)
    for index in range(8):
        batch = data.batch([index])
        given = {"token_ids": batch.token_ids_BS.numpy(), "first": batch.first_BT.numpy()}
        if architecture == "clamp":
            given |= {"pixels": batch.pixels_BCHW.contiguous().numpy(), "has_image": batch.image_mask_B.numpy()}
        (found_1TC,) = session.run(None, given)
        with torch.no_grad():
            expected_1TC = model(batch).tag_logits_BTC.numpy()
        assert found_1TC.shape == expected_1TC.shape
        assert np.abs(found_1TC - expected_1TC).max() < 1e-4
    facts = {p.key: json.loads(p.value) for p in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert facts == {"tags": list(TAGS), "image_size": 64, "max_tokens": 64}


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason=NEEDS)
    pytest.importorskip("onnxruntime", reason=NEEDS)
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(ConfigError, match="the graph differs from PyTorch by "):
        export_onnx(tiny_model(tiny_config().model), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = tiny_model(tiny_config(model__vision={"kind": "proxy"}).model)
    with pytest.raises(ConfigError, match="a clamp model that reads what was said of images has no graph"):
        export_onnx(proxies, tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r'onnx is not installed here; run: pip install "clamp-repro\[onnx\]"'):
        export_onnx(tiny_model(tiny_config().model), tmp_path / "a.onnx")
