"""The symmetric loss over one batch: parity with the float64 reference, its symmetries and its limits.

The PyTorch path is tested in both of its forms, with logits whole and in blocks. Blocks have 8 rows and columns here,
so that a few dozen pairs have many of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import kernels
from kernels.bench.measure.allocated import peak_bytes
from kernels.infonce import chunked as chunked_module
from kernels.infonce import plan
from kernels.infonce.blocks import torch_footprint
from kernels.infonce.chunked import chunked

WHOLE = {"impl": "torch", "mode": "save"}
BLOCKS = {"impl": "torch", "mode": "resident"}
FORMS = [pytest.param(form, id=form["mode"]) for form in (WHOLE, BLOCKS)]
PATHS = [*FORMS, pytest.param({"impl": "reference"}, id="reference")]


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_SMALLEST_BLOCK", 8)
        yield


def pairs(count: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    a_ND, b_ND = F.normalize(torch.randn(2, count, width), dim=-1).unbind(0)
    return a_ND, b_ND


def torch_path(row_mask: torch.Tensor | None = None, **options: Any) -> Callable[..., torch.Tensor]:
    """info_nce with options that are the PyTorch path's alone, to compare with the reference."""

    def operator(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, impl: str) -> torch.Tensor:
        return kernels.info_nce(a, b, scale, row_mask=row_mask, impl=impl, **(options if impl == "torch" else {}))

    return operator


def gradients(loss: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The loss, and its gradients."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


# --- parity ---


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    count=st.integers(2, 40),
    width=st.integers(1, 20),
    share=st.sampled_from([None, 0.0, 0.3, 0.8, 1.0]),
    mode=st.sampled_from(["save", "resident"]),
    seed=st.integers(0, 99),
)
def test_parity(
    assert_parity: Callable[..., None], count: int, width: int, share: float | None, mode: str, seed: int
) -> None:
    torch.manual_seed(seed)
    a_ND, b_ND = torch.randn(2, count, width).unbind(0)
    mask_N = None if share is None else torch.rand(count) < share
    assert_parity(torch_path(mask_N, mode=mode), a_ND, b_ND, torch.tensor([0.7]))


COUNTS, WIDTHS = (1, 2, 63, 65, 257, 1000), (1, 16, 123, 128, 384, 512, 768, 1024)
# Room for blocks of 128 x 256 in float32, and for those that "auto" takes by itself.
ROOMS = {"blocks": {"mode": "chunked", "workspace_bytes": 8 * 128 * 256}, "auto": {}}


def assert_parity_at(assert_parity: Callable[..., None], count: int, width: int, room: str, masked: bool) -> None:
    mask_N = torch.rand(count) < 0.8 if masked else None
    assert_parity(torch_path(mask_N, **ROOMS[room]), *pairs(count, width), torch.tensor(14.0))


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("count", "width"),
    [(1, 16), (2, 1), (63, 123), (65, 128), (65, 1024), (257, 384), (257, 768), (1000, 512)],
)
def test_parity_off_every_boundary(assert_parity: Callable[..., None], count: int, width: int, room: str) -> None:
    assert_parity_at(assert_parity, count, width, room, masked=count % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("count", "width"), [*itertools.product(COUNTS, WIDTHS)])
def test_parity_everywhere(assert_parity: Callable[..., None], count: int, width: int, masked: bool, room: str) -> None:
    assert_parity_at(assert_parity, count, width, room, masked)


