"""The loss over many small groups in Triton: parity, what takes part, and what torch knows of it.

Interpreted on a CPU, compiled where there is a GPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("triton")

import kernels
from kernels.grouped_infonce import kernels as kernel_module
from kernels.grouped_infonce import op
from kernels.launch import launch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def groups(count: int, rows: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of unit rows."""
    a_GND, b_GND = F.normalize(torch.randn(2, count, rows, width), dim=-1).to(DEVICE).unbind(0)
    return a_GND, b_GND


def pairs(
    count: int, rows: int, masked: bool = True, weighted: bool = True
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A random mask and random weights, some of them 0; the first group takes part, the last has one pair at most."""
    mask_GN = torch.rand(count, rows) < 0.8
    mask_GN[0, :2] = True
    weights_GN = torch.rand(count, rows) * (torch.rand(count, rows) > 0.2)
    weights_GN[0, 0] = 1.0
    if count > 1:
        mask_GN[-1, 1:] = False
    return (mask_GN.to(DEVICE) if masked else None, weights_GN.to(DEVICE) if weighted else None)


def scale_of(value: float) -> torch.Tensor:
    return torch.tensor([value], device=DEVICE)


def gradients(*tensors: torch.Tensor, impl: str = "triton", **options: object) -> list[torch.Tensor]:
    """The loss, and the gradients of three times it."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    loss = kernels.grouped_info_nce(*leaves, impl=impl, **options)
    return [loss.detach(), *torch.autograd.grad(3 * loss, leaves)]


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize(
    ("rows", "width"), [(2, 1), (2, 128), (5, 16), (63, 123), (65, 40), (128, 16), (17, 384), (9, 768)]
)
@pytest.mark.parametrize("features", ["plain", "mask and weights"])
def test_parity(assert_parity: Callable[..., None], rows: int, width: int, features: str) -> None:
    mask_GN, weights_GN = pairs(3, rows) if features != "plain" else (None, None)
    assert_parity(
        lambda *tensors, impl: kernels.grouped_info_nce(*tensors, mask=mask_GN, weights=weights_GN, impl=impl),
        *(torch.randn(2, 3, rows, width) / width**0.25).to(DEVICE).unbind(0),
        scale_of(0.9),
        impl="triton",
    )


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    count=st.integers(1, 4),
    rows=st.integers(2, 40),
    width=st.integers(1, 70),
    masked=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_parity_over_shapes(
    assert_parity: Callable[..., None], count: int, rows: int, width: int, masked: bool, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    mask_GN, weights_GN = pairs(count, rows, masked, weighted)
    assert_parity(
        lambda *tensors, impl: kernels.grouped_info_nce(*tensors, mask=mask_GN, weights=weights_GN, impl=impl),
        *torch.randn(2, count, rows, width).to(DEVICE).unbind(0),
        scale_of(0.7),
        impl="triton",
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 33, 63, 64, 65, 127, 128])
def test_parity_over_a_grid(
    assert_parity: Callable[..., None],
    assert_as_accurate_as_torch: Callable[..., None],
    rows: int,
    dtype: torch.dtype,
) -> None:
    for width, featured in itertools.product((1, 16, 123, 128, 384, 768), (False, True)):
        mask_GN, weights_GN = pairs(2, max(rows, 2), featured, featured)
        options = {
            "mask": None if mask_GN is None else mask_GN[:, :rows],
            "weights": None if weights_GN is None else weights_GN[:, :rows],
        }

        def operator(*tensors: torch.Tensor, impl: str, options: dict = options) -> torch.Tensor:
            return kernels.grouped_info_nce(*tensors, **options, impl=impl)

        tensors = (*groups(2, rows, width), scale_of(14.0))
        if dtype == torch.float32:
            assert_parity(operator, *tensors, impl="triton")
        else:
            assert_as_accurate_as_torch(operator, *tensors, dtype=dtype)


@pytest.mark.parametrize(("rows", "width"), [(7, 20), (65, 64), (128, 40)])
@pytest.mark.parametrize("scale", [14.0, 100.0])
def test_half_precision(assert_as_accurate_as_torch: Callable[..., None], rows: int, width: int, scale: float) -> None:
    mask_GN, weights_GN = pairs(3, rows)
    assert_as_accurate_as_torch(
        lambda *tensors, impl: kernels.grouped_info_nce(*tensors, mask=mask_GN, weights=weights_GN, impl=impl),
        *groups(3, rows, width),
        scale_of(scale),
        dtype=torch.float16,
    )


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "width"), [(7, 20), (32, 768), (65, 123), (128, 256)])
def test_bfloat16(assert_as_accurate_as_torch: Callable[..., None], rows: int, width: int) -> None:
    mask_GN, weights_GN = pairs(50, rows)
    assert_as_accurate_as_torch(
        lambda *tensors, impl: kernels.grouped_info_nce(*tensors, mask=mask_GN, weights=weights_GN, impl=impl),
        *groups(50, rows, width),
        scale_of(14.0),
        dtype=torch.bfloat16,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("scale", [100.0, -100.0])
def test_cosines_of_plus_and_minus_one_do_not_overflow(
    assert_parity: Callable[..., None],
    assert_as_accurate_as_torch: Callable[..., None],
    scale: float,
    dtype: torch.dtype,
) -> None:
    u, v = F.normalize(torch.tensor([[1.0] * 8, [1.0, -1.0] * 4]), dim=1).to(DEVICE)
    a_GND = torch.stack([u, -u, v, -v])[None]
    b_GND = a_GND.roll(1, dims=1)  # cosines of 1, 0 and -1, in pairs and beside them
    tensors = (a_GND, b_GND, scale_of(scale))
    if dtype == torch.float32:
        assert_parity(kernels.grouped_info_nce, *tensors, impl="triton")
    else:
        assert_as_accurate_as_torch(kernels.grouped_info_nce, *tensors, dtype=dtype)
    assert kernels.grouped_info_nce(*tensors, impl="triton") > 49


def test_uniform_logits_and_duplicates() -> None:
    a_GND, b_GND = groups(2, 70)
    loss, da, db, dscale = gradients(a_GND, b_GND, scale_of(0.0))
    assert loss.item() == pytest.approx(math.log(70), rel=1e-6)
    assert (da == 0).all()
    assert (db == 0).all()
    assert dscale != 0
    same_GND = a_GND[:, :1].expand(2, 70, 16)
    loss, da, _, _ = gradients(same_GND, same_GND, scale_of(20.0))
    assert loss.item() == pytest.approx(math.log(70), rel=1e-5)
    assert da.abs().max() < 1e-5


def test_dscale_is_a_finite_difference() -> None:
    a_GND, b_GND = groups(3, 9)
    mask_GN, weights_GN = pairs(3, 9)
    *_, dscale = gradients(a_GND, b_GND, scale_of(4.0), mask=mask_GN, weights=weights_GN)
    tensors = (a_GND.double(), b_GND.double())
    options = {"mask": mask_GN, "weights": weights_GN, "impl": "reference"}
    above, below = (kernels.grouped_info_nce(*tensors, scale, **options) for scale in (4 + 1e-5, 4 - 1e-5))
    assert dscale.item() == pytest.approx(3 * (above - below).item() / 2e-5, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 1), (0, 6), (3, 0)])
