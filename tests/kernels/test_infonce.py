"""The symmetric loss over one batch: parity with the float64 reference, its symmetries and its limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import kernels

PATHS = ["torch", "reference"]


def pairs(count: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    a_ND, b_ND = F.normalize(torch.randn(2, count, width), dim=-1).unbind(0)
    return a_ND, b_ND


@settings(deadline=None, derandomize=True)
@given(
    count=st.integers(2, 40),
    width=st.integers(1, 20),
    share=st.sampled_from([None, 0.0, 0.3, 0.8, 1.0]),
    seed=st.integers(0, 99),
)
def test_parity(assert_parity: Callable[..., None], count: int, width: int, share: float | None, seed: int) -> None:
    torch.manual_seed(seed)
    a_ND, b_ND = torch.randn(2, count, width).unbind(0)
    mask_N = None if share is None else torch.rand(count) < share
    assert_parity(
        lambda a, b, scale, impl: kernels.info_nce(a, b, scale, row_mask=mask_N, impl=impl),
        a_ND,
        b_ND,
        torch.tensor([0.7]),
    )


@pytest.mark.parametrize("impl", PATHS)
def test_equals_two_cross_entropies(impl: str) -> None:
    a_ND, b_ND = pairs(20)
    logits_NN, diagonal_N = 7 * a_ND @ b_ND.T, torch.arange(20)
    expected = (F.cross_entropy(logits_NN, diagonal_N) + F.cross_entropy(logits_NN.T, diagonal_N)) / 2
    torch.testing.assert_close(kernels.info_nce(a_ND, b_ND, 7.0, impl=impl), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_have_float32_logits(dtype: torch.dtype) -> None:
    a_ND, b_ND = (tensor.to(dtype) for tensor in pairs(64))
    expected = kernels.info_nce(a_ND.double(), b_ND.double(), 100.0, impl="reference")
    torch.testing.assert_close(kernels.info_nce(a_ND, b_ND, 100.0).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("count", [2, 17])
def test_uniform_logits_give_log_n(impl: str, count: int) -> None:
    a_ND, b_ND = pairs(count)
    loss = kernels.info_nce(a_ND, b_ND, 0.0, impl=impl)
    torch.testing.assert_close(loss, torch.tensor(math.log(count)))
    half_N = torch.arange(count) < (count + 1) // 2 + 1
    loss = kernels.info_nce(a_ND, b_ND, 0.0, row_mask=half_N, impl=impl)
    torch.testing.assert_close(loss, torch.tensor(math.log(half_N.sum())))


@pytest.mark.parametrize("impl", PATHS)
def test_symmetries(impl: str) -> None:
    a_ND, b_ND = (tensor.double() for tensor in pairs(20))
    mask_N, order = torch.rand(20) < 0.7, torch.randperm(20)
    loss = kernels.info_nce(a_ND, b_ND, 4.0, row_mask=mask_N, impl=impl)
    torch.testing.assert_close(kernels.info_nce(b_ND, a_ND, 4.0, row_mask=mask_N, impl=impl), loss)
    permuted = kernels.info_nce(a_ND[order], b_ND[order], 4.0, row_mask=mask_N[order], impl=impl)
    torch.testing.assert_close(permuted, loss)
    assert abs(kernels.info_nce(a_ND[order], b_ND, 4.0, impl=impl) - loss) > 0.1


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, 1e30])
def test_dropped_pairs_are_as_if_absent(impl: str, rubbish: float) -> None:
    a_ND, b_ND = pairs(20)
    mask_N = torch.rand(20) < 0.6
    expected = [tensor[mask_N].clone().requires_grad_() for tensor in (a_ND, b_ND)]
    expected_loss = kernels.info_nce(*expected, 5.0, impl=impl)
    expected_loss.backward()
    a_ND[~mask_N], b_ND[~mask_N] = rubbish, -rubbish
    leaves = [a_ND.requires_grad_(), b_ND.requires_grad_()]
    loss = kernels.info_nce(*leaves, 5.0, row_mask=mask_N, impl=impl)
    loss.backward()
    torch.testing.assert_close(loss, expected_loss)
    for leaf, wanted in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad[mask_N], wanted.grad)
        assert (leaf.grad[~mask_N] == 0).all()


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("mask", [None, [False] * 5, [False, True, False, False, False]])
def test_one_pair_or_none_is_no_loss(impl: str, mask: list[bool] | None) -> None:
    count = 1 if mask is None else 5
    leaves = [*pairs(count), torch.tensor(30.0)]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = kernels.info_nce(*leaves, row_mask=None if mask is None else torch.tensor(mask), impl=impl)
    assert loss.item() == 0
    assert loss.shape == ()
    loss.backward()
    assert all(leaf.grad is not None and (leaf.grad == 0).all() for leaf in leaves)


@pytest.mark.parametrize("impl", PATHS)
def test_no_rows_at_all(impl: str) -> None:
    a_ND = torch.empty(0, 16, requires_grad=True)
    loss = kernels.info_nce(a_ND, a_ND, 3.0, impl=impl)
    loss.backward()
    assert loss.item() == 0
    assert a_ND.grad.shape == (0, 16)


@pytest.mark.parametrize("impl", PATHS)
def test_scale_may_be_a_float_or_a_tensor(impl: str) -> None:
    a_ND, b_ND = pairs(9)
    for shape in ((), (1,), (1, 1, 1)):
        scale = torch.full(shape, 6.0, requires_grad=True)
        loss = kernels.info_nce(a_ND, b_ND, scale, impl=impl)
        assert loss.shape == ()
        torch.testing.assert_close(loss, kernels.info_nce(a_ND, b_ND, 6.0, impl=impl))
        loss.backward()
        nudged = [kernels.info_nce(a_ND.double(), b_ND.double(), 6.0 + step, impl=impl) for step in (1e-4, -1e-4)]
        torch.testing.assert_close(scale.grad.reshape(()).double(), (nudged[0] - nudged[1]) / 2e-4, rtol=1e-5, atol=0)


@pytest.mark.parametrize("impl", PATHS)
def test_gradcheck(impl: str) -> None:
    leaves = [*(tensor.double() for tensor in pairs(5, 3)), torch.tensor(3.0, dtype=torch.float64)]
    mask_N = torch.tensor([True, False, True, True, True])
    for leaf in leaves:
        leaf.requires_grad_()
    for mask in (None, mask_N):
        torch.autograd.gradcheck(
            lambda *tensors, mask=mask: kernels.info_nce(*tensors, row_mask=mask, impl=impl), leaves
        )


def test_the_inputs_are_left_as_they_were() -> None:
    a_ND, b_ND = pairs(9)
    copies = a_ND.clone(), b_ND.clone()
    kernels.info_nce(a_ND, b_ND, 1.0, row_mask=torch.arange(9) < 4)
    assert torch.equal(a_ND, copies[0])
    assert torch.equal(b_ND, copies[1])


def test_traces_in_one_graph() -> None:
    def operator(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return kernels.info_nce(a, b, scale) + kernels.info_nce(a, b, 2.0, row_mask=mask)

    arguments = (*pairs(9), torch.tensor([3.0]), torch.arange(9) < 5)
    assert torch.equal(torch.compile(operator, fullgraph=True, backend="eager")(*arguments), operator(*arguments))
