"""One way to compare an implementation, forward and backward, with the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

Operator = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]


def relative_errors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """Frobenius norm of each difference over that of the expected tensor.

    What cancels to nothing in the reference (queries get no gradient from a single key) leaves a rounding error in
    float32 that has no size of its own to compare with, and so may a scalar's gradient, one sum of terms of both signs:
    these are measured against the largest expected tensor.
    """
    norms = {name: tensor.double().norm().item() for name, tensor in expected.items()}
    largest = max(norms.values())
    errors = {}
    for name, norm in norms.items():
        difference = (actual[name].double() - expected[name].double()).norm().item()
        may_cancel = norm < 1e-12 * largest or (name.startswith("gradient") and expected[name].numel() == 1)
        size = largest if may_cancel else norm
        errors[name] = difference / size if difference else 0.0
    return errors


def outputs_and_gradients(
    operator: Operator, tensors: Sequence[torch.Tensor], dtype: torch.dtype, impl: str
) -> dict[str, torch.Tensor]:
    """Run on copies of `tensors`, go back from a fixed random direction, and name everything that came out."""
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors]
    outputs = operator(*leaves, impl=impl)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(7)
    objective = sum(
        (output.double() * torch.randn(output.shape, generator=generator).to(output.device)).sum() for output in outputs
    )
    objective.backward()
    named = {f"output {index}": output.detach() for index, output in enumerate(outputs)}
    return named | {f"gradient {index}": leaf.grad for index, leaf in enumerate(leaves) if leaf.grad is not None}


def _assert_parity(
    operator: Operator,
    *tensors: torch.Tensor,
    tolerance: float = 1e-5,
    dtype: torch.dtype = torch.float32,
    impl: str = "torch",
) -> None:
    rounded = [tensor.to(dtype) for tensor in tensors]
    actual = outputs_and_gradients(operator, rounded, dtype, impl)
    expected = outputs_and_gradients(operator, rounded, torch.float64, "reference")
    assert actual.keys() == expected.keys()
    errors = relative_errors(actual, expected)
    assert all(error <= tolerance for error in errors.values()), errors


@pytest.fixture(scope="session")
def assert_parity() -> Callable[..., None]:
    """assert_parity(operator, *tensors): `impl` agrees with the float64 reference in outputs and gradients."""
    return _assert_parity


def _assert_as_accurate_as_torch(operator: Operator, *tensors: torch.Tensor, dtype: torch.dtype) -> None:
    rounded = [tensor.to(dtype) for tensor in tensors]
    expected = outputs_and_gradients(operator, rounded, torch.float64, "reference")
    actual = outputs_and_gradients(operator, rounded, dtype, "triton")
    torch_path = outputs_and_gradients(operator, rounded, dtype, "torch")
    assert actual.keys() == torch_path.keys() == expected.keys()
    errors, allowed = relative_errors(actual, expected), relative_errors(torch_path, expected)
    for name, error in errors.items():
        # The typical rounding of what is compared: no less, for the torch path may be right by chance.
        rounding = torch.finfo(actual[name].dtype).eps / 4
        factor = 3 if name.startswith("gradient") else 2
        assert error <= factor * max(allowed[name], rounding, 1e-6), (name, errors, allowed)


@pytest.fixture(scope="session")
def assert_as_accurate_as_torch() -> Callable[..., None]:
    """assert_as_accurate_as_torch(operator, *tensors, dtype=): the rule for 16-bit inputs.

    Triton's distance to the float64 reference is at most twice the torch path's in outputs, and three times in
    gradients.
    """
    return _assert_as_accurate_as_torch
