"""Everything a run needs to continue bit for bit, in one safetensors file that is replaced atomically."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clamp.system.files import written

CHECKPOINT = "checkpoint.safetensors"  # its name in a run's folder


def write_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, course: dict[str, Any]) -> None:
    """Model, optimiser state, every random generator, and `course` (JSON-ready). A failed write leaves the old file."""
    tensors: dict[str, Tensor] = {f"model/{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    tensors["rng/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    tensors["rng/numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    metadata = {
        "course": json.dumps(course),
        "python": json.dumps(random.getstate()),
        "numpy": json.dumps([kind, position, has_gauss, cached]),
    }
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)
    with written(file) as stream:
        stream.write(content)


def read_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put everything back where `write_checkpoint` took it from; returns the course."""
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    model.load_state_dict({name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    torch.set_rng_state(tensors["rng/torch"])
    if "rng/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    version, internal, gauss = json.loads(metadata["python"])
    random.setstate((version, tuple(internal), gauss))
    kind, position, has_gauss, cached = json.loads(metadata["numpy"])
    np.random.set_state((kind, tensors["rng/numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    return json.loads(metadata["course"])
