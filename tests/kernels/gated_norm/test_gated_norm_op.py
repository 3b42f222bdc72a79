"""The stage's tail in Triton: parity, the same dropout bit for bit, any strides, and what torch knows of it.

Interpreted on a CPU, compiled where there is a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

import kernels  # noqa: E402
from kernels import philox  # noqa: E402
from kernels.gated_norm import kernels as kernel_module  # noqa: E402
from kernels.gated_norm import op  # noqa: E402
from kernels.launch import launch  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """x, residual, gate_logits, weight and bias."""
    shapes = (shape, shape, shape, shape[-1:], shape[-1:])
    return [torch.randn(shape).to(DEVICE, dtype) for shape in shapes]


def run(*tensors: torch.Tensor | None, impl: str = "triton", **options: object) -> torch.Tensor:
    """With a gate, or with four tensors without one."""
    x, residual, *gate, weight_D, bias_D = tensors
    gate_logits = gate[0] if gate else None
    return kernels.gated_residual_norm(x, residual, gate_logits, weight_D, bias_D, impl=impl, **options)


def gradients(tensors: list[torch.Tensor], **options: object) -> list[torch.Tensor]:
    """The output, and the gradients of a fixed function of it."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = run(*leaves, **options)
    return [out.detach(), *torch.autograd.grad(out.double().sin().sum(), leaves)]