@pytest.mark.parametrize("path", PATHS)
def test_equals_two_cross_entropies(path: dict[str, str]) -> None:
    a_ND, b_ND = pairs(20)
    logits_NN, diagonal_N = 7 * a_ND @ b_ND.T, torch.arange(20)
    expected = (F.cross_entropy(logits_NN, diagonal_N) + F.cross_entropy(logits_NN.T, diagonal_N)) / 2
    torch.testing.assert_close(kernels.info_nce(a_ND, b_ND, 7.0, **path), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_have_float32_logits(dtype: torch.dtype, form: dict[str, str]) -> None:
    tensors = [tensor.to(dtype) for tensor in pairs(64)]
    actual = gradients(lambda a, b: kernels.info_nce(a, b, 100.0, **form), *tensors)
    doubled = [tensor.double() for tensor in tensors]
    expected = gradients(lambda a, b: kernels.info_nce(a, b, 100.0, impl="reference"), *doubled)
    assert actual[0].dtype == torch.float32
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-5, atol=0)
    for gradient, wanted in zip(actual[1:], expected[1:], strict=True):
        assert gradient.dtype == dtype
        error = (gradient.double() - wanted).norm() / wanted.norm()
        assert error <= torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_lowest_logits_neither_overflow_nor_vanish(path: dict[str, str], dtype: torch.dtype) -> None:
    """Every cosine is -1 at scale 100: dropped pairs, whose features count as 0, must not set the scale of the sums."""
    a_ND = torch.zeros(20, 4, dtype=dtype)
    a_ND[:, 1] = 1
    kept_N = torch.arange(20) % 3 > 0
    for mask_N, count in ((None, 20), (kept_N, int(kept_N.sum()))):
        loss, *rest = gradients(
            lambda a, b, mask=mask_N: kernels.info_nce(a, b, 100.0, row_mask=mask, **path), a_ND, -a_ND
        )
        torch.testing.assert_close(loss, torch.tensor(math.log(count)), rtol=0, atol=1e-5)
        assert all(gradient.abs().max() < 1e-3 for gradient in rest)


@pytest.mark.parametrize("form", FORMS)
def test_rows_and_columns_of_very_different_logits(assert_parity: Callable[..., None], form: dict[str, str]) -> None:
    """Logits of -100 and of 100 in one block: a column of the former must keep its sum beside one of the latter."""
    a_ND = F.normalize(torch.ones(30, 8) + 0.1 * torch.randn(30, 8), dim=-1)
    b_ND = a_ND * torch.where(torch.arange(30) % 2 == 0, 1.0, -1.0)[:, None]
    assert_parity(torch_path(mode=form["mode"]), a_ND, b_ND, torch.tensor(100.0))


@pytest.mark.parametrize("path", PATHS)
def test_uniform_logits_give_log_n(path: dict[str, str]) -> None:
    for count in (2, 17):
        a_ND, b_ND = pairs(count)
        loss = kernels.info_nce(a_ND, b_ND, 0.0, **path)
        torch.testing.assert_close(loss, torch.tensor(math.log(count)))
        half_N = torch.arange(count) < (count + 1) // 2 + 1
        loss = kernels.info_nce(a_ND, b_ND, 0.0, row_mask=half_N, **path)
        torch.testing.assert_close(loss, torch.tensor(math.log(half_N.sum())))


@pytest.mark.parametrize("path", PATHS)
def test_duplicates_count_as_often_as_they_stand_there(path: dict[str, str]) -> None:
    a_ND, b_ND = (tensor.double() for tensor in pairs(11))
    once = kernels.info_nce(a_ND, b_ND, 9.0, **path)
    thrice = kernels.info_nce(a_ND.repeat(3, 1), b_ND.repeat(3, 1), 9.0, **path)
    torch.testing.assert_close(thrice, once + math.log(3))


# --- symmetries ---


