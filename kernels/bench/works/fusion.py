"""CLAMP's fusion stack: a training step and inference, with our operators and with eager ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import DeviceType

from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import Sample, Variant, attempted, compare, forward_backward
from kernels.bench.works import inputs, peers, stack
from kernels.dispatch import Impl

TRAINING = "fusion, training, B 256"
TRAINING_SMALL = "fusion, training, B 16"
INFERENCE = "fusion, inference, B 1"
PRODUCTS = "matrix products alone"
_BATCHES = {TRAINING: 256, TRAINING_SMALL: 16, INFERENCE: 1}
_SIZES = (64, 768, 12, 14)  # words, width, heads, patches a side
_TINY = (5, 32, 2, 3)
_INPUTS = 2
_LISTED = 15  # GPU kernels of a step


def rows(device: Device) -> Iterator[Row]:
    """Training: forward and backward, with gradients of text, patches and parameters, without an optimiser."""
    words, width, heads, side = _TINY if device.rehearses else _SIZES
    for work, batch in _BATCHES.items():
        batch = min(batch, 2) if device.rehearses else batch
        training = work != INFERENCE
        stacks = stacks_of_one_model(device, device.dtype, (width, heads, side), training)
        samples = [batch_of(device, stacks["eager"], batch, words, seed) for seed in range(_INPUTS)]
        context = nullcontext if training else torch.inference_mode
        variants = {name: forward_backward(made, context) for name, made in stacks.items()}
        if work == TRAINING:
            variants[PRODUCTS] = products_alone(stacks["eager"], batch, words)
            variants[peers.COMPILED] = peers.compiled(device, stacks["eager"])
        facts = {"work": work, "shape": [batch, words, side**2, width], "dtype": str(device.dtype).split(".")[1]}
        yield from compare(device, facts, variants, samples, seconds=1.0)


def profile_rows(device: Device) -> Iterator[Row]:
    """The GPU kernels that a training step spends most time in. Last of all: the profiler's hooks may disturb
    graphs that are captured after it.
    """
    words, width, heads, side = _TINY if device.rehearses else _SIZES
    batch = 2 if device.rehearses else _BATCHES[TRAINING]
    stacks = stacks_of_one_model(device, device.dtype, (width, heads, side), training=True)
    sample = batch_of(device, stacks["eager"], batch, words, 0)
    for name, made in stacks.items():
        row = {"work": TRAINING, "variant": name, "launch": "profile"}
        yield from attempted(device, row, partial(_profile, forward_backward(made), sample))


def stacks_of_one_model(
    device: Device, dtype: torch.dtype, sizes: tuple[int, int, int], training: bool
) -> dict[str, stack.Stack]:
    """The same parameters on our operators and on eager ones. sizes: width, heads, patches a side."""
    torch.manual_seed(0)
    impl: Impl = "torch" if device.rehearses else device.impl  # interpreted, a step takes seconds
    ours = stack.Stack(*sizes, stack.fused(impl)).to(device.name, dtype).train(training)
    eager = stack.Stack(*sizes, stack.EAGER).to(device.name, dtype).train(training)
    for made in (ours, eager):
        made.requires_grad_(training)
    eager.load_state_dict(ours.state_dict(keep_vars=True), assign=True)
    return {"kernels": ours, "eager": eager}


def batch_of(device: Device, model: stack.Stack, batch: int, words: int, seed: int) -> Sample:
    """Words and patches with masks; in training with a gradient to propagate back."""
    source = inputs.generator(device, seed)
    patches, dtype = model.belongs_PR.shape[1], model.belongs_PR.dtype
    text_BTD, patch_BRD, direction_BTD = (
        inputs.normal(device, (batch, length, model.width), source, dtype) for length in (words, patches, words)
    )
    arguments = {
        "text_BTD": text_BTD.requires_grad_(model.training),
        "word_mask_BT": inputs.random_mask(device, batch, words, source),
        "patch_BRD": patch_BRD.requires_grad_(model.training),
        "patch_mask_BR": inputs.random_mask(device, batch, patches, source),
    }
    if not model.training:
        return Sample(arguments)
    return Sample(arguments, (direction_BTD,), tuple(model.parameters()))


def products_alone(model: stack.Stack, batch: int, words: int) -> Variant:
    """The products of a training step with the layers' weights, forward and backward, and nothing else.

    A step's time less this one's is its time outside matrix products, whatever its GPU kernels are called.
    """
    layers = list(stack.products(model, batch, words))
    weight = layers[0][1].weight
    sizes = {(rows, width) for rows, layer in layers for width in (layer.in_features, layer.out_features)}
    random = {size: torch.randn(size, dtype=weight.dtype, device=weight.device) for size in sorted(sizes)}

    @torch.no_grad()
    def step(_: Sample) -> tuple[Tensor, ...]:
        results = []
        for rows, layer in layers:
            x, dy = random[rows, layer.in_features], random[rows, layer.out_features]
            results += [F.linear(x, layer.weight, layer.bias), dy @ layer.weight, dy.T @ x]
        return tuple(results)

    return Variant(step)


def _profile(variant: Variant, sample: Sample) -> Row:
    variant.step(sample)  # compiled before it is watched
    with torch.profiler.profile() as profiler:
        variant.step(sample)
    # What runs on the device has entries of its own, whose time its callers' entries repeat.
    on_device = [event for event in profiler.key_averages() if event.device_type != DeviceType.CPU]
    on_device.sort(key=lambda event: event.self_device_time_total, reverse=True)
    total = sum(event.self_device_time_total for event in on_device)
    listed = [[e.key[:100], e.count, round(e.self_device_time_total / 1e3, 4)] for e in on_device[:_LISTED]]
    return {"device_ms": total / 1e3, "name_calls_ms": listed}
