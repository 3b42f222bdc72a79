"""The stage's tail: parity with the float64 reference, its dropout, and its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import kernels
from kernels import philox

PATHS = ["torch", "reference"]


def inputs(*shape: int) -> tuple[torch.Tensor, ...]:
    x, residual, gate_logits = torch.randn(3, *shape).unbind(0)
    weight_D, bias_D = torch.randn(2, shape[-1]).unbind(0)
    return x, residual, gate_logits, weight_D, bias_D


@pytest.mark.parametrize("gated", [True, False], ids=["gate", "no gate"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(8,), (5, 59), (2, 3, 64), (2, 0, 16), (4, 33, 768)])
def test_parity(assert_parity: Callable[..., None], shape: tuple[int, ...], dropout_p: float, gated: bool) -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(*shape)
    options = {"dropout_p": dropout_p, "seed": 99}
    if gated:
        assert_parity(
            lambda *tensors, impl: kernels.gated_residual_norm(*tensors, **options, impl=impl),
            x,
            residual,
            gate_logits,
            weight_D,
            bias_D,
        )
    else:
        assert_parity(
            lambda x, r, w, b, impl: kernels.gated_residual_norm(x, r, None, w, b, **options, impl=impl),
            x,
            residual,
            weight_D,
            bias_D,
        )


@settings(deadline=None, derandomize=True)
@given(rows=st.integers(1, 20), width=st.integers(8, 70), dropout_p=st.floats(0, 0.9), seed=st.integers(0, 2**63 - 1))
def test_parity_over_shapes(
    assert_parity: Callable[..., None], rows: int, width: int, dropout_p: float, seed: int
) -> None:
    torch.manual_seed(seed % 1000)
    # LayerNorm of two or three values is nearly a sign, whose gradient is all cancellation: rows are wider than that,
    # and eps bounds the condition number where one has almost no variance.
    options = {"eps": 0.1, "dropout_p": dropout_p, "seed": seed}
    assert_parity(
        lambda *tensors, impl: kernels.gated_residual_norm(*tensors, **options, impl=impl), *inputs(rows, width)
    )


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_precision_rounds_only_inputs_and_results(
    assert_parity: Callable[..., None], dtype: torch.dtype, unit: float
) -> None:
    assert_parity(
        lambda *tensors, impl: kernels.gated_residual_norm(*tensors, dropout_p=0.1, seed=2, impl=impl),
        *inputs(40, 64),
        tolerance=2 * unit,
        dtype=dtype,
    )


def test_float32_weights_on_half_precision_rows() -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(40, 64)
    halves = [tensor.bfloat16() for tensor in (x, residual, gate_logits)]
    actual = kernels.gated_residual_norm(*halves, weight_D, bias_D)
    expected = kernels.gated_residual_norm(*(half.double() for half in halves), weight_D, bias_D, impl="reference")
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected.bfloat16())


@pytest.mark.parametrize("impl", PATHS)
def test_equals_layer_norm_without_gate(impl: str) -> None:
    x, residual, _, weight_D, bias_D = inputs(6, 32)
    expected = F.layer_norm(x + residual, (32,), weight_D, bias_D, 1e-3)
    actual = kernels.gated_residual_norm(x, residual, None, weight_D, bias_D, eps=1e-3, impl=impl)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("impl", PATHS)
def test_a_closed_gate_leaves_the_residual_and_an_open_one_adds_x(impl: str) -> None:
    x, residual, _, weight_D, bias_D = inputs(6, 32)
    closed = kernels.gated_residual_norm(x, residual, torch.full_like(x, -200), weight_D, bias_D, impl=impl)
    opened = kernels.gated_residual_norm(x, residual, torch.full_like(x, 200), weight_D, bias_D, impl=impl)
    torch.testing.assert_close(closed, F.layer_norm(residual, (32,), weight_D, bias_D))
    torch.testing.assert_close(opened, F.layer_norm(residual + x, (32,), weight_D, bias_D))


@pytest.mark.parametrize("impl", PATHS)
def test_dropped_elements_get_no_gradient_and_kept_ones_are_scaled(impl: str) -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(3, 7, 59)
    x.requires_grad_()
    residual.requires_grad_()
    out = kernels.gated_residual_norm(x, residual, gate_logits, weight_D, bias_D, dropout_p=0.4, seed=6, impl=impl)
    dx, dresidual = torch.autograd.grad(out.sin().sum(), (x, residual))
    keep = philox.row_keep_mask(21, 59, 0.4, 6, torch.device("cpu")).view(3, 7, 59)
    scale = 65536 / (65536 - 26214)
    torch.testing.assert_close(dx, dresidual * gate_logits.sigmoid() * keep * scale)
    assert torch.equal(dx != 0, keep)


def test_dropout_repeats_and_reads_the_seed() -> None:
    tensors = inputs(4, 16)
    first = kernels.gated_residual_norm(*tensors, dropout_p=0.5, seed=8)
    assert torch.equal(first, kernels.gated_residual_norm(*tensors, dropout_p=0.5, seed=8))
    assert torch.equal(first, kernels.gated_residual_norm(*tensors, dropout_p=0.5, seed=torch.tensor(8)))
    assert not torch.equal(first, kernels.gated_residual_norm(*tensors, dropout_p=0.5, seed=9))


def test_bad_arguments() -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(4, 16)
    with pytest.raises(ValueError, match=r"residual is .*bfloat16 .* it must be .*float32"):
        kernels.gated_residual_norm(x, residual.bfloat16(), gate_logits, weight_D, bias_D)
    with pytest.raises(ValueError, match=r"gate_logits is \(1, 16\) .* it must be \(4, 16\)"):
        kernels.gated_residual_norm(x, residual, gate_logits[:1], weight_D, bias_D)
    with pytest.raises(ValueError, match=r"dropout_p is -0\.1"):
        kernels.gated_residual_norm(x, residual, gate_logits, weight_D, bias_D, dropout_p=-0.1)


@pytest.mark.parametrize("impl", PATHS)
def test_gradcheck(impl: str) -> None:
    tensors = [tensor.double().requires_grad_() for tensor in inputs(2, 3, 5)]
    torch.autograd.gradcheck(
        lambda *tensors: kernels.gated_residual_norm(*tensors, dropout_p=0.3, seed=1, impl=impl), tensors
    )


def test_traces_in_one_graph() -> None:
    tensors = inputs(2, 3, 20)

    def operator(seed: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return kernels.gated_residual_norm(*tensors, dropout_p=0.3, seed=seed)

    traced = torch.compile(operator, fullgraph=True, backend="eager")
    for seed in (torch.tensor(3), torch.tensor(4)):
        assert torch.equal(traced(seed, *tensors), operator(seed, *tensors))
