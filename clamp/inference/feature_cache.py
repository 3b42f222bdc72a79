"""A cache of what the frozen encoders say of an image or a text, so that no content is encoded twice. Inference only.

An entry is one image's patches or one text's states, under a key made of its content (the bytes of the prepared pixels,
or the sub-word ids) and of the encoder (its architecture and weights, and the precision). Only what has no entry is
encoded, each content once, together.

Guaranteed: an entry, once made, is returned to the bit for as long as it is kept; where nothing was evicted, a second
pass over a corpus in the same batches therefore has the first one's output exactly. Not guaranteed: that it equals to
the bit what another batch would have given, because sums are split by the batch's shape.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from clamp.encoders import fingerprint
from clamp.model import Tagger
from clamp.system.files import written

_SLACK = 0.1  # of the limit is written between two listings of the folder, so that not every write has to list it
_DIGEST = 32  # bytes of sha256, before the safetensors of an entry


class FeatureStore(Protocol):
    """Where entries are kept. `get` may always say None: an entry is no more than time saved."""

    def get(self, key: str) -> Tensor | None:
        """The tensor that was put under the key, to the bit, on the CPU; None where there is none."""

    def put(self, key: str, features: Tensor) -> None:
        """Keep a tensor, perhaps in the place of those that were used least recently."""


class MemoryStore:
    """Entries in this process, at most `limit_bytes` of them, the least recently used evicted first."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._entries: OrderedDict[str, Tensor] = OrderedDict()

    def get(self, key: str) -> Tensor | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: str, features: Tensor) -> None:
        if key in self._entries:
            self.bytes -= self._entries.pop(key).nbytes
        self._entries[key] = features.detach().cpu().clone()  # a view would keep its whole batch
        self.bytes += features.nbytes
        while self.bytes > self.limit_bytes:
            self.bytes -= self._entries.popitem(last=False)[1].nbytes


class FolderStore:
    """Entries as files under `folder`, which any number of processes may share.

    A file is a sha256 and then safetensors; it appears whole or not at all. One that is damaged, or that another
    process evicts in that moment, is an entry that is not there. A reader marks what it reads as used, and the least
    recently used are evicted. One process keeps the files within `limit_bytes`; each further one that writes at the
    same time can exceed it by a tenth.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._unlisted = 0  # bytes that we wrote since the last listing
        self._evict()

    def get(self, key: str) -> Tensor | None:
        file = self._file(key)
        try:
            content = file.read_bytes()
            os.utime(file)
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            file.unlink(missing_ok=True)
            return None
        return load(content[_DIGEST:])["features"]

    def put(self, key: str, features: Tensor) -> None:
        """Raises OSError where the folder cannot be written."""
        file = self._file(key)
        file.parent.mkdir(exist_ok=True)
        body = save({"features": features.detach().cpu().contiguous()})
        # not durable: what a crash damages is encoded again; not found: another process evicted what was half written
        with contextlib.suppress(FileNotFoundError), written(file, durable=False) as stream:
            stream.write(hashlib.sha256(body).digest() + body)
        self._unlisted += _DIGEST + len(body)
        if self._unlisted > _SLACK * self.limit_bytes:
            self._evict()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key  # a flat folder of many thousand files is slow to list

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, file) of everything there, what a killed writer left unfinished included."""
        found = []
        for file in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):  # evicted by another process in the meantime
                state = file.stat()
                found.append((state.st_mtime, state.st_size, file))
        return found

    def _evict(self) -> None:
        """Make room for what is written before the next listing."""
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) - (1 - _SLACK) * self.limit_bytes
        for _, size, file in files:
            if excess <= 0:
                break
            file.unlink(missing_ok=True)
            excess -= size
        self._unlisted = 0


@contextmanager
def cached_features(model: Tagger, store: FeatureStore) -> Iterator[None]:
    """Within it, `model` looks its images and texts up in `store` and encodes what is not there.

    The model itself, its parameters and what it saves are as before afterwards. For inference: encoding raises
    RuntimeError where gradients are enabled or the model is in training mode.
    """
    text_encoder = model.text_encoder
    states = text_encoder.encoder
    vision_encoder = model.vision_encoder if hasattr(model, "vision_encoder") else None
    text_encoder.encoder = CachedText(states, store)  # called as a transformers model is
    if vision_encoder is not None:
        model.vision_encoder = CachedVision(vision_encoder, store)  # type: ignore[assignment]
    try:
        yield
    finally:
        text_encoder.encoder = states
        if vision_encoder is not None:
            model.vision_encoder = vision_encoder