def test_no_group_has_two_rows(shape: tuple[int, int]) -> None:
    results = gradients(*groups(*shape), scale_of(4.0))
    assert results[0].shape == ()
    assert all((result == 0).all() for result in results)


@pytest.mark.parametrize("cause", ["masks", "weights"])
def test_no_group_takes_part(cause: str) -> None:
    options = {"mask": torch.eye(3, 6, dtype=torch.bool), "weights": torch.ones(3, 6)}
    if cause == "weights":
        options = {"mask": torch.arange(6).expand(3, 6) > 2, "weights": (torch.arange(6.0).expand(3, 6) <= 2).double()}
    options = {name: tensor.to(DEVICE) for name, tensor in options.items()}
    assert all((result == 0).all() for result in gradients(*groups(3, 6), scale_of(30.0), **options))


def test_groups_without_weight_take_no_part_and_only_the_shares_count() -> None:
    tensors = (*groups(3, 10), scale_of(4.0))
    weights_GN = torch.rand(3, 10).to(DEVICE)
    weights_GN[1] = 0.0
    loss, da, *others = gradients(*tensors, weights=weights_GN)
    kept = torch.tensor([0, 2], device=DEVICE)
    alone = kernels.grouped_info_nce(
        *(x[kept] for x in tensors[:2]), tensors[2], weights=weights_GN[kept], impl="triton"
    )
    torch.testing.assert_close(loss, alone)
    assert (da[1] == 0).all()
    rescaled_GN = weights_GN * torch.tensor([[1e-6], [1.0], [1e6]], device=DEVICE)
    assert_close(gradients(*tensors, weights=rescaled_GN), [loss, da, *others])


