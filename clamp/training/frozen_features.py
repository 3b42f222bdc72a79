"""What a frozen encoder says of every image of a data set, computed once.

Each tweet's image, or its proxy's sentences, is encoded by itself, so that no bit depends on the batch it is read in:
kept by this run, kept by an earlier one or not kept at all, the features are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from clamp.data.collate import EncodedTweets, padded
from clamp.data.schema import Tweet
from clamp.encoders import fingerprint
from clamp.model import Tagger, as_floats
from clamp.training.kept_features import KeptFeatures, Opener

_SIMILAR = 8  # sub-words that two sentences read together may differ by


def has_frozen_image(model: Tagger) -> bool:
    """Whether what the model sees of an image never changes in training."""
    return model.uses_image and model.config.vision.frozen


def encoded_for(model: Tagger, tweets: Sequence[Tweet], keep: Opener | None = None) -> EncodedTweets:
    """Tweets as the model reads them; where its image is frozen, with features that are kept as `keep` says."""
    if has_frozen_image(model):
        return FrozenTweets(tweets, model, keep)
    return EncodedTweets(tweets, model.tokenizer, model.config)


class FrozenTweets(EncodedTweets):
    """Tweets whose batches hold `features_BRH` in place of pixels; `model` encodes an image when it is first met.

    With `keep`, features are kept in the file that it opens. OSError where there is not enough space for them.
    """

    def __init__(self, tweets: Sequence[Tweet], model: Tagger, keep: Opener | None) -> None:
        super().__init__(tweets, model.tokenizer, model.config)
        self._model = model
        is_proxy = self.vision.kind == "proxy"
        encoder: PreTrainedModel = model.proxy_encoder if is_proxy else model.vision_encoder.encoder
        self._width = encoder.config.hidden_size
        grid = 1 if is_proxy else int(np.prod(model.vision_encoder.grid))
        self._least = grid  # regions of a batch at least: all that there are of a grid
        contents = [self._content(index) for index in range(len(self))]
        rows = {
            content: self._encoded[index].proxy_length if is_proxy else grid
            for index, content in enumerate(contents)
            if content
        }
        known = sorted(rows)  # the same file for the same images, whatever the order of the tweets that have them
        entries = {content: entry for entry, content in enumerate(known)}
        self._entry_N = [entries.get(content) for content in contents]
        self._kept = None
        if keep is not None:
            name = _name(fingerprint(encoder), self._device, f"{self.vision.image_size}", known)
            self._kept = KeptFeatures(keep(name), [rows[content] for content in known], self._width)

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _content(self, index: int) -> bytes:
        """What stands for the image in the name of a file of features; nothing where there is none."""
        if self.vision.kind == "proxy":
            proxy = self._encoded[index].proxy
            return hashlib.sha256(repr(proxy).encode()).digest() if proxy else b""
        image = self.tweets[index].image
        if image is None:
            return b""
        if isinstance(image, Path):
            state = image.stat()
            return f"{image.resolve()} {state.st_size} {state.st_mtime_ns}".encode()
        return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()

    def _visual(self, indices: Sequence[int]) -> dict[str, Any]:
        if self.vision.kind == "proxy":
            fields = super()._visual(indices)
        else:
            fields = {"image_mask_B": torch.tensor([self.tweets[index].image is not None for index in indices])}
        rows = [self._features(index) for index in indices]
        features_BRH = torch.zeros(len(rows), max(self._least, *map(len, rows)), self._width)
        for features_RH, row_RH in zip(features_BRH, rows, strict=True):
            features_RH[: len(row_RH)] = row_RH
        return fields | {"features_BRH": features_BRH}

    def _features(self, index: int) -> Tensor:
        """(R, H) float32 of one tweet; without an image R = 0."""
        entry = self._entry_N[index]
        if entry is None:
            return torch.zeros(0, self._width)
        features_RH = None if self._kept is None else self._kept.get(entry)
        if features_RH is None:
            features_RH = self._encode_alone(index)
            if self._kept is not None:
                self._kept.put(entry, features_RH)
        return features_RH

    @torch.no_grad()
    def _encode_alone(self, index: int) -> Tensor:
        if self.vision.kind == "proxy":
            return _read(self._model.proxy_encoder, self._encoded[index].proxy, self._device)
        pixels_HWC = torch.tensor(self._resized(index))  # a copy: the array is read-only
        self._pixels.pop(index)  # nobody asks for them again
        pixels_BCHW = as_floats(pixels_HWC.permute(2, 0, 1)[None].to(self._device))
        return self._model.vision_encoder.features(pixels_BCHW)[0].cpu()


def _name(encoder: bytes, device: torch.device, size: str, contents: Sequence[bytes]) -> str:
    """Of all that decides a bit of the features: on a CPU its sums are split by the number of threads."""
    machine = f"{device.type} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
    digest = hashlib.sha256(encoder + f"{machine} {size}\n".encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return f"{digest.hexdigest()[:32]}.features"


def _read(encoder: nn.Module, sentences: list[list[int]], device: torch.device) -> Tensor:
    """(L, H): the states of all sub-words. Sentences of similar length are read together, so that little is padding."""
    states: dict[int, Tensor] = {}
    by_length = sorted(range(len(sentences)), key=lambda k: len(sentences[k]))
    for _, group in groupby(by_length, key=lambda k: len(sentences[k]) // _SIMILAR):
        some = list(group)
        ids_SW, mask_SW = padded([sentences[k] for k in some])
        states_SWH = encoder(input_ids=ids_SW.to(device), attention_mask=mask_SW.to(device)).last_hidden_state
        states |= {k: row_WH[: len(sentences[k])] for k, row_WH in zip(some, states_SWH, strict=True)}
    return torch.cat([states[k] for k in range(len(sentences))]).cpu()
