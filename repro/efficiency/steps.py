"""One step of inference or training: whole, and for CLAMP part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from clamp.data.collate import Batch
from clamp.model import Clamp, Tagger
from clamp.pyramid import RegionPyramid
from repro.efficiency.generative import Generative
from repro.efficiency.names import CONTRAST, FUSION, HEADS, IMAGE, OPTIMISER, TEXT
from repro.efficiency.timing import synchronise

_CLIP_NORM = 1.0


def precision(device: torch.device) -> AbstractContextManager[None]:
    """As the trainer's "auto": bfloat16 autocast on CUDA, float32 on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def make_optimiser(parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    return torch.optim.AdamW(list(parameters), lr=1e-6, fused=True)


def infer(model: Callable[[Batch], object], batch: Batch) -> None:
    """From ids and pixels to logits, or to the generated sequence."""
    with torch.no_grad(), precision(batch.token_ids_BS.device):
        model(batch)


def train(model: nn.Module, batch: Batch, optimisers: Iterable[torch.optim.Optimizer]) -> None:
    """Forward, backward, clipping, and a step of each optimiser."""
    with precision(batch.token_ids_BS.device):
        loss = _loss(model, batch)
    model.zero_grad(set_to_none=True)
    loss.backward()
    _step(model, optimisers)


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    if isinstance(model, Generative):
        return model.loss(batch)
    assert isinstance(model, Tagger)
    return model.total(model.losses(model(batch), batch))


def _step(model: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
    for optimiser in optimisers:
        optimiser.step()


class _Clock:
    """Seconds by part, added up."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    def time(self, part: str, call: Callable[[], object]) -> None:
        synchronise(self._device)
        start = time.perf_counter()
        call()
        synchronise(self._device)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


class _Parts:
    """What a forward pass of CLAMP makes, part by part; with gradients, each part's inputs are cut off from it."""

    text_BTD: Tensor
    regions_BRD: Tensor
    x_BTD: Tensor
    context_BTD: Tensor

    def __init__(self, model: Clamp, batch: Batch) -> None:
        self.model, self.batch = model, batch

    def encode_text(self) -> None:
        self.text_BTD = self.model.encode_text(self.batch)

    def encode_image(self) -> None:
        self.regions_BRD, self.mask_BR, self.grid = self.model.encode_image(self.batch)

    def fuse(self) -> None:
        self.fused_inputs = [_leaf(self.text_BTD), _leaf(self.regions_BRD)]
        pyramid = RegionPyramid(self.fused_inputs[1], self.mask_BR, self.grid)
        last = self.model.fusion(self.fused_inputs[0], self.batch.word_mask_BT, pyramid)[-1]
        self.x_BTD, self.context_BTD = last.x_BTD, last.context_BTD

    def tag(self) -> None:
        self.tag_logits_BTC = self.model.tag_head(self.x_BTD)


def inference_parts(model: Clamp, batch: Batch) -> dict[str, float]:
    """Seconds of each part of one forward pass."""
    device = batch.token_ids_BS.device
    clock, parts = _Clock(device), _Parts(model, batch)
    with torch.no_grad(), precision(device):
        clock.time(TEXT, parts.encode_text)
        clock.time(IMAGE, parts.encode_image)
        clock.time(FUSION, parts.fuse)
        clock.time(HEADS, parts.tag)
    return clock.seconds


def training_parts(model: Clamp, batch: Batch, optimisers: Iterable[torch.optim.Optimizer]) -> dict[str, float]:
    """Seconds of each part of one training step, forward and backward together; the step is that of `train`."""
    device = batch.token_ids_BS.device
    clock, parts = _Clock(device), _Parts(model, batch)
    model.zero_grad(set_to_none=True)
    with precision(device):
        clock.time(TEXT, parts.encode_text)
        clock.time(IMAGE, parts.encode_image)
        clock.time(FUSION, parts.fuse)
    # Each part reads its inputs as leaves: its backward pass ends there, and the next one starts from their gradients.
    text_BTD, regions_BRD, x_BTD, context_BTD = read = [
        _leaf(x) for x in (parts.text_BTD, parts.regions_BRD, parts.x_BTD, parts.context_BTD)
    ]
    clock.time(HEADS, lambda: _heads_loss(model, batch, x_BTD, text_BTD).backward())
    clock.time(
        CONTRAST, lambda: _contrast_loss(model, batch, text_BTD, regions_BRD, context_BTD, parts.mask_BR).backward()
    )
    clock.time(FUSION, lambda: _backward([parts.x_BTD, parts.context_BTD], read[2:]))
    fused_text_BTD, fused_regions_BRD = parts.fused_inputs
    clock.time(TEXT, lambda: _backward([parts.text_BTD] * 2, [text_BTD, fused_text_BTD]))
    clock.time(IMAGE, lambda: _backward([parts.regions_BRD] * 2, [regions_BRD, fused_regions_BRD]))
    clock.time(OPTIMISER, lambda: _step(model, optimisers))
    return clock.seconds


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _backward(outputs: list[Tensor], leaves: list[Tensor]) -> None:
    """Carry the leaves' gradients on to what the outputs were made of, in one pass."""
    torch.autograd.backward(outputs, [leaf.grad for leaf in leaves])


def _heads_loss(model: Clamp, batch: Batch, x_BTD: Tensor, text_BTD: Tensor) -> Tensor:
    with precision(x_BTD.device):
        tagging = model.tag_decoder.loss(model.tag_head(x_BTD), batch.tags_BT)
        return model.total({"tagging": tagging, "aspect": model.aspect_head.loss(text_BTD, batch.tags_BT)})


def _contrast_loss(
    model: Clamp, batch: Batch, text_BTD: Tensor, regions_BRD: Tensor, context_BTD: Tensor, mask_BR: Tensor
) -> Tensor:
    with precision(text_BTD.device):
        losses = model.contrast(text_BTD, batch.word_mask_BT, context_BTD, regions_BRD, mask_BR, batch.aspect_spans_N3)
        return model.total(losses)