@pytest.mark.parametrize("rubbish", [math.nan, math.inf])
def test_masked_rows_leak_nowhere(rubbish: float) -> None:
    a_GND, b_GND = groups(4, 20)
    mask_GN, weights_GN = pairs(4, 20)

    def run(fill: float) -> list[torch.Tensor]:
        dropped_GN1 = ~mask_GN[..., None]
        tensors = (a_GND.masked_fill(dropped_GN1, fill), b_GND.masked_fill(dropped_GN1, -fill), scale_of(5.0))
        return gradients(*tensors, mask=mask_GN, weights=weights_GN.masked_fill(~mask_GN, fill))

    for clean, dirty in zip(run(0.0), run(rubbish), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, dirty)
    for grad in run(rubbish)[1:3]:
        assert (grad[~mask_GN] == 0).all()
        assert (grad[-1] == 0).all()  # a group of one pair


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # where no pair is
def test_rows_of_extreme_logits_lose_to_no_masked_one() -> None:
    # exp(0 - logsumexp) of a masked row would be infinite here.
    a_GND, b_GND = torch.ones(1, 4, 16, device=DEVICE), -torch.ones(1, 4, 16, device=DEVICE)
    mask_GN = torch.tensor([[True, True, True, False]], device=DEVICE)
    results = gradients(a_GND, b_GND, scale_of(100.0), mask=mask_GN)
    assert all(result.isfinite().all() for result in results)
    assert results[0].item() == pytest.approx(math.log(3), rel=1e-4)


def test_swapping_the_sides_and_moving_rows_and_groups() -> None:
    a_GND, b_GND = groups(3, 70)
    mask_GN, weights_GN = pairs(3, 70)
    options = {"mask": mask_GN, "weights": weights_GN}
    loss, da, db, dscale = gradients(a_GND, b_GND, scale_of(4.0), **options)
    swapped = gradients(b_GND, a_GND, scale_of(4.0), **options)
    assert_close(swapped, [loss, db, da, dscale])
    order, rows = torch.randperm(3, device="cpu").to(DEVICE), torch.randperm(70, device="cpu").to(DEVICE)

    def move(x: torch.Tensor) -> torch.Tensor:
        return x[order][:, rows]

    moved = gradients(move(a_GND), move(b_GND), scale_of(4.0), mask=move(mask_GN), weights=move(weights_GN))
    assert_close(moved, [loss, move(da), move(db), dscale])


def test_scales_are_numbers_or_tensors_of_any_shape_and_type() -> None:
    tensors = groups(3, 6)
    expected = kernels.grouped_info_nce(*tensors, 4.0, impl="triton")
    for shape, dtype in (((), torch.float32), ((1, 1), torch.float16), ((1,), torch.float64)):
        scale = torch.full(shape, 4.0, dtype=dtype, device=DEVICE)
        loss, *_, dscale = gradients(*tensors, scale)
        assert torch.equal(loss, expected)
        assert (dscale.shape, dscale.dtype) == (shape, dtype)


def test_any_strides_give_the_same_bits() -> None:
    plain = groups(3, 6, 24)
    mask_GN, weights_GN = pairs(3, 6)
    expected = gradients(*plain, scale_of(4.0), mask=mask_GN, weights=weights_GN)
    a_view = torch.empty(6, 3, 30, device=DEVICE)[..., 3:27].transpose(0, 1).copy_(plain[0])
    b_view = torch.empty(3, 24, 6, device=DEVICE).mT.copy_(plain[1])
    mask_view = torch.empty(6, 3, dtype=torch.bool, device=DEVICE).T.copy_(mask_GN)
    weights_view = torch.empty(3, 12, device=DEVICE)[:, ::2].copy_(weights_GN)
    assert not any(view.is_contiguous() for view in (a_view, b_view, mask_view, weights_view))
    actual = gradients(a_view, b_view, scale_of(4.0), mask=mask_view, weights=weights_view)
    assert all(map(torch.equal, actual, expected))


