"""InfoNCE in Triton: parity of its three backward passes, its blocks alone, its workspace, and what torch knows of it.

Interpreted on a CPU, compiled where there is a GPU. Tiles are 64 x 64 for all batches here, blocks at least 128 x 128.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("triton")

import kernels
from kernels.bench.measure.allocated import peak_bytes
from kernels.infonce import op, resident, tiles
from kernels.infonce.blocks import logsumexp, statistics
from kernels.launch import launch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODES = ["save", "chunked", "resident"]
SMALLEST_BLOCKS = {"mode": "chunked", "workspace_bytes": 5 * 128 * 128}
SMALLEST_SAVED_BYTES = 162_000  # for 150 pairs in float32, with blocks of less than 150 rows and columns


def pairs(count: int, width: int = 16, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    a_ND, b_ND = F.normalize(torch.randn(2, count, width), dim=-1).to(DEVICE, dtype).unbind(0)
    return a_ND, b_ND


def operator(row_mask: torch.Tensor | None = None, **options: Any) -> Callable[..., torch.Tensor]:
    """info_nce with options that only the Triton path gets."""

    def run(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, impl: str) -> torch.Tensor:
        return kernels.info_nce(a, b, scale, row_mask=row_mask, impl=impl, **(options if impl == "triton" else {}))

    return run


def triton(*tensors: Any, **options: Any) -> torch.Tensor:
    return kernels.info_nce(*tensors, impl="triton", **options)


def gradients(loss: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The loss, and its gradients."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


def assert_close(actual: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    """To the rounding of float32, relative to the largest element."""
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6 * max(other.abs().max().item(), 1e-3))


# --- parity ---

SHAPES = [(1, 16), (2, 1), (63, 123), (65, 384), (17, 512), (65, 768), (3, 1024)]
CASES = [(*shape, mode) for shape in SHAPES for mode in MODES if mode != "resident" or shape[1] <= 512]
ALL_SHAPES = [
    *itertools.product((1, 2, 63, 65, 257), (1, 16, 123, 128, 384, 512, 768, 1024), [False, True]),
    *itertools.product([1000], (1, 128, 768), [True]),
]


@pytest.mark.parametrize(("count", "width", "mode"), [*CASES, (257, 128, "save"), (257, 16, "chunked")])
def test_parity(assert_parity: Callable[..., None], count: int, width: int, mode: str) -> None:
    assert_parity(operator(mode=mode), *pairs(count, width), torch.tensor(14.0, device=DEVICE), impl="triton")


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("count", "width", "masked"), ALL_SHAPES)
def test_parity_everywhere(
    assert_parity: Callable[..., None],
    assert_as_accurate_as_torch: Callable[..., None],
    count: int,
    width: int,
    mode: str,
    masked: bool,
) -> None:
    if mode == "resident" and width > 512:
        pytest.skip("there is no such kernel")
    mask_N = torch.rand(count, device=DEVICE) < 0.8 if masked else None
    tensors = (*pairs(count, width), torch.tensor([14.0], device=DEVICE))
    assert_parity(operator(mask_N, mode=mode), *tensors, impl="triton")
    assert_as_accurate_as_torch(operator(mask_N, mode=mode), *tensors, dtype=torch.float16)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [14.0, 100.0])
@pytest.mark.parametrize(("count", "width"), [(65, 96), (63, 123)])
def test_half_precision(
    assert_as_accurate_as_torch: Callable[..., None], count: int, width: int, scale: float, mode: str
) -> None:
    tensors = (*pairs(count, width), torch.tensor(scale, device=DEVICE))
    assert_as_accurate_as_torch(operator(mode=mode), *tensors, dtype=torch.float16)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("count", "width"), [(65, 123), (2049, 128), (5000, 512), (4096, 384)])
def test_16_bit_parity_on_a_gpu(
    assert_as_accurate_as_torch: Callable[..., None], count: int, width: int, dtype: torch.dtype, mode: str
) -> None:
    mask_N = torch.rand(count, device=DEVICE) < 0.9
    tensors = (*pairs(count, width), torch.tensor(14.0, device=DEVICE))
    for mask in (None, mask_N):
        assert_as_accurate_as_torch(operator(mask, mode=mode), *tensors, dtype=dtype)


@pytest.mark.parametrize("mode", MODES)
def test_very_different_logits(assert_as_accurate_as_torch: Callable[..., None], mode: str) -> None:
    """Logits of -100 and of 100 in one tile: a column of the former must keep its sum beside one of the latter."""
    a_ND = F.normalize(torch.ones(70, 16) + 0.1 * torch.randn(70, 16), dim=-1)
    sign_N1 = torch.where(torch.arange(70) % 3 > 0, 1.0, -1.0)[:, None]
    tensors = [tensor.to(DEVICE) for tensor in (a_ND, sign_N1 * a_ND.roll(1, 0), torch.tensor(100.0))]
    assert_as_accurate_as_torch(operator(mode=mode), *tensors, dtype=torch.float16)


@pytest.mark.parametrize("mode", MODES)
def test_the_lowest_logits_neither_overflow_nor_vanish(mode: str) -> None:
    """Every cosine is -1 at scale 100. Dropped pairs count as 0, here a whole tile: it must not set the sums' scale."""
    kept_N = torch.arange(130, device=DEVICE) > 70
    for mask_N, length, count in ((None, 20, 20), (kept_N, 130, 59)):
        a_ND = F.one_hot(torch.ones(length, dtype=torch.int64), 16).to(DEVICE, torch.float16)
        loss, *rest = gradients(lambda a, b, mask=mask_N: triton(a, b, 100.0, row_mask=mask, mode=mode), a_ND, -a_ND)
        assert loss.item() == pytest.approx(math.log(count), abs=1e-5)
        assert all(gradient.abs().max() < 1e-2 for gradient in rest)


