"""What training a config computes and holds, counted on tensors that have shapes but no content.

The model is built from its architecture without weights, so that one of any size takes a second and no memory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig

from clamp.baselines import ARCHITECTURES
from clamp.config import Config, DataConfig, EncoderConfig, ModelConfig
from clamp.cost import forward_flops
from clamp.data import VOCABULARY, Tweet, load_splits
from clamp.data.collate import Batch, EncodedTweets
from clamp.encoders import load_tokenizer, locate_weights
from clamp.model import Tagger
from clamp.pyramid import pooling_constants

_BACKWARD = 2  # a backward pass computes the gradient of both factors of every product
_BYTES = 4
_ADAM = 2  # moments a parameter
_SAMPLE = 256
_MATRIX = 768  # rows and columns, as wide as the encoders of the profile `paper`


@dataclass(frozen=True)
class StepCost:
    """Of training by one config: floating-point operations an epoch, steps an epoch, and bytes held at once.

    An epoch's operations include reading the dev and test splits. The bytes are those of parameters, gradients and
    Adam's moments, of the activations of the longest batch, and of each task's gradient where they are compared; all
    in float32, which bfloat16 autocast stays below. The data set's images are kept beside the model, not on a GPU.
    """

    flops: float
    steps: int
    memory_bytes: int
    image_bytes: int


@cache
def cpu_flops(threads: int, seconds: float = 1.0) -> float:
    """Floating-point operations a second that a float32 matrix product reaches here, measured for so long."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        one, products = torch.ones(_MATRIX, _MATRIX), 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not products:
            one @ one
            products += 1
    finally:
        torch.set_num_threads(before)
    return products * 2 * _MATRIX**3 / elapsed


def step_cost(config: Config, data_root: Path | None) -> StepCost:
    """Raises whatever building the model would: weights that are not at hand, an impossible architecture."""
    model = _described(config.model)
    tokenizer = load_tokenizer(config.model.text, VOCABULARY)
    sample, sizes = _tweets(config.data, data_root)
    data = EncodedTweets(sample, tokenizer, model)
    by_length = np.argsort(data.lengths_N2.sum(axis=1), kind="stable").tolist()
    size = min(config.train.batch_size, len(sample))
    middle = (len(sample) - size) // 2
    with torch.device("meta"):
        built = ARCHITECTURES[model.architecture](model, tokenizer=tokenizer, pretrained=False)
    typical, longest = data.batch(by_length[middle : middle + size]), data.batch(by_length[-size:])
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as shapes:
            built.to_empty(device="cpu")
            flops_per_tweet = forward_flops(built, _without_content(typical, shapes)) / size
            memory_bytes = _state_bytes(built) + _activation_bytes(built, _without_content(longest, shapes))
    finally:
        pooling_constants.cache_clear()  # made without content here, they would fail whoever trains in this process
    side = 0 if typical.pixels_BCHW is None else typical.pixels_BCHW.shape[-1]
    train, read = sizes[0], sizes[1] + sizes[2]
    return StepCost(
        flops=flops_per_tweet * ((1 + _BACKWARD) * train + read),
        steps=-(-train // config.train.batch_size),
        memory_bytes=memory_bytes,
        image_bytes=(train + read) * 3 * side**2,
    )


def _described(config: ModelConfig) -> ModelConfig:
    """The config with pretrained encoders as their architectures, read from what is on this machine."""

    def architecture(encoder: EncoderConfig) -> EncoderConfig:
        if encoder.weights is None:
            return encoder
        found = AutoConfig.from_pretrained(
            locate_weights(encoder.weights), revision=encoder.revision or "main", local_files_only=True,
            trust_remote_code=False,
        )  # fmt: skip
        return replace(encoder, architecture=found.to_diff_dict())

    vision = replace(config.vision, encoder=architecture(config.vision.encoder))
    return replace(config, text=architecture(config.text), vision=vision)


@cache
def _tweets(data: DataConfig, root: Path | None) -> tuple[list[Tweet], tuple[int, int, int]]:
    """Some tweets to train on, without their images, whose size the config tells; and how many each split has."""
    if data.name == "synthetic":
        sizes = (data.synthetic.train, data.synthetic.dev, data.synthetic.test)
        few = replace(data.synthetic, train=min(data.synthetic.train, _SAMPLE), dev=1, test=1)
        return load_splits(replace(data, synthetic=few, visual="none"), None).train, sizes
    splits = load_splits(replace(data, visual="none") if data.visual == "image" else data, root)
    sizes = (len(splits.train), len(splits.dev), len(splits.test))
    return splits.train[:: max(1, len(splits.train) // _SAMPLE)], sizes


def _without_content(batch: Batch, shapes: FakeTensorMode) -> Batch:
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **{name: shapes.from_tensor(value) for name, value in tensors.items()})  # type: ignore[arg-type]


def _state_bytes(model: Tagger) -> int:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    compared = len(model.tasks) * sum(p.numel() for p in model.text_encoder.parameters()) if len(model.tasks) > 1 else 0
    return _BYTES * ((2 + _ADAM) * trained + frozen + compared)


def _activation_bytes(model: Tagger, batch: Batch) -> int:
    """What a forward pass keeps for the backward pass, each memory once, parameters not counted again."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held on to, lest another one get its number
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _output = model(batch)
    return sum(storage.nbytes() for storage in kept.values())
