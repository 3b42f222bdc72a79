"""The loss over many small groups: parity with the float64 reference, and which groups and rows take part."""

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


def groups(count: int, rows: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    a_GND, b_GND = F.normalize(torch.randn(2, count, rows, width), dim=-1).unbind(0)
    return a_GND, b_GND


@settings(deadline=None, derandomize=True)
@given(
    count=st.integers(1, 5),
    rows=st.integers(2, 20),
    width=st.integers(1, 20),
    masked=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_parity(
    assert_parity: Callable[..., None], count: int, rows: int, width: int, masked: bool, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    a_GND, b_GND = torch.randn(2, count, rows, width).unbind(0)
    mask_GN = torch.rand(count, rows) < torch.rand(count, 1) * 1.3 if masked else None
    weights_GN = torch.rand(count, rows) * (torch.rand(count, rows) > 0.3) if weighted else None
    assert_parity(
        lambda a, b, scale, impl: kernels.grouped_info_nce(a, b, scale, mask=mask_GN, weights=weights_GN, impl=impl),
        a_GND,
        b_GND,
        torch.tensor([0.7]),
    )


@pytest.mark.parametrize("impl", PATHS)
def test_is_the_mean_of_info_nce_over_the_groups_with_two_rows(impl: str) -> None:
    a_GND, b_GND = groups(5, 8)
    mask_GN = torch.rand(5, 8) < 0.7
    mask_GN[1], mask_GN[3] = False, False
    mask_GN[3, 2] = True
    expected = [kernels.info_nce(a_GND[g, mask_GN[g]], b_GND[g, mask_GN[g]], 5.0, impl=impl) for g in (0, 2, 4)]
    loss = kernels.grouped_info_nce(a_GND, b_GND, 5.0, mask=mask_GN, impl=impl)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


@pytest.mark.parametrize("impl", PATHS)
def test_weights_count_relative_to_their_groups_sum(impl: str) -> None:
    a_GND, b_GND = groups(3, 6)
    mask_GN = torch.arange(6).expand(3, -1) < 5
    weights_GN = torch.rand(3, 6)
    logits_GNN = 5 * (a_GND @ b_GND.mT)[:, :5, :5]
    target_GN = torch.arange(5).expand(3, -1)
    rows_GN = F.cross_entropy(logits_GNN.mT, target_GN, reduction="none")
    columns_GN = F.cross_entropy(logits_GNN, target_GN, reduction="none")
    share_GN = weights_GN[:, :5] / weights_GN[:, :5].sum(dim=1, keepdim=True)
    expected = (share_GN * (rows_GN + columns_GN) / 2).sum(dim=1).mean()
    arguments = {"mask": mask_GN, "impl": impl}
    loss = kernels.grouped_info_nce(a_GND, b_GND, 5.0, weights=weights_GN, **arguments)
    torch.testing.assert_close(loss, expected)
    rescaled_GN = weights_GN * torch.tensor([[1.0], [7.0], [0.01]])
    torch.testing.assert_close(kernels.grouped_info_nce(a_GND, b_GND, 5.0, weights=rescaled_GN, **arguments), loss)


@pytest.mark.parametrize("impl", PATHS)
def test_a_row_of_no_weight_is_still_a_negative(impl: str) -> None:
    a_GND, b_GND = groups(1, 6)
    weights_GN = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    present = kernels.grouped_info_nce(a_GND, b_GND, 5.0, weights=weights_GN, impl=impl)
    absent = kernels.grouped_info_nce(a_GND, b_GND, 5.0, mask=weights_GN > 0, impl=impl)
    assert present > absent + 1e-3


@pytest.mark.parametrize("impl", PATHS)
def test_groups_without_weight_take_no_part(impl: str) -> None:
    a_GND, b_GND = groups(3, 6)
    a_GND.requires_grad_()
    mask_GN = torch.ones(3, 6, dtype=torch.bool)
    weights_GN = torch.ones(3, 6)
    mask_GN[2, :3], weights_GN[2, 3:] = False, 0.0
    loss = kernels.grouped_info_nce(a_GND, b_GND, 5.0, mask=mask_GN, weights=weights_GN, impl=impl)
    torch.testing.assert_close(loss, kernels.grouped_info_nce(a_GND[:2], b_GND[:2], 5.0, impl=impl))
    loss.backward()
    assert (a_GND.grad[2] == 0).all()
    assert (a_GND.grad[:2] != 0).all()


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("mask", ["none", "one each", "no weight"])
def test_no_group_takes_part(impl: str, mask: str) -> None:
    leaves = [*groups(3, 6), torch.tensor(30.0)]
    for leaf in leaves:
        leaf.requires_grad_()
    mask_GN = torch.zeros(3, 6, dtype=torch.bool)
    mask_GN[:, 1] = mask == "one each"
    options = {"weights": torch.zeros(3, 6)} if mask == "no weight" else {"mask": mask_GN}
    loss = kernels.grouped_info_nce(*leaves, **options, impl=impl)
    loss.backward()
    assert loss.item() == 0
    assert loss.shape == ()
    assert all(leaf.grad is not None and (leaf.grad == 0).all() for leaf in leaves)


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("shape", [(3, 1), (0, 6), (3, 0)])
def test_groups_of_one_row_and_no_groups(impl: str, shape: tuple[int, int]) -> None:
    leaves = [tensor.requires_grad_() for tensor in groups(*shape)]
    loss = kernels.grouped_info_nce(*leaves, 4.0, impl=impl)
    loss.backward()
    assert loss.item() == 0
    assert all((leaf.grad == 0).all() for leaf in leaves)


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("rubbish", [math.nan, math.inf])
def test_masked_rows_leak_nowhere(impl: str, rubbish: float) -> None:
    a_GND, b_GND = groups(4, 6)
    mask_GN = torch.rand(4, 6) < 0.6
    mask_GN[3] = False

    def run(fill: float) -> list[torch.Tensor]:
        leaves = [a_GND.clone(), b_GND.clone(), torch.tensor(5.0)]
        weights_GN = torch.arange(1.0, 25.0).view(4, 6)
        leaves[0][~mask_GN], leaves[1][~mask_GN], weights_GN[~mask_GN] = fill, -fill, fill
        for leaf in leaves:
            leaf.requires_grad_()
        loss = kernels.grouped_info_nce(*leaves, mask=mask_GN, weights=weights_GN, impl=impl)
        loss.backward()
        return [loss, *(leaf.grad for leaf in leaves)]

    for clean, dirty in zip(run(0.0), run(rubbish), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, dirty)
    for grad in run(rubbish)[1:3]:
        assert (grad[~mask_GN] == 0).all()


@pytest.mark.parametrize("impl", PATHS)
def test_symmetries_and_uniform_logits(impl: str) -> None:
    a_GND, b_GND = (tensor.double() for tensor in groups(3, 7))
    mask_GN, rows, order = torch.rand(3, 7) < 0.8, torch.randperm(7), torch.tensor([2, 0, 1])
    loss = kernels.grouped_info_nce(a_GND, b_GND, 4.0, mask=mask_GN, impl=impl)
    torch.testing.assert_close(kernels.grouped_info_nce(b_GND, a_GND, 4.0, mask=mask_GN, impl=impl), loss)
    moved = [tensor[order][:, rows] for tensor in (a_GND, b_GND, mask_GN)]
    torch.testing.assert_close(kernels.grouped_info_nce(*moved[:2], 4.0, mask=moved[2], impl=impl), loss)
    uniform = kernels.grouped_info_nce(a_GND, b_GND, 0.0, impl=impl)
    torch.testing.assert_close(uniform, torch.tensor(math.log(7), dtype=torch.float64))


@pytest.mark.parametrize("impl", PATHS)
def test_weights_are_constants(impl: str) -> None:
    weights_GN = torch.rand(3, 6, requires_grad=True)
    a_GND, b_GND = groups(3, 6)
    a_GND.requires_grad_()
    kernels.grouped_info_nce(a_GND, b_GND, 4.0, weights=weights_GN, impl=impl).backward()
    assert weights_GN.grad is None


@pytest.mark.parametrize("impl", PATHS)
def test_gradcheck(impl: str) -> None:
    leaves = [*(tensor.double() for tensor in groups(3, 4, 2)), torch.tensor(3.0, dtype=torch.float64)]
    mask_GN = torch.tensor([[True] * 4, [True, False, True, True], [True, False, False, False]])
    weights_GN = torch.rand(3, 4, dtype=torch.float64)
    for leaf in leaves:
        leaf.requires_grad_()
    torch.autograd.gradcheck(
        lambda *tensors: kernels.grouped_info_nce(*tensors, mask=mask_GN, weights=weights_GN, impl=impl), leaves
    )


def test_traces_in_one_graph() -> None:
    def operator(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        masked = kernels.grouped_info_nce(a, b, torch.ones(()), mask=mask, weights=weights)
        return kernels.grouped_info_nce(a, b, 2.0) + masked

    arguments = (*groups(3, 6), torch.rand(3, 6) < 0.7, torch.rand(3, 6))
    assert torch.equal(torch.compile(operator, fullgraph=True, backend="eager")(*arguments), operator(*arguments))