@pytest.mark.parametrize("path", PATHS)
def test_symmetries(path: dict[str, str]) -> None:
    a_ND, b_ND = (tensor.double() for tensor in pairs(20))
    scale, order = torch.tensor(4.0, dtype=torch.float64), torch.randperm(20)
    for mask_N in (None, torch.rand(20) < 0.7):
        loss = partial(kernels.info_nce, row_mask=mask_N, **path)
        value, to_a_ND, to_b_ND, to_scale = gradients(loss, a_ND, b_ND, scale)
        torch.testing.assert_close(gradients(loss, b_ND, a_ND, scale), (value, to_b_ND, to_a_ND, to_scale))
        permuted = partial(kernels.info_nce, row_mask=None if mask_N is None else mask_N[order], **path)
        moved = gradients(permuted, a_ND[order], b_ND[order], scale)
        torch.testing.assert_close(moved, (value, to_a_ND[order], to_b_ND[order], to_scale))
        assert abs(loss(a_ND[order], b_ND, scale) - value) > 0.1


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    count=st.integers(1, 25),
    row_block=st.integers(1, 30),
    column_block=st.integers(1, 30),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_blocks_do_not_show(count: int, row_block: int, column_block: int, masked: bool, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = [tensor.double() for tensor in (*pairs(count, 5), torch.tensor(3.0))]
    mask_N = torch.rand(count) < 0.6 if masked else None
    whole = gradients(partial(kernels.info_nce, row_mask=mask_N, **WHOLE), *tensors)
    cut = gradients(lambda a, b, scale: chunked(a, b, scale, mask_N, row_block, column_block), *tensors)
    torch.testing.assert_close(cut, whole, rtol=1e-12, atol=1e-15)


# --- masks and limits ---


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, 1e30])
def test_dropped_pairs_are_as_if_absent(path: dict[str, str], rubbish: float) -> None:
    a_ND, b_ND = pairs(20)
    mask_N = torch.rand(20) < 0.6
    mask_N[8:16] = False  # a whole block
    scale = torch.tensor(5.0)
    loss, to_a_MD, to_b_MD, to_scale = gradients(partial(kernels.info_nce, **path), a_ND[mask_N], b_ND[mask_N], scale)
    a_ND[~mask_N], b_ND[~mask_N] = rubbish, -rubbish
    masked = gradients(partial(kernels.info_nce, row_mask=mask_N, **path), a_ND, b_ND, scale)
    torch.testing.assert_close(masked[0], loss)
    torch.testing.assert_close(masked[3], to_scale)
    for gradient, expected in ((masked[1], to_a_MD), (masked[2], to_b_MD)):
        torch.testing.assert_close(gradient[mask_N], expected)
        assert (gradient[~mask_N] == 0).all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mask", [None, [False] * 20, [False] * 13 + [True] + [False] * 6])
def test_one_pair_or_none_is_no_loss(path: dict[str, str], mask: list[bool] | None) -> None:
    mask_N = None if mask is None else torch.tensor(mask)
    tensors = *pairs(1 if mask is None else 20), torch.tensor(30.0)
    loss, *rest = gradients(partial(kernels.info_nce, row_mask=mask_N, **path), *tensors)
    assert loss.item() == 0
    assert loss.shape == ()
    assert all((gradient == 0).all() for gradient in rest)


@pytest.mark.parametrize("path", PATHS)
def test_no_rows_at_all(path: dict[str, str]) -> None:
    a_ND = torch.empty(0, 16, requires_grad=True)
    loss = kernels.info_nce(a_ND, a_ND, 3.0, **path)
    loss.backward()
    assert loss.item() == 0
    assert a_ND.grad.shape == (0, 16)


# --- gradients ---


@pytest.mark.parametrize("path", PATHS)
def test_scale_may_be_a_float_or_a_tensor(path: dict[str, str]) -> None:
    a_ND, b_ND = pairs(9)
    for shape in ((), (1,), (1, 1, 1)):
        scale = torch.full(shape, 6.0, requires_grad=True)
        loss = kernels.info_nce(a_ND, b_ND, scale, **path)
        assert loss.shape == ()
        torch.testing.assert_close(loss, kernels.info_nce(a_ND, b_ND, 6.0, **path))
        loss.backward()
        nudged = [kernels.info_nce(a_ND.double(), b_ND.double(), 6.0 + step, **path) for step in (1e-4, -1e-4)]
        torch.testing.assert_close(scale.grad.reshape(()).double(), (nudged[0] - nudged[1]) / 2e-4, rtol=1e-5, atol=0)


