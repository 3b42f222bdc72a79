"""How far results lie from the float64 reference, and whether they repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from kernels.bench.measure.rows import Row
from kernels.bench.measure.timing import Sample, Variant, forward_backward
from kernels.dispatch import Impl

Results = dict[str, torch.Tensor]

FP32_LIMIT = 1e-5
# Against the same-precision PyTorch path, whose own rounding is no fault of a kernel.
OUTPUT_FACTOR, GRADIENT_FACTOR = 2.0, 3.0


def named_results(variant: Variant, sample: Sample) -> Results:
    """Outputs and gradients of one step, by name."""
    results = variant.step(sample)
    outputs = len(results) - len(sample.wanted) - len(sample.parameters) if sample.directions else len(results)
    names = [f"output {k}" for k in range(outputs)] + [f"gradient of {name}" for name in sample.wanted]
    names += [f"gradient of parameter {k}" for k in range(len(sample.parameters))]
    return {name: tensor.detach() for name, tensor in zip(names, results, strict=False)}


def in_float64(sample: Sample) -> Sample:
    """The same values, as far as they are numbers, in float64."""

    def widened(value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.is_floating_point()):
            return value
        return value.detach().double().requires_grad_(value.requires_grad)

    arguments = {name: widened(value) for name, value in sample.arguments.items()}
    return Sample(arguments, tuple(direction.double() for direction in sample.directions))


def relative_errors(actual: Results, expected: Results) -> dict[str, float]:
    """Frobenius norm of each difference over that of what was expected; NaN where a result is not finite.

    A scalar's gradient is one sum of terms of both signs that may cancel: it is measured against the largest result.
    """
    norms = {name: tensor.double().norm().item() for name, tensor in expected.items()}
    largest = max(norms.values())
    errors = {}
    for name, tensor in expected.items():
        difference = (actual[name].double() - tensor.double()).norm().item()
        size = largest if name.startswith("gradient") and tensor.numel() == 1 else norms[name]
        errors[name] = difference / size if difference else 0.0
    return errors


def limits(torch_errors: Mapping[str, float], dtype: torch.dtype) -> dict[str, float]:
    """What the errors of a kernel may be, given those of the PyTorch path in the same type."""
    if dtype == torch.float32:
        return dict.fromkeys(torch_errors, FP32_LIMIT)
    rounding = torch.finfo(dtype).eps / 2
    factors = {name: GRADIENT_FACTOR if name.startswith("gradient") else OUTPUT_FACTOR for name in torch_errors}
    return {name: max(factors[name] * error, rounding) for name, error in torch_errors.items()}


def reference_of(operator: Callable[..., Any], sample: Sample, dtype: torch.dtype) -> tuple[Results, dict[str, float]]:
    """An operator's results in float64, and how far from them a kernel may lie."""

    def results(impl: Impl, sample: Sample) -> Results:
        return named_results(forward_backward(partial(operator, impl=impl)), sample)

    expected = results("reference", in_float64(sample))
    return expected, limits(relative_errors(results("torch", sample), expected), dtype)


def judged(variant: Variant, sample: Sample, expected: Results, bounds: Mapping[str, float]) -> Row:
    """What a check says of a variant: its errors, their limits, and whether they are within these."""
    with variant.context():
        errors = relative_errors(named_results(variant, sample), expected)
    return {"errors": errors, "limits": dict(bounds), "right": within(errors, bounds)}


def within(errors: Mapping[str, float], bounds: Mapping[str, float]) -> bool:
    return all(errors[name] <= bounds[name] for name in bounds)  # false for NaN


def differing(step: Callable[[], Results], runs: int) -> list[str]:
    """The results whose bits any of `runs` further runs changed."""
    first = {name: tensor.clone() for name, tensor in step().items()}
    changed: set[str] = set()
    for _ in range(runs):
        for name, tensor in step().items():
            if not bitwise_equal([tensor], [first[name]]):
                changed.add(name)
    return sorted(changed)


def bitwise_equal(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    """Equal bits, whatever they stand for."""
    return all(torch.equal(_bits(a), _bits(b)) for a, b in zip(left, right, strict=True))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)
