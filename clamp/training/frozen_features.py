"""What a frozen encoder says of every image of a data set, computed once a run.

Each tweet's image, or its proxy's sentences, is encoded by itself, so that no bit depends on the batch it is read in:
with and without keeping, a run has the same result.
"""

from __future__ import annotations

import os
import tempfile
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
from clamp.model import Tagger, as_floats

_SIMILAR = 8  # sub-words that two sentences read together may differ by


def has_frozen_image(model: Tagger) -> bool:
    """Whether what the model sees of an image never changes in training."""
    return model.uses_image and model.config.vision.frozen


class FrozenTweets(EncodedTweets):
    """Tweets whose batches hold `features_BRH` in place of pixels; `model` encodes a tweet when it is first met.

    With a `file`, features are kept there (float32), mapped into memory: the file itself is deleted at once, and its
    space is free again when the process ends, however it ends. OSError where there is not enough of it.
    """

    def __init__(self, tweets: Sequence[Tweet], model: Tagger, file: Path | None) -> None:
        super().__init__(tweets, model.tokenizer, model.config)
        self._model = model
        is_proxy = self.vision.kind == "proxy"
        rows, columns = (0, 0) if is_proxy else model.vision_encoder.grid
        regions = [
            encoded.proxy_length if is_proxy else rows * columns * (tweet.image is not None)
            for tweet, encoded in zip(self.tweets, self._encoded, strict=True)
        ]
        self._end_N = np.cumsum(regions)
        encoder: PreTrainedModel = model.proxy_encoder if is_proxy else model.vision_encoder.encoder
        self._width = encoder.config.hidden_size
        self._least = 1 if is_proxy else rows * columns  # regions of a batch at least: all that there are of a grid
        self._kept = None if file is None else _reserve(file, int(sum(regions)), self._width)
        self._known_N = np.zeros(len(regions), dtype=bool)

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
        end = int(self._end_N[index])
        start = int(self._end_N[index - 1]) if index else 0
        if start == end:
            return torch.zeros(0, self._width)
        if self._kept is None:
            return self._encode_alone(index)
        if not self._known_N[index]:
            self._kept[start:end] = self._encode_alone(index)
            self._known_N[index] = True
        return self._kept[start:end]

    @torch.no_grad()
    def _encode_alone(self, index: int) -> Tensor:
        device = next(self._model.parameters()).device
        if self.vision.kind == "proxy":
            return _read(self._model.proxy_encoder, self._encoded[index].proxy, device)
        pixels_HWC = torch.tensor(self._resized(index))  # a copy: the array is read-only
        self._pixels.pop(index)  # nobody asks for them again
        return self._model.vision_encoder.features(as_floats(pixels_HWC.permute(2, 0, 1)[None].to(device)))[0].cpu()


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


def _reserve(file: Path, rows: int, columns: int) -> Tensor:
    """A float32 tensor in a file that has no name any more. Its space is claimed first: a full disk is an OSError."""
    size = 4 * max(1, rows * columns)
    folder = file.parent if file.parent.is_dir() else None  # of several processes only the first has a folder
    with tempfile.TemporaryFile(dir=folder) as stream:
        os.posix_fallocate(stream.fileno(), 0, size)
        kept = np.memmap(stream, np.float32, "r+", shape=(size // 4,))
    return torch.from_numpy(kept)[: rows * columns].reshape(rows, columns)