@pytest.mark.parametrize("mode", MODES)
def test_probabilities_below_the_smallest_float16(assert_as_accurate_as_torch: Callable[..., None], mode: str) -> None:
    """Each is about exp(-18), and together they are all of the gradient of a batch that is told apart well."""
    a_ND = F.normalize(torch.eye(65, 80) + 0.01 * torch.randn(65, 80), dim=-1)
    tensors = (a_ND.to(DEVICE), a_ND.to(DEVICE), torch.tensor(18.0, device=DEVICE))

    def scaled(*tensors: torch.Tensor, impl: str) -> torch.Tensor:  # as mixed precision does it
        return 2.0**16 * operator(mode=mode)(*tensors, impl=impl)

    assert_as_accurate_as_torch(scaled, *tensors, dtype=torch.float16)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_of_scale_against_finite_differences(mode: str) -> None:
    a_ND, b_ND = pairs(70)
    *_, actual = gradients(lambda *leaves: triton(*leaves, mode=mode), a_ND, b_ND, torch.tensor([9.0], device=DEVICE))
    nudged = [kernels.info_nce(a_ND.double(), b_ND.double(), 9 + step, impl="reference") for step in (1e-4, -1e-4)]
    assert actual.shape == (1,)
    assert actual.item() == pytest.approx((nudged[0] - nudged[1]).item() / 2e-4, rel=1e-5)


# --- properties ---


