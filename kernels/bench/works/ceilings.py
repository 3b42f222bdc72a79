"""What the machine can do at best, measured in the same run: a copy and a matrix product."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.bench.measure.devices import Device
from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import Sample, compare, forward_backward
from kernels.bench.works import inputs

COPY = "ceiling, copy"
PRODUCT = "ceiling, matrix product"


def rows(device: Device) -> Iterator[Row]:
    """`rate`: bytes read and written, or floating-point operations, a second."""
    source = inputs.generator(device, 0)
    size = 64 if device.rehearses else 8192
    a, b = (inputs.normal(device, (size, size), source, device.dtype) for _ in range(2))
    elements = size * size * (1 if device.rehearses else 16)
    origin = inputs.normal(device, (elements,), source, device.dtype)
    target = torch.empty_like(origin)
    works = {
        COPY: (Sample({"target": target, "origin": origin}), torch.Tensor.copy_, 2 * origin.nbytes),
        PRODUCT: (Sample({"a": a, "b": b}), torch.mm, 2 * size**3),
    }
    for work, (sample, function, amount) in works.items():

        def forward(*, f=function, **arguments: torch.Tensor) -> torch.Tensor:
            return f(*arguments.values())

        for row in compare(device, {"work": work}, {"torch": forward_backward(forward)}, [sample], launches=("eager",)):
            yield row | ({"rate": amount / (1e-3 * row["ms"]["p50"])} if "ms" in row else {})