def test_repeats_bit_for_bit() -> None:
    tensors = (*groups(4, 70), scale_of(9.0))
    mask_GN, weights_GN = pairs(4, 70)
    first = gradients(*tensors, mask=mask_GN, weights=weights_GN)
    for _ in range(2):
        assert all(map(torch.equal, gradients(*tensors, mask=mask_GN, weights=weights_GN), first))


def test_more_rows_than_a_program_holds() -> None:
    tensors = groups(1, 129)
    with pytest.raises(RuntimeError, match=r"groups of 129 rows are above 128"):
        kernels.grouped_info_nce(*tensors, 4.0, impl="triton")
    assert torch.equal(kernels.grouped_info_nce(*tensors, 4.0), kernels.grouped_info_nce(*tensors, 4.0, impl="torch"))


@pytest.mark.parametrize("count", [0, 1, 1024, 2500])
def test_any_number_of_groups_is_added_up(count: int) -> None:
    losses_G = torch.randn(count, device=DEVICE)
    active_G = (torch.rand(count) < 0.5).float().to(DEVICE)
    mean, part, total = torch.empty(3, device=DEVICE)
    launch(
        kernel_module.grouped_infonce_fwd_mean_kernel, (1,),
        losses_G, active_G, mean, part, count, BLOCK=1024, num_warps=4,
    )  # fmt: skip
    launch(kernel_module.grouped_infonce_bwd_sum_kernel, (1,), losses_G, total, count, BLOCK=1024, num_warps=4)
    number = active_G.sum().clamp(min=1)
    torch.testing.assert_close(part, 1 / number)
    torch.testing.assert_close(mean, losses_G.sum() / number, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(total, losses_G.sum(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("arch", [80, 90, 100])
def test_every_tile_holds_its_group(arch: int) -> None:
    for rows, width, dtype in itertools.product(range(129), (64, 123), (torch.float16, torch.float32)):
        forward = op._forward_config(rows, width, dtype, arch)
        backward = op._backward_config(rows, width, dtype, arch)
        assert forward.rows >= rows
        assert 2 * backward.rows >= rows
        assert forward.step >= 16
        assert backward.step >= 16


def test_registered_operators() -> None:
    leaves = [tensor.requires_grad_() for tensor in (*groups(2, 5), scale_of(3.0))]
    mask_GN, weights_GN = pairs(2, 5)
    forward = torch.ops.clamp_kernels.grouped_info_nce.default
    torch.library.opcheck(forward, (*leaves, mask_GN, weights_GN))
    tensors = [leaf.detach() for leaf in leaves]
    loss, *saved = forward(*tensors, None, None)
    torch.library.opcheck(
        torch.ops.clamp_kernels.grouped_info_nce_backward.default, (torch.ones_like(loss), *tensors, *saved)
    )


def test_traces_in_one_graph_and_counts_four_products() -> None:
    tensors = [tensor.requires_grad_() for tensor in (*groups(3, 5, 20), scale_of(3.0))]
    mask_GN, weights_GN = pairs(3, 5)

    def operator(*tensors: torch.Tensor) -> torch.Tensor:
        masked = kernels.grouped_info_nce(*tensors, mask=mask_GN, weights=weights_GN, impl="triton")
        return masked + kernels.grouped_info_nce(*tensors[:2], 2.0, impl="triton")

    traced = torch.compile(operator, fullgraph=True, backend="aot_eager")
    losses = [function(*tensors) for function in (traced, operator)]
    assert torch.equal(*losses)
    assert all(map(torch.equal, *(torch.autograd.grad(loss, tensors) for loss in losses)))
    with FlopCounterMode(display=False) as counter:
        kernels.grouped_info_nce(*tensors, impl="triton").backward()
    assert counter.get_total_flops() == 4 * 2 * 3 * 5 * 5 * 20


def test_weights_are_constants() -> None:
    weights_GN = torch.rand(3, 6).to(DEVICE).requires_grad_()
    leaves = [tensor.requires_grad_() for tensor in groups(3, 6)]
    kernels.grouped_info_nce(*leaves, 4.0, weights=weights_GN, impl="triton").backward()
    assert weights_GN.grad is None
    assert all(leaf.grad is not None for leaf in leaves)