@pytest.mark.parametrize("mode", MODES)
def test_uniform_logits_give_log_n(mode: str) -> None:
    for count in (2, 65):
        assert triton(*pairs(count), 0.0, mode=mode).item() == pytest.approx(math.log(count), rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_duplicates_share_their_gradient(assert_parity: Callable[..., None], mode: str) -> None:
    a_ND, b_ND = (tensor.repeat(2, 1) for tensor in pairs(33))
    scale = torch.tensor(5.0, device=DEVICE)
    assert_parity(operator(mode=mode), a_ND, b_ND, scale, impl="triton")
    _, a_gradient_ND, *_ = gradients(lambda *leaves: triton(*leaves, mode=mode), a_ND, b_ND, scale)
    torch.testing.assert_close(a_gradient_ND[:33], a_gradient_ND[33:], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_symmetries(mode: str) -> None:
    (a_ND, b_ND), scale = pairs(40), torch.tensor(4.0, device=DEVICE)
    mask_N, order = torch.rand(40, device=DEVICE) < 0.7, torch.randperm(40, device=DEVICE)

    def run(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gradients(lambda *leaves: triton(*leaves, row_mask=mask, mode=mode), a, b, scale)

    loss, a_gradient_ND, b_gradient_ND, scale_gradient = run(a_ND, b_ND, mask_N)
    assert_close(run(b_ND, a_ND, mask_N), (loss, b_gradient_ND, a_gradient_ND, scale_gradient))
    permuted = run(a_ND[order], b_ND[order], mask_N[order])
    assert_close(permuted, (loss, a_gradient_ND[order], b_gradient_ND[order], scale_gradient))


def test_blocks_do_not_show() -> None:
    tensors = (*pairs(150), torch.tensor(7.0, device=DEVICE))
    mask_N = torch.rand(150, device=DEVICE) < 0.8
    whole, *others = (
        gradients(lambda *leaves, options=options: triton(*leaves, row_mask=mask_N, **options), *tensors)
        for options in (
            {"mode": "chunked"},
            SMALLEST_BLOCKS,
            {"mode": "save", "workspace_bytes": SMALLEST_SAVED_BYTES},
            {"workspace_bytes": 5 * 128 * 128},
        )
    )
    for other in others:
        assert_close(other, whole)


@pytest.mark.parametrize("options", [{"mode": mode} for mode in MODES] + [SMALLEST_BLOCKS])
def test_dropped_pairs_are_as_if_absent(options: dict[str, Any]) -> None:
    count = 140 if options is SMALLEST_BLOCKS else 70
    mask_N = torch.rand(count, device=DEVICE) < 0.6
    a_ND, b_ND = pairs(count)
    scale = torch.tensor(5.0, device=DEVICE)
    expected = gradients(lambda *leaves: triton(*leaves, **options), a_ND[mask_N], b_ND[mask_N], scale)
    a_ND[~mask_N], b_ND[~mask_N] = math.nan, math.inf
    actual = gradients(lambda *leaves: triton(*leaves, row_mask=mask_N, **options), a_ND, b_ND, scale)
    assert all((gradient[~mask_N] == 0).all() for gradient in actual[1:3])
    assert_close((actual[0], actual[1][mask_N], actual[2][mask_N], actual[3]), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mask", [None, [False] * 5, [False, True, False, False, False]])
def test_one_pair_or_none_is_no_loss(mask: list[bool] | None, mode: str) -> None:
    mask_N = None if mask is None else torch.tensor(mask, device=DEVICE)
    tensors = (*pairs(1 if mask is None else 5), torch.tensor(30.0, device=DEVICE))
    results = gradients(lambda *leaves: triton(*leaves, row_mask=mask_N, mode=mode), *tensors)
    assert results[0].shape == ()
    assert all((result == 0).all() for result in results)
    # Whatever the rounding of G is, it weighs nothing.
    assert op.forward(*tensors, mask_N, mode, 128, 128)[1] == 0


@pytest.mark.parametrize("mode", MODES)
def test_no_rows_at_all(mode: str) -> None:
    loss, gradient, _ = gradients(lambda a, b: triton(a, b, 3.0, mode=mode), *pairs(0))
    assert loss.item() == 0
    assert gradient.shape == (0, 16)


@pytest.mark.parametrize("options", [{"mode": mode} for mode in MODES] + [SMALLEST_BLOCKS])
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(options: dict[str, Any]) -> None:
    """That of scale comes from whichever product there is, and is the same but for its rounding."""
    tensors = (*pairs(140 if options is SMALLEST_BLOCKS else 20), torch.tensor(6.0, device=DEVICE))
    _, *expected = gradients(lambda *leaves: triton(*leaves, **options), *tensors)
    for needed in ((True, False, True), (False, True, False), (False, False, True), (False, False, False)):
        leaves = [tensor.clone().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=True)]
        loss = triton(*leaves, **options)
        assert loss.requires_grad == any(needed)
        if any(needed):
            loss.backward()
        for leaf, wanted in zip(leaves, expected, strict=True):
            assert (leaf.grad is not None) == leaf.requires_grad
            if leaf.grad is not None:
                torch.testing.assert_close(leaf.grad, wanted, rtol=1e-5 if wanted.ndim == 0 else 0, atol=0)


@pytest.mark.parametrize("options", [{"mode": mode} for mode in MODES] + [SMALLEST_BLOCKS])
def test_repeats_to_the_bit(options: dict[str, Any]) -> None:
    count = 140 if options is SMALLEST_BLOCKS else 65
    leaves = [tensor.requires_grad_() for tensor in (*pairs(count, dtype=torch.float16), torch.ones((), device=DEVICE))]
    loss = triton(*leaves, **options)
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, leaves)))
    again = triton(*leaves, **options)
    assert torch.equal(loss, again)
    assert all(map(torch.equal, first, torch.autograd.grad(again, leaves)))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_repeats_to_the_bit_on_a_gpu(mode: str) -> None:
    tensors = (*pairs(3000, 256, torch.bfloat16), torch.tensor(14.0, device=DEVICE))
    first, *others = (gradients(lambda *leaves: triton(*leaves, mode=mode), *tensors) for _ in range(50))
    assert all(torch.equal(one, other) for results in others for one, other in zip(first, results, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_any_strides(mode: str) -> None:
    a_ND, b_ND = pairs(20, 32)
    expected = gradients(
        lambda a, b: triton(a, b, 3.0, mode=mode), a_ND[:, ::2].contiguous(), b_ND[:, :16].contiguous()
    )
    a_DN = a_ND.T.contiguous()
    loss, a_gradient_DN, b_gradient_ND = gradients(
        lambda a, b: triton(a.T[:, ::2], b[:, :16], 3.0, mode=mode), a_DN, b_ND
    )
    assert torch.equal(loss, expected[0])
    assert torch.equal(a_gradient_DN.T[:, ::2], expected[1])
    assert torch.equal(b_gradient_ND[:, :16], expected[2])


def test_it_can_be_differentiated_once() -> None:
    a_ND, b_ND = pairs(4)
    scale = torch.tensor(2.0, device=DEVICE, requires_grad=True)
    (gradient_ND,) = torch.autograd.grad(scale * triton(a_ND.requires_grad_(), b_ND, 3.0), [a_ND], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        gradient_ND.sum().backward()


# --- blocks ---


@pytest.fixture
def _large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "SMALL", 0)


def rectangle(
    a_MD: torch.Tensor,
    b_KD: torch.Tensor,
    row_mask_M: torch.Tensor | None,
    column_mask_K: torch.Tensor | None,
    offset: int | None,
    scale: float,
) -> tuple[torch.Tensor, ...]:
    """Row and column logsumexp, G b and G^T a of one block, by definition, in float64; NaN where there is nothing."""
    logits_MK = scale * a_MD.double() @ b_KD.double().T
    kept_MK = torch.ones_like(logits_MK, dtype=torch.bool)
    if row_mask_M is not None:
        kept_MK &= row_mask_M[:, None]
    if column_mask_K is not None:
        kept_MK &= column_mask_K
    logits_MK = logits_MK.masked_fill(~kept_MK, -math.inf)
    row_M, column_K = logits_MK.logsumexp(1), logits_MK.logsumexp(0)
    gradient_MK = (logits_MK - row_M[:, None]).exp() + (logits_MK - column_K).exp()
    if offset is not None:
        gradient_MK.diagonal(offset).sub_(2)
    gradient_MK = gradient_MK.masked_fill(~kept_MK, 0)
    return row_M, column_K, gradient_MK @ b_KD.double(), gradient_MK.T @ a_MD.double()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("offset", [0, 17, -30, None])
@pytest.mark.parametrize("rows_first", [True, False])
def test_a_rectangle_of_a_larger_batch(offset: int | None, masked: bool, rows_first: bool) -> None:
    a_MD, b_KD = pairs(130)
    a_MD = a_MD[:50]
    if not rows_first:
        a_MD, b_KD = b_KD, a_MD
    masks: tuple[torch.Tensor | None, ...] = (None, None)
    if masked:
        masks = tuple(torch.rand(len(x), device=DEVICE) < 0.8 for x in (a_MD, b_KD))
        if offset is not None:  # both of a pair, or neither
            m = torch.arange(len(a_MD), device=DEVICE)
            m = m[(m + offset >= 0) & (m + offset < len(b_KD))]
            masks[0][m] = masks[1][m + offset]
    expected = rectangle(a_MD, b_KD, *masks, offset, 9.0)
    row, column = (statistics(len(x), torch.float32, DEVICE) for x in (a_MD, b_KD))
    scale = torch.tensor(9.0, device=DEVICE)
    tiles.fold_statistics(a_MD, b_KD, scale, *masks, row, column)
    lse = logsumexp(row), logsumexp(column)
    gradient_MK = tiles.gradient_block(a_MD, b_KD, scale, *masks, *lse, offset)
    products = torch.zeros_like(a_MD), torch.zeros_like(b_KD)
    tiles.add_products(gradient_MK, a_MD, b_KD, *products)
    for mask, actual, wanted in zip(masks, lse, expected[:2], strict=True):
        kept = slice(None) if mask is None else mask
        torch.testing.assert_close(actual[kept].double(), wanted[kept], rtol=1e-6, atol=1e-6)
    for actual, wanted in zip(products, expected[2:], strict=True):
        torch.testing.assert_close(actual.double(), wanted, rtol=1e-5, atol=1e-5)
    tiles.add_products(gradient_MK, a_MD, b_KD, products[0], None)
    torch.testing.assert_close(products[0].double(), 2 * expected[2], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_large_tiles")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", ["save", "chunked"])
@pytest.mark.parametrize("count", [256, 270])
def test_large_tiles(assert_as_accurate_as_torch: Callable[..., None], count: int, mode: str, masked: bool) -> None:
    """What batches beyond `tiles.SMALL` get, with padded blocks."""
    a_ND, b_ND = pairs(count, 32, torch.float16)
    chosen = tiles._tiles(a_ND, b_ND)
    assert min(chosen.BLOCK_M, chosen.BLOCK_K) >= 128
    mask_N = torch.rand(count, device=DEVICE) < 0.8 if masked else None
    tensors = (a_ND, b_ND, torch.tensor(14.0, device=DEVICE))
    assert_as_accurate_as_torch(operator(mask_N, mode=mode), *tensors, dtype=torch.float16)


# --- workspace ---


def held_bytes(call: Callable[[], None]) -> int:
    call()  # what is allocated once and for all
    if DEVICE.type == "cpu":
        return peak_bytes(call)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


@pytest.fixture
def _prompt_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interpreted kernels leave their arguments to the garbage collector: let it come after each."""

    def collected(*args: Any, **options: Any) -> None:
        launch(*args, **options)
        gc.collect()

    for module in (tiles, resident):
        monkeypatch.setattr(module, "launch", collected)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_prompt_interpreter")
@pytest.mark.parametrize(
    ("count", "mode", "workspace_bytes", "masked"),
    [
        (150, "save", SMALLEST_SAVED_BYTES, False),
        (150, "save", SMALLEST_SAVED_BYTES, True),
        (260, "chunked", 67_000, False),
        (150, "resident", 67_000, True),
    ],
)
def test_the_workspace_bound_is_kept(count: int, mode: str, workspace_bytes: int, masked: bool) -> None:
    width = 4
    leaves = [tensor.requires_grad_() for tensor in (*pairs(count, width), torch.tensor(5.0, device=DEVICE))]
    mask_N = torch.rand(count, device=DEVICE) < 0.9 if masked else None
    call = partial(triton, *leaves, row_mask=mask_N, mode=mode, workspace_bytes=workspace_bytes)
    held = held_bytes(lambda: call().backward())
    vectors = 16 * count * 4 + 12 * count * width * 4  # O(N) and O(N D), of float32
    assert held <= workspace_bytes + vectors
    if mode == "save":
        assert held > 4 * count**2


def test_a_mode_that_does_not_fit_is_an_error() -> None:
    a_ND, b_ND = (tensor.requires_grad_() for tensor in pairs(100, 520))
    with pytest.raises(ValueError, match=r"mode='save' takes at least \d+ bytes for 100 pairs"):
        triton(a_ND, b_ND, 2.0, mode="save", workspace_bytes=10_000)
    with pytest.raises(ValueError, match="mode='resident' has no kernel for rows of this width"):
        triton(a_ND, b_ND, 2.0, mode="resident")


def test_the_largest_blocks_hold_32_mib_of_partial_sums() -> None:
    for dtype, width in ((torch.bfloat16, 768), (torch.bfloat16, 100), (torch.float32, 768)):
        footprint = tiles.footprint(width, dtype)
        edge = tiles.saved_edge(tiles.SMALL + 1, width, dtype)
        assert footprint.row_block * footprint.column_block * 16 / edge == 2**25


# --- as a registered operator ---


@pytest.mark.parametrize("mode", MODES)
def test_opcheck(mode: str) -> None:
    a_ND, b_ND, scale = *pairs(9), torch.tensor(3.0, device=DEVICE)
    mask_N, needed = torch.arange(9, device=DEVICE) != 5, [True, True, True]
    if mode == "save":
        mask_N, needed = None, [False, True, False]
    blocks = mode, 128, 128
    leaves = [tensor.clone().requires_grad_() for tensor in (a_ND, b_ND, scale)]
    torch.library.opcheck(torch.ops.clamp_kernels.info_nce.default, (*leaves, mask_N, *blocks))
    _, *saved = op.forward(a_ND, b_ND, scale, mask_N, *blocks)
    arguments = torch.ones((), device=DEVICE), a_ND, b_ND, scale, mask_N, *saved, *blocks, needed
    torch.library.opcheck(torch.ops.clamp_kernels.info_nce_backward.default, arguments)


def test_traces_in_one_graph_for_any_number_of_pairs() -> None:
    def losses(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return sum(triton(a, b, scale, row_mask=mask, mode=mode) for mode in ("save", "resident"))

    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(recompile_limit=2):  # one graph for the first number, one for all others
        for count in (9, 17, 21):
            tensors = (*pairs(count), torch.tensor([3.0], device=DEVICE))
            mask_N = torch.arange(count, device=DEVICE) < 5
            actual = gradients(lambda *leaves, mask=mask_N: compiled(*leaves, mask), *tensors)
            expected = gradients(lambda *leaves, mask=mask_N: losses(*leaves, mask), *tensors)
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(("mode", "products"), [("save", (1, 2, 1)), ("chunked", (1, 3, 2)), ("resident", (1, 4, 2))])
def test_flops_are_those_of_the_products(mode: str, products: tuple[int, int, int]) -> None:
    """Forward; backward; backward of one gradient."""
    a_ND, b_ND = pairs(20)
    for needed, backward in (((True, True), products[1]), ((False, True), products[2])):
        leaves = [tensor.clone().requires_grad_(need) for tensor, need in zip((a_ND, b_ND), needed, strict=True)]
        with FlopCounterMode(display=False) as counter:
            triton(*leaves, 2.0, mode=mode).backward()
        assert counter.get_total_flops() == (products[0] + backward) * 2 * 20 * 20 * 16
