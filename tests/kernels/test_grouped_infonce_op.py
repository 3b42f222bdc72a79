"""The grouped contrast in Triton: parity, which groups and rows take part, and what torch knows of it.

Interpreted on a CPU, compiled where there is a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("triton")

import kernels
from kernels import grouped_infonce_op

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROWS = [1, 2, 63, 65, 128]
WIDTHS = [1, 16, 123, 128, 384, 768]


def units(groups: int, rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    a_GND, b_GND = F.normalize(torch.randn(2, groups, rows, width), dim=-1).to(DEVICE).unbind(0)
    return a_GND, b_GND


def contrast(a: torch.Tensor, b: torch.Tensor, scale: Any, impl: str = "triton", **options: Any) -> torch.Tensor:
    return kernels.grouped_info_nce(a, b, scale, impl=impl, **options)


def selection(groups: int, rows: int) -> dict[str, torch.Tensor]:
    """Masks from nearly empty to full, and weights of which some are zero."""
    mask_GN = torch.rand(groups, rows) < torch.rand(groups, 1) * 1.3
    return {
        "mask": mask_GN.to(DEVICE),
        "weights": (torch.rand(groups, rows) * (torch.rand(groups, rows) > 0.3)).to(DEVICE),
    }


def check_parity(assert_parity: Callable[..., None], rows: int, width: int, chosen: bool) -> None:
    options = selection(3, rows) if chosen else {}
    scale = torch.tensor([4.0]).to(DEVICE)
    assert_parity(
        lambda a, b, s, impl: contrast(a, b, s, impl, **options), *units(3, rows, width), scale, impl="triton"
    )


@pytest.mark.parametrize("k", range(6))
def test_parity(assert_parity: Callable[..., None], k: int) -> None:
    """Every number of rows and every width; the rest of the grid is slow."""
    check_parity(assert_parity, ROWS[k % 5], WIDTHS[k], chosen=False)
    check_parity(assert_parity, ROWS[(k + 2) % 5], WIDTHS[k], chosen=True)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [False, True], ids=["all", "mask and weights"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", ROWS)
def test_parity_over_the_whole_grid(assert_parity: Callable[..., None], rows: int, width: int, chosen: bool) -> None:
    check_parity(assert_parity, rows, width, chosen)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(
    groups=st.integers(1, 4), rows=st.integers(1, 40), width=st.integers(1, 70), masked=st.booleans(),
    weighted=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_parity_over_shapes(
    assert_parity: Callable[..., None], groups: int, rows: int, width: int, masked: bool, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    chosen = selection(groups, rows)
    options = {name: chosen[name] for name, on in (("mask", masked), ("weights", weighted)) if on}
    assert_parity(
        lambda a, b, s, impl: contrast(a, b, s, impl, **options),
        *torch.randn(2, groups, rows, width).to(DEVICE).unbind(0),
        torch.tensor(0.7).to(DEVICE),
        impl="triton",
    )


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)])
@pytest.mark.parametrize("rows", [33, 100])
def test_sixteen_bits_are_as_accurate_as_the_torch_path(
    assert_as_accurate_as_torch: Callable[..., None], rows: int, dtype: torch.dtype
) -> None:
    options = selection(2, rows)
    assert_as_accurate_as_torch(
        lambda a, b, impl: contrast(a, b, 10.0, impl, **options), *units(2, rows, 128), dtype=dtype
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_masked_rows_leak_nowhere(bad: float) -> None:
    a_GND, b_GND = units(3, 40, 24)
    mask_GN = selection(3, 40)["mask"]
    mask_GN[2] = False
    results = []
    for filling in (0.0, bad):
        leaves = [torch.where(mask_GN[..., None], x, filling).requires_grad_() for x in (a_GND, b_GND)]
        scale = torch.tensor(4.0, device=DEVICE, requires_grad=True)
        loss = contrast(*leaves, scale, mask=mask_GN)
        gradients = torch.autograd.grad(loss, [*leaves, scale])
        assert all((gradient[~mask_GN] == 0).all() for gradient in gradients[:2])
        results.append([loss, *gradients])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


@pytest.mark.parametrize("kept", [0, 1])
def test_without_a_group_of_two_rows_the_loss_and_its_gradients_are_zero(kept: int) -> None:
    a_GND, b_GND = (x.requires_grad_() for x in units(2, 10, 8))
    mask_GN = (torch.arange(10, device=DEVICE) < kept).expand(2, 10)
    loss = contrast(a_GND, b_GND, 4.0, mask=mask_GN)
    assert loss.item() == 0.0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, [a_GND, b_GND]))


def test_groups_without_weight_take_no_part() -> None:
    a_GND, b_GND = units(3, 10, 8)
    weights_GN = torch.ones(3, 10, device=DEVICE)
    weights_GN[1] = 0.0
    kept = torch.tensor([0, 2], device=DEVICE)
    loss, expected = contrast(a_GND, b_GND, 4.0, weights=weights_GN), contrast(a_GND[kept], b_GND[kept], 4.0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(contrast(a_GND, b_GND, 4.0, weights=7 * weights_GN), loss)  # relative to their sum


def test_equal_rows_give_the_logarithm_of_their_number() -> None:
    a_GND = torch.ones(2, 37, 16, device=DEVICE) / 4
    torch.testing.assert_close(contrast(a_GND, a_GND, 3.0).item(), math.log(37))


def test_extreme_scales_stay_finite_in_float16() -> None:
    a_GND, _ = units(2, 20, 32)
    leaves = [x.half().requires_grad_() for x in (a_GND, -a_GND)]  # cosines of -1 on the diagonal
    scale = torch.tensor(100.0, device=DEVICE, requires_grad=True)
    loss = contrast(*leaves, scale)
    gradients = torch.autograd.grad(loss, [*leaves, scale])
    assert loss.isfinite()
    assert loss > 100
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_swapping_the_sides_and_permuting_rows_or_groups_changes_nothing() -> None:
    a_GND, b_GND = units(3, 33, 24)
    loss = contrast(a_GND, b_GND, 4.0)
    rows, groups = torch.randperm(33).to(DEVICE), torch.randperm(3).to(DEVICE)
    for other in ((b_GND, a_GND), (a_GND[:, rows], b_GND[:, rows]), (a_GND[groups], b_GND[groups])):
        torch.testing.assert_close(contrast(*other, 4.0), loss)


def test_any_strides_and_repeated_calls_give_the_same_bits() -> None:
    a_GND, b_GND = units(3, 33, 24)
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (a_GND, b_GND)]
    wide = torch.zeros(3, 33, 48, device=DEVICE)
    wide[..., ::2] = b_GND
    results = []
    for pair in ((a_GND, b_GND), (a_GND, b_GND), strided, (a_GND, wide[..., ::2])):
        leaves = [x.detach().requires_grad_() for x in pair]
        scale = torch.tensor(4.0, device=DEVICE, requires_grad=True)
        loss = contrast(*leaves, scale)
        results.append([loss, *torch.autograd.grad(loss, [*leaves, scale])])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_torch_accepts_the_operators() -> None:
    a_GND, b_GND = units(2, 7, 12)
    scale, chosen = torch.tensor(4.0, device=DEVICE), selection(2, 7)
    loss, *saved = grouped_infonce_op._forward_op(a_GND, b_GND, scale, chosen["mask"], chosen["weights"])
    torch.library.opcheck(grouped_infonce_op._backward_op, (torch.ones_like(loss), a_GND, b_GND, scale, *saved))
    leaves = [x.clone().requires_grad_() for x in (a_GND, b_GND, scale)]
    torch.library.opcheck(grouped_infonce_op._forward_op, (*leaves, chosen["mask"], chosen["weights"]))


def test_it_traces_in_one_graph_and_counts_its_products() -> None:
    tensors = (*units(2, 20, 16), torch.tensor(4.0, device=DEVICE))
    results = []
    for function in (contrast, torch.compile(contrast, fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in tensors]
        results.append(torch.autograd.grad(function(*leaves), leaves))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    leaves = [x.clone().requires_grad_() for x in tensors]
    with FlopCounterMode(display=False) as counter:
        contrast(*leaves).backward()
    assert counter.get_total_flops() == (1 + 3) * 2 * 2 * 20 * 20 * 16


def test_larger_groups_are_an_error_and_auto_takes_them_elsewhere() -> None:
    a_GND, b_GND = units(1, 129, 8)
    with pytest.raises(RuntimeError, match=r"groups of 129 rows are above 128"):
        contrast(a_GND, b_GND, 4.0)
    assert contrast(a_GND, b_GND, 4.0, impl="auto") > 0