class _Cached(nn.Module):
    """An encoder and the store of what it said."""

    def __init__(self, encoder: nn.Module, store: FeatureStore) -> None:
        super().__init__()
        self.encoder, self.store = encoder, store
        self.train(encoder.training)

    def _rows(
        self, contents: Sequence[bytes], device: torch.device, encode: Callable[[list[int]], list[Tensor]]
    ) -> list[Tensor]:
        """Each content's features: from the store, or from `encode`, which gets the first row of each new content."""
        if self.training or torch.is_grad_enabled():
            raise RuntimeError("cached features are for inference: call model.eval() and use torch.no_grad()")
        precision = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        prefix = _known_fingerprint(self.encoder) + f"{type(self).__name__} {device.type} {precision}\n".encode()
        keys = [hashlib.sha256(prefix + content).hexdigest() for content in contents]
        found = {key: self.store.get(key) for key in dict.fromkeys(keys)}
        new = [key for key, features in found.items() if features is None]
        if new:
            for key, features in zip(new, encode([keys.index(key) for key in new]), strict=True):
                self.store.put(key, features)
                found[key] = features
        return [features.to(device) for features in (found[key] for key in keys) if features is not None]


class CachedVision(_Cached):
    """Stands for a VisionEncoder: pixels (B, 3, side, side) float -> patches (B, R, D)."""

    def __init__(self, encoder: nn.Module, store: FeatureStore) -> None:
        super().__init__(encoder, store)
        self.grid = encoder.grid

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """The same as the encoder's, rows with the same pixels alike."""
        shape = f"{tuple(pixels_BCHW.shape[1:])} {pixels_BCHW.dtype}\n".encode()
        contents = [shape + _bytes(pixels_CHW) for pixels_CHW in pixels_BCHW]
        rows = self._rows(contents, pixels_BCHW.device, lambda new: list(self.encoder(pixels_BCHW[new])))
        return torch.stack(rows)


class CachedText(_Cached):
    """Stands for a transformers text encoder: ids and mask (B, S) -> last_hidden_state (B, S, H), 0 at padding.

    Texts start at the left. A text's entry has its own length; its last bits may depend on the length that it was
    padded to when it was first read.
    """

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **segments: Tensor) -> SimpleNamespace:
        """`segments` is token_type_ids (B, S), where the encoder knows any."""
        length_B = attention_mask.sum(dim=1).tolist()
        columns = [input_ids, *segments.values()]
        contents = [
            b"".join(f"{length} ".encode() + _bytes(ids_BS[b, :length]) for ids_BS in columns)
            for b, length in enumerate(length_B)
        ]

        def encode(new: list[int]) -> list[Tensor]:
            longest = max(length_B[b] for b in new)
            some = {name: ids_BS[new, :longest] for name, ids_BS in segments.items()}
            output = self.encoder(
                input_ids=input_ids[new, :longest], attention_mask=attention_mask[new, :longest], **some
            )
            return [row[: length_B[b]] for b, row in zip(new, output.last_hidden_state, strict=True)]

        rows = self._rows(contents, input_ids.device, encode)
        states_BSH = rows[0].new_zeros(*input_ids.shape, rows[0].shape[-1])
        for b, row in enumerate(rows):
            states_BSH[b, : len(row)] = row
        return SimpleNamespace(last_hidden_state=states_BSH)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


# Of every encoder: its tensors with their addresses and numbers of writes, and the sha256 that they had.
_KNOWN: WeakKeyDictionary[nn.Module, tuple[list[tuple[Tensor, int, int]], bytes]] = WeakKeyDictionary()


def _known_fingerprint(encoder: nn.Module) -> bytes:
    """Its fingerprint; computed again when one of its tensors was replaced or written to."""
    tensors = encoder.state_dict(keep_vars=True)
    state = [(tensor, tensor.data_ptr(), tensor._version) for tensor in tensors.values()]
    known, digest = _KNOWN.get(encoder, ([], b""))
    if len(known) == len(state) and all(
        a is b and rest == more for (a, *rest), (b, *more) in zip(known, state, strict=True)
    ):
        return digest
    _KNOWN[encoder] = (state, fingerprint(encoder))
    return _KNOWN[encoder][1]