def ungated(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [*tensors[:2], *tensors[3:]]


@pytest.mark.parametrize("gated", [True, False], ids=["gate", "no gate"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(8,), (37, 59), (2, 3, 64), (2, 0, 16), (3, 300), (3, 768)])
def test_parity(assert_parity: Callable[..., None], shape: tuple[int, ...], dropout_p: float, gated: bool) -> None:
    tensors = inputs(*shape)
    assert_parity(
        lambda *tensors, impl: run(*tensors, dropout_p=dropout_p, seed=-7, impl=impl),
        *(tensors if gated else ungated(tensors)),
        impl="triton",
    )


@settings(deadline=None, derandomize=True, max_examples=8)
@given(
    rows=st.integers(1, 40),
    width=st.integers(8, 140),
    dropout_p=st.floats(0, 0.9),
    gated=st.booleans(),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_parity_over_shapes(
    assert_parity: Callable[..., None], rows: int, width: int, dropout_p: float, gated: bool, seed: int
) -> None:
    torch.manual_seed(seed % 1000)
    tensors = inputs(rows, width)
    # eps bounds the condition number of rows that have almost no variance.
    assert_parity(
        lambda *tensors, impl: run(*tensors, eps=0.1, dropout_p=dropout_p, seed=seed, impl=impl),
        *(tensors if gated else ungated(tensors)),
        impl="triton",
    )


@pytest.mark.parametrize("shape", [(21, 59), (3, 768)])
def test_half_precision(assert_as_accurate_as_torch: Callable[..., None], shape: tuple[int, ...]) -> None:
    assert_as_accurate_as_torch(
        lambda *tensors, impl: run(*tensors, dropout_p=0.1, seed=3, impl=impl), *inputs(*shape), dtype=torch.float16
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("width", [16, 40, 123, 128, 256, 257, 384, 511, 512, 1000, 1024, 1030, 2048, 4096])
def test_parity_over_a_grid(
    assert_parity: Callable[..., None],
    assert_as_accurate_as_torch: Callable[..., None],
    width: int,
    dtype: torch.dtype,
) -> None:
    for rows, dropout_p, gated in itertools.product((1, 3, 9), (0.0, 0.1), (True, False)):
        tensors = inputs(rows, width) if gated else ungated(inputs(rows, width))

        def operator(*tensors: torch.Tensor, impl: str, dropout_p: float = dropout_p) -> torch.Tensor:
            return run(*tensors, dropout_p=dropout_p, seed=5, impl=impl)

        if dtype == torch.float32:
            assert_parity(operator, *tensors, impl="triton")
        else:
            assert_as_accurate_as_torch(operator, *tensors, dtype=dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(64, 768), (5, 59), (1000, 384)])
def test_bfloat16(assert_as_accurate_as_torch: Callable[..., None], shape: tuple[int, ...]) -> None:
    assert_as_accurate_as_torch(
        lambda *tensors, impl: run(*tensors, dropout_p=0.1, seed=3, impl=impl), *inputs(*shape), dtype=torch.bfloat16
    )


@pytest.mark.parametrize("width", [1, 2, 5])
def test_widths_below_one_call_of_philox(width: int) -> None:
    tensors = inputs(9, width)
    options = {"eps": 1.0, "dropout_p": 0.5, "seed": 1}
    for actual, expected in zip(
        gradients(tensors, **options), gradients(tensors, **options, impl="torch"), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_widest_row_and_one_beyond() -> None:
    tensors = inputs(1, 4096)
    torch.testing.assert_close(run(*tensors), run(*tensors, impl="torch"), rtol=1e-5, atol=1e-5)
    too_wide = inputs(1, 4097)
    with pytest.raises(RuntimeError, match=r"rows of 4097 elements are wider than 4096"):
        run(*too_wide)
    assert torch.equal(run(*too_wide, impl="auto"), run(*too_wide, impl="torch"))


def test_float32_weights_on_half_precision_rows() -> None:
    tensors = inputs(4, 100, dtype=torch.float16)
    tensors[3:] = inputs(4, 100)[3:]
    results = gradients(tensors, dropout_p=0.2, seed=2)
    assert [result.dtype for result in results] == [torch.float16] * 4 + [torch.float32] * 2
    for actual, expected in zip(results, gradients(tensors, dropout_p=0.2, seed=2, impl="torch"), strict=True):
        assert (actual - expected).double().norm() <= 2**-11 * expected.double().norm()


def test_large_offsets_cancel_in_float32() -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(5, 70)
    tensors = [x, residual + 1000, gate_logits, weight_D, bias_D]
    exact = run(*(tensor.double() for tensor in tensors), impl="reference")
    assert (run(*tensors).double() - exact).norm() <= 1e-4 * exact.norm()  # inputs are rounded to 6e-5 of a deviation


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # as it should, on its way to a sigmoid of 0
@pytest.mark.parametrize("impl", ["triton", "torch"])
def test_closed_and_open_gates_at_the_limits(impl: str) -> None:
    x, residual, _, weight_D, bias_D = inputs(3, 32)
    for logit, summand in ((-200.0, 0), (200.0, x)):
        gate_logits = torch.full_like(x, logit)
        out, dx, *_, dgate, _, _ = gradients([x, residual, gate_logits, weight_D, bias_D], impl=impl)
        plain = torch.nn.functional.layer_norm(residual + summand, (32,), weight_D, bias_D)
        torch.testing.assert_close(out, plain)
        assert (dgate == 0).all()
        assert ((dx == 0) == (logit < 0)).all()


@pytest.mark.parametrize("shape", [(3, 7, 59), (70, 16), (2, 1000)])
def test_drops_what_philox_says(shape: tuple[int, ...]) -> None:
    tensors = inputs(*shape)
    _, dx, dresidual, dgate, *_ = gradients(tensors, dropout_p=0.4, seed=2**40 + 6)
    rows = tensors[0].numel() // shape[-1]
    keep = philox.row_keep_mask(rows, shape[-1], 0.4, 2**40 + 6, DEVICE).view(shape)
    assert torch.equal(dx != 0, keep)
    assert torch.equal(dgate != 0, keep)
    expected = dresidual * tensors[2].sigmoid() * keep * philox.keep_scale(0.4)
    torch.testing.assert_close(dx, expected, rtol=1e-5, atol=1e-7)


@triton.jit
def keep_kernel(p_seed, p_keep, first_row, threshold, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    b_row_M1 = (tl.arange(0, ROWS).to(tl.int64) + tl.load(first_row))[:, None]
    b_keep = kernel_module.keep_mask(tl.load(p_seed), b_row_M1, threshold, COLUMNS)
    tl.store(p_keep + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :], b_keep)


@pytest.mark.parametrize("first_row", [0, 2**31 - 2, 2**33 - 1])
def test_rows_beyond_32_bits_have_their_own_mask(first_row: int) -> None:
    seed = torch.tensor(-(2**50) - 1, device=DEVICE)
    keep = torch.empty(4, 16, dtype=torch.bool, device=DEVICE)
    limit = philox.threshold(0.5)
    launch(
        keep_kernel, (1,), seed, keep, torch.tensor(first_row, device=DEVICE), limit, ROWS=4, COLUMNS=16, num_warps=1
    )
    row = (first_row + torch.arange(4, device=DEVICE))[:, None]
    block = torch.arange(2, device=DEVICE)[None, :]
    words = philox.philox4x32((block, row & 0xFFFFFFFF, row >> 32, torch.zeros_like(row)), seed)
    halves = torch.stack([half for word in words for half in (word & 0xFFFF, word >> 16)], dim=2)
    assert torch.equal(keep, halves.view(4, 16) >= limit)


def test_seeds_are_numbers_or_tensors() -> None:
    tensors = inputs(4, 40)
    first = run(*tensors, dropout_p=0.5, seed=8)
    seed = torch.tensor(8, device=DEVICE)
    assert torch.equal(first, run(*tensors, dropout_p=0.5, seed=seed))
    seed += 1
    assert not torch.equal(first, run(*tensors, dropout_p=0.5, seed=seed))
    assert torch.equal(run(*tensors, dropout_p=1e-6, seed=seed), run(*tensors))  # rounds to no dropout at all


def test_any_strides_give_the_same_bits() -> None:
    plain = inputs(3, 5, 24)
    expected = gradients(plain, dropout_p=0.2, seed=4)
    strided = [
        torch.randn(3, 5, 30, device=DEVICE)[..., 3:27],
        torch.empty(5, 3, 24, device=DEVICE).transpose(0, 1),
        torch.empty(3, 5, 48, device=DEVICE)[..., ::2],
        torch.empty(24, 2, device=DEVICE)[:, 0],
        torch.empty(48, device=DEVICE)[1::2],
    ]
    for view, tensor in zip(strided, plain, strict=True):
        view.copy_(tensor)
        assert not view.is_contiguous()
    for actual, exact in zip(gradients(strided, dropout_p=0.2, seed=4), expected, strict=True):
        assert torch.equal(actual, exact)


def test_expanded_inputs_and_output_gradients() -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(6, 24)
    row = residual[:1].requires_grad_()
    run(x, row.expand(6, 24), gate_logits, weight_D, bias_D).sum().backward()
    actual, row.grad = row.grad, None
    run(x, row.expand(6, 24), gate_logits, weight_D, bias_D, impl="torch").sum().backward()
    torch.testing.assert_close(actual, row.grad, rtol=1e-4, atol=1e-5)


def test_programs_that_take_several_tiles(assert_parity: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_MULTIPROCESSORS", {80: 1})
    # 512 columns are two rows a tile: four programs share 19 tiles, and one tile has a single row.
    assert op._most_backward_programs(DEVICE, 4) == 4
    assert_parity(lambda *tensors, impl: run(*tensors, impl=impl), *inputs(37, 500), impl="triton")


@pytest.mark.parametrize("programs", [0, 1, 300])
def test_partial_sums_are_added_up(programs: int) -> None:
    partials = torch.randn(programs, 2, 11, device=DEVICE)
    dweight, dbias = torch.empty(2, 11, device=DEVICE)
    launch(
        kernel_module.gated_norm_bwd_sum_kernel, (2,), partials, dweight, dbias, programs,
        WIDTH=11, ROWS=256, COLUMNS=8, num_warps=8,
    )  # fmt: skip
    torch.testing.assert_close(torch.stack([dweight, dbias]), partials.sum(dim=0), rtol=1e-5, atol=1e-5)


def test_repeats_bit_for_bit() -> None:
    tensors = inputs(5, 260, dtype=torch.float16)
    first = gradients(tensors, dropout_p=0.1, seed=3)
    for _ in range(2):
        assert all(map(torch.equal, gradients(tensors, dropout_p=0.1, seed=3), first))


def test_gradients_that_nobody_asked_for_are_not_there() -> None:
    tensors = inputs(4, 16)
    tensors[3].requires_grad_()
    run(*tensors).sum().backward()
    assert tensors[3].grad is not None
    assert all(tensor.grad is None for index, tensor in enumerate(tensors) if index != 3)


@pytest.mark.parametrize("features", ["gate and dropout", "neither"])
def test_registered_operators(features: str) -> None:
    x, residual, gate_logits, weight_D, bias_D = inputs(4, 20)
    gate, seed = (gate_logits, torch.tensor(5, device=DEVICE)) if features == "gate and dropout" else (None, None)
    dropout_p = 0.0 if seed is None else 0.3
    leaves = [tensor.clone().requires_grad_() for tensor in (x, residual, weight_D, bias_D)]
    forward = torch.ops.clamp_kernels.gated_residual_norm.default
    torch.library.opcheck(forward, (*leaves[:2], gate, *leaves[2:], 1e-5, dropout_p, seed))
    out, mean_M, rstd_M = forward(x, residual, gate, weight_D, bias_D, 1e-5, dropout_p, seed)
    torch.library.opcheck(
        torch.ops.clamp_kernels.gated_residual_norm_backward.default,
        (out, x, residual, gate, weight_D, bias_D, mean_M, rstd_M, dropout_p, seed),
    )


def test_traces_in_one_graph_and_counts_no_matrix_products() -> None:
    tensors = [tensor.requires_grad_() for tensor in inputs(2, 3, 20)]
    traced = torch.compile(run, fullgraph=True, backend="aot_eager")
    for seed in (torch.tensor(3, device=DEVICE), torch.tensor(4, device=DEVICE)):
        options = {"dropout_p": 0.3, "seed": seed}
        outputs = [function(*tensors, **options) for function in (traced, run)]
        assert torch.equal(*outputs)
        grads = [torch.autograd.grad(output.sin().sum(), tensors) for output in outputs]
        assert all(map(torch.equal, *grads))
    with FlopCounterMode(display=False) as counter:
        run(*tensors).sum().backward()
    assert counter.get_total_flops() == 0


@pytest.mark.gpu
def test_a_cuda_graph_reads_the_seed_at_every_replay() -> None:
    tensors = inputs(64, 768, dtype=torch.bfloat16)
    seed = torch.tensor(1, device=DEVICE)
    run(*tensors, dropout_p=0.3, seed=seed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(*tensors, dropout_p=0.3, seed=seed)
    for number in (1, 2):
        seed.fill_(number)
        graph.replay()
        assert torch.equal(out, run(*tensors, dropout_p=0.3, seed=number))