@pytest.mark.parametrize("path", PATHS)
def test_gradcheck(path: dict[str, str]) -> None:
    leaves = [*(tensor.double() for tensor in pairs(9, 3)), torch.tensor(3.0, dtype=torch.float64)]
    mask_N = torch.arange(9) != 1
    for leaf in leaves:
        leaf.requires_grad_()
    for mask in (None, mask_N):
        torch.autograd.gradcheck(partial(kernels.info_nce, row_mask=mask, **path), leaves)


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(form: dict[str, str]) -> None:
    tensors = *pairs(20), torch.tensor(5.0)
    expected = gradients(partial(kernels.info_nce, **form), *tensors)[1:]
    for asked in itertools.product([False, True], repeat=3):
        leaves = [tensor.clone().requires_grad_(needed) for tensor, needed in zip(tensors, asked, strict=True)]
        loss = kernels.info_nce(*leaves, **form)
        assert loss.requires_grad == any(asked)
        if any(asked):
            loss.backward()
        for leaf, wanted in zip(leaves, expected, strict=True):
            assert (leaf.grad is not None) == leaf.requires_grad
            if leaf.grad is not None:
                torch.testing.assert_close(leaf.grad, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_backward_can_be_repeated_and_is_the_same_to_the_bit(form: dict[str, str]) -> None:
    tensors = *pairs(37), torch.tensor(5.0)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    loss = kernels.info_nce(*leaves, **form)
    runs = [torch.autograd.grad(loss, leaves, retain_graph=True) for _ in range(2)]
    again = gradients(partial(kernels.info_nce, **form), *tensors)
    assert torch.equal(loss, again[0])
    for first, second, third in zip(*runs, again[1:], strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


def test_blocks_are_differentiable_once() -> None:
    leaves = [*pairs(9), torch.tensor(2.0)]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = leaves[2] * kernels.info_nce(*leaves[:2], 2.0, **BLOCKS)
    (to_a_ND,) = torch.autograd.grad(loss, leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        to_a_ND.sum().backward()


@pytest.mark.parametrize("form", FORMS)
def test_the_inputs_are_left_as_they_were(form: dict[str, str]) -> None:
    tensors = *pairs(20), torch.tensor(3.0)
    copies = [tensor.clone() for tensor in tensors]
    gradients(partial(kernels.info_nce, row_mask=torch.arange(20) < 15, **form), *tensors)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    kernels.info_nce(*leaves, **form).backward()
    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("form", FORMS)
def test_any_strides(form: dict[str, str]) -> None:
    a_ND, b_ND = pairs(20)
    expected = gradients(partial(kernels.info_nce, scale=5.0, **form), a_ND, b_ND)
    leaf_DN = a_ND.T.contiguous().requires_grad_()
    loss = kernels.info_nce(leaf_DN.T, b_ND.repeat_interleave(2, dim=0)[::2], 5.0, **form)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected[0])
    torch.testing.assert_close(leaf_DN.grad.T, expected[1])


# --- workspace ---


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("mode", "workspace_bytes"),
    [("auto", 2**30), ("auto", 2**23), ("auto", 2**19), ("save", 2**26), ("chunked", 2**22), ("resident", 2**19)],
)
def test_the_workspace_bound_is_kept(
    monkeypatch: pytest.MonkeyPatch, mode: str, workspace_bytes: int, masked: bool
) -> None:
    monkeypatch.setattr(plan, "_SMALLEST_BLOCK", 128)
    count, width = 1500, 4
    leaves = [tensor.requires_grad_() for tensor in (*pairs(count, width), torch.tensor(5.0))]
    mask_N = torch.rand(count) < 0.9 if masked else None
    held = peak_bytes(
        lambda: kernels.info_nce(
            *leaves, row_mask=mask_N, mode=mode, workspace_bytes=workspace_bytes, impl="torch"
        ).backward()
    )
    vectors = 16 * count * 4 + 12 * count * width * 4  # O(N) and O(N D), of float32
    assert held <= workspace_bytes + vectors
    if mode == "save":
        assert held <= torch_footprint(torch.float32).saved_bytes * count**2 + vectors
        assert held > 4 * count**2


def test_what_is_held_does_not_grow_with_the_square_of_the_pairs() -> None:
    def held(count: int) -> int:
        leaves = [tensor.requires_grad_() for tensor in pairs(count, 4)]
        return peak_bytes(lambda: kernels.info_nce(*leaves, 5.0, mode="chunked", workspace_bytes=2**20).backward())

    assert held(3000) - held(1500) <= 1500 * 4 * (16 + 12 * 4)


@pytest.mark.parametrize("impl", ["auto", "torch"])
def test_a_mode_that_does_not_fit_is_an_error(impl: str) -> None:
    a_ND, b_ND = pairs(100)
    with pytest.raises(ValueError, match=r"mode='save' takes at least \d+ bytes for 100 pairs"):
        kernels.info_nce(a_ND, b_ND, 2.0, mode="save", workspace_bytes=10_000, impl=impl)
    with pytest.raises(ValueError, match="mode is 'whole'"):
        kernels.info_nce(a_ND, b_ND, 2.0, mode="whole", impl=impl)


# --- as a registered operator ---


def operator_arguments() -> tuple[torch.Tensor, ...]:
    mask_N = torch.arange(13) != 5
    return *pairs(13), torch.tensor(3.0), mask_N


@pytest.mark.parametrize("needed", [(True, True, True), (False, True, False), (False, False, True)])
def test_opcheck(needed: tuple[bool, bool, bool]) -> None:
    *tensors, mask_N = operator_arguments()
    leaves = [tensor.clone().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=True)]
    for mask in (None, mask_N):
        torch.library.opcheck(torch.ops.clamp_kernels.info_nce_torch.default, (*leaves, mask, 8, 5))
        _, row_lse_N, column_lse_N = chunked_module._forward_op(*tensors, mask, 8, 5)
        arguments = torch.tensor(1.0), *tensors, mask, row_lse_N, column_lse_N, 8, 5, list(needed)
        torch.library.opcheck(torch.ops.clamp_kernels.info_nce_torch_backward.default, arguments)


