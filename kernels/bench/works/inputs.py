"""Random inputs of the operators, at the shapes that the model has or, in a rehearsal, at tiny ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from kernels.bench.measure.devices import Device
from kernels.bench.measure.timing import Sample

DROPOUT = 0.1
AttentionShape = tuple[int, int, int, int, int]  # B, H, Lq, Lk, D


def generator(device: Device, seed: int) -> torch.Generator:
    return torch.Generator(device.name).manual_seed(seed)


def normal(device: Device, shape: Sequence[int], source: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=source, device=device.name, dtype=dtype)


def random_mask(device: Device, rows: int, length: int, source: torch.Generator) -> torch.Tensor:
    """(rows, length) bool with a tenth masked, the first never."""
    mask = torch.rand(rows, length, generator=source, device=device.name) > 0.1
    mask[:, 0] = True
    return mask


def attention(
    device: Device,
    shape: AttentionShape,
    dtype: torch.dtype,
    seed: int,
    *,
    guided: bool,
    dropout_p: float = 0.0,
    backward: bool = True,
) -> Sample:
    """Heads as views of what projections yield, with a key mask; guided: with a bias, the mass and a query mask too."""
    B, H, Lq, Lk, D = shape
    source = generator(device, seed)

    def heads(length: int) -> torch.Tensor:
        return normal(device, (B, length, H, D), source, dtype).transpose(1, 2)

    arguments = {"q": heads(Lq), "k": heads(Lk), "v": heads(Lk)}
    directions = [heads(Lq)]
    if guided:
        arguments["key_bias"] = normal(device, (B, Lk), source, torch.float32)
        directions.append(normal(device, (B, Lk), source, torch.float32))
    if backward:
        for tensor in arguments.values():
            tensor.requires_grad_()
    constants: dict[str, object] = {"key_mask": random_mask(device, B, Lk, source)}
    if guided:
        constants |= {"query_mask": random_mask(device, B, Lq, source), "return_mass": True}
    if dropout_p:
        constants["dropout_p"] = dropout_p
    return Sample({**arguments, **constants}, tuple(directions) if backward else ())


def norm(
    device: Device, shape: Sequence[int], dtype: torch.dtype, seed: int, *, gated: bool, dropout_p: float
) -> Sample:
    source = generator(device, seed)
    names = ("x", "residual", "gate_logits") if gated else ("x", "residual")
    arguments: dict[str, object] = {name: normal(device, shape, source, dtype).requires_grad_() for name in names}
    arguments["weight"] = (1 + 0.1 * normal(device, shape[-1:], source, dtype)).requires_grad_()
    arguments["bias"] = normal(device, shape[-1:], source, dtype).requires_grad_()
    if not gated:
        arguments["gate_logits"] = None
    return Sample(arguments | {"dropout_p": dropout_p}, (normal(device, shape, source, dtype),))


def pairs(device: Device, shape: Sequence[int], dtype: torch.dtype, seed: int, scale: float = 14.0) -> Sample:
    """Unit vectors a and b (..., N, D), b leaning towards a as it does in training, and a learned scale."""
    source = generator(device, seed)
    a = normal(device, shape, source, torch.float32)
    b = 0.3 * a + normal(device, shape, source, torch.float32)
    arguments = {name: F.normalize(x, dim=-1).to(dtype).requires_grad_() for name, x in (("a", a), ("b", b))}
    arguments["scale"] = torch.full((), scale, device=device.name, requires_grad=True)
    return Sample(dict(arguments), (torch.ones((), device=device.name),))


def groups(device: Device, shape: tuple[int, int, int], dtype: torch.dtype, seed: int) -> Sample:
    """G groups of N pairs, a tenth of them masked."""
    sample = pairs(device, shape, dtype, seed)
    mask = random_mask(device, shape[0], shape[1], generator(device, seed + 1))
    mask[:, :2] = True
    return Sample({**sample.arguments, "mask": mask}, sample.directions)
