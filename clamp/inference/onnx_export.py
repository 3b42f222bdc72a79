"""A model as an ONNX graph: from one tweet's sub-words and pixels to its tag logits, for runtimes other than PyTorch.

Not in the graph: the tokenizer, the decoding and resizing of images, and what is read from the logits (tags, their
decoding, polarities). docs/add-a-data-set.md says how each is done.
"""

from __future__ import annotations

import importlib
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clamp.config import ConfigError
from clamp.data.collate import Batch, EncodedTweets
from clamp.data.schema import Tweet
from clamp.inference.forward import reads_pixels, reads_proxies
from clamp.model import Tagger
from clamp.system.files import written
from clamp.tagging import TAGS

TOLERANCE = 1e-4  # of a logit, against PyTorch
_OPSET = 17
_LENGTHS = (1, 2, 5, 12, 30)  # words of the tweets that the graph is checked on
_TRACED = 3  # which of them the graph is made with


class _OneTweet(nn.Module):
    """The model as a function of what a graph takes: at a batch of one nothing is padding."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, token_ids: Tensor, first: Tensor, pixels: Tensor | None = None, has_image: Tensor | None = None
    ) -> Tensor:
        """(1, S) int64 sub-words, (1, T) int64 places of the words' first ones, (1, 3, side, side) uint8, (1,) bool ->
        (1, T, tags) float32."""
        batch = Batch(
            tweets=[],
            token_ids_BS=token_ids,
            token_mask_BS=torch.ones_like(token_ids).bool(),
            first_BT=first,
            word_mask_BT=torch.ones_like(first).bool(),
            tags_BT=first,
            aspect_spans_N3=torch.zeros(0, 3, dtype=torch.int64),
            image_mask_B=torch.zeros(1, dtype=torch.bool) if has_image is None else has_image,
            pixels_BCHW=pixels,
        )
        return self.model(batch).tag_logits_BTC


def export_onnx(model: Tagger, out: Path) -> float:
    """Write the model as ONNX and return the largest difference of a logit that it had from PyTorch.

    Inputs token_ids, first and, where it reads pixels, pixels and has_image, as `_OneTweet` takes them, of any length;
    output tag_logits. ConfigError where onnx or onnxruntime is missing, where the model reads what was said of images,
    and where the graph differs by more than TOLERANCE: then nothing is written.
    """
    if reads_proxies(model):
        raise ConfigError(
            f"export: a {model.config.architecture} model that reads what was said of images has no graph"
        )
    onnx, runtime = _needed("onnx"), _needed("onnxruntime")
    plain = type(model)(replace(model.config, operators="reference"), tokenizer=model.tokenizer, pretrained=False)
    plain.load_state_dict(model.state_dict())
    one = _OneTweet(plain).eval().cpu()
    cases = list(_cases(plain))
    content = _traced(one, cases[_TRACED])
    worst = _largest_difference(one, runtime.InferenceSession(content), cases)
    if not worst <= TOLERANCE:
        raise ConfigError(f"export: the graph differs from PyTorch by {worst:.1e}, more than {TOLERANCE}")
    graph = onnx.load_model_from_string(content)
    facts = {
        "tags": list(TAGS),
        "image_size": model.config.vision.image_size,
        "max_tokens": model.config.text.max_tokens,
    }
    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in facts.items()})
    with written(out) as stream:
        stream.write(graph.SerializeToString())
    return worst


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f'export: {package} is not installed here; run: pip install "clamp-repro[onnx]"') from None


def _cases(model: Tagger) -> Iterator[dict[str, Tensor]]:
    """Tweets of several lengths, with and without an image."""
    draw, side = np.random.default_rng(0), model.config.vision.image_size
    for number, length in enumerate(_LENGTHS):
        image = draw.integers(0, 256, (side, side, 3), dtype=np.uint8) if number % 2 else None
        tweet = Tweet("", tuple(draw.choice(["the", "red", "kite", "looks", "awful"], length)), (), image)
        batch = EncodedTweets([tweet], model.tokenizer, model.config).batch([0])
        case = {"token_ids": batch.token_ids_BS, "first": batch.first_BT}
        if reads_pixels(model):
            assert batch.pixels_BCHW is not None
            case |= {"pixels": batch.pixels_BCHW.contiguous(), "has_image": batch.image_mask_B}
        yield case


def _traced(one: _OneTweet, case: dict[str, Tensor]) -> bytes:
    stream = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on each Python number in the model, of which the check tells what matters
        torch.onnx.export(
            one, tuple(case.values()), stream,  # type: ignore[arg-type]  # its types name paths alone
            input_names=list(case), output_names=["tag_logits"],
            dynamic_axes={"token_ids": {1: "sub_words"}, "first": {1: "words"}, "tag_logits": {1: "words"}},
            opset_version=_OPSET, dynamo=False,
        )  # fmt: skip
    return stream.getvalue()


@torch.no_grad()
def _largest_difference(one: _OneTweet, session: Any, cases: list[dict[str, Tensor]]) -> float:
    worst = 0.0
    for case in cases:
        (logits_1TC,) = session.run(None, {name: tensor.numpy() for name, tensor in case.items()})
        worst = max(worst, float(np.abs(logits_1TC - one(**case).numpy()).max()))
    return worst