def test_traces_in_one_graph_for_any_number_of_pairs() -> None:
    def operator(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        blocks = kernels.info_nce(a, b, scale, row_mask=mask, mode="resident")
        return blocks + kernels.info_nce(a, b, scale) + kernels.info_nce(a, b, 2.0, row_mask=mask)

    compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(recompile_limit=2):  # one graph for the first number, one for all others
        for count in (9, 17, 33, 40):
            *tensors, mask_N = *pairs(count), torch.tensor([3.0]), torch.arange(count) < 5
            actual = gradients(lambda *leaves, mask=mask_N: compiled(*leaves, mask), *tensors)
            expected = gradients(lambda *leaves, mask=mask_N: operator(*leaves, mask), *tensors)
            torch.testing.assert_close(actual, expected)


def test_flops_are_those_of_the_products() -> None:
    leaves = [tensor.requires_grad_() for tensor in pairs(20)]
    product = 2 * 20 * 20 * 16
    for form, products in ((WHOLE, 3), (BLOCKS, 4)):
        with FlopCounterMode(display=False) as counter:
            kernels.info_nce(*leaves, 2.0, **form).backward()
        assert counter.get_total_flops() == products * product
    leaves[0].requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        kernels.info_nce(*leaves, 2.0, **BLOCKS).backward()
    assert counter.get_total_flops() == 3 * product
