"""Which implementation runs, and in which precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import kernels
from kernels import dispatch


def call(name: str, impl: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(3)
    x_BHND = torch.randn(2, 2, 5, 8, dtype=dtype)
    operators: dict[str, Callable[[], torch.Tensor]] = {
        "cross_attention": lambda: kernels.cross_attention(
            x_BHND, x_BHND.flip(0), x_BHND.flip(1), key_bias=x_BHND[:, 0, :, 0], impl=impl
        ),
        "gated_residual_norm": lambda: kernels.gated_residual_norm(
            x_BHND, x_BHND.flip(0), x_BHND.flip(1), x_BHND[0, 0, 0], x_BHND[0, 0, 1], impl=impl
        ),
        "info_nce": lambda: kernels.info_nce(x_BHND[0, 0], x_BHND[1, 0], 3.0, impl=impl),
        "grouped_info_nce": lambda: kernels.grouped_info_nce(x_BHND[0], x_BHND[1], 3.0, impl=impl),
    }
    return operators[name]()


OPERATORS = ["cross_attention", "gated_residual_norm", "info_nce", "grouped_info_nce"]


@pytest.mark.parametrize("name", OPERATORS)
def test_auto_is_torch_on_a_cpu_and_reference_is_reachable(name: str) -> None:
    assert torch.equal(call(name, "auto"), call(name, "torch"))
    torch.testing.assert_close(call(name, "torch"), call(name, "reference"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_triton_where_it_cannot_run_is_an_error_and_no_fallback(name: str) -> None:
    reason = "the kernels compute in float32 at most, and the input is torch.float64"
    with pytest.raises(RuntimeError, match=rf"^impl='triton' cannot run here: {reason}; impl='auto' picks what can$"):
        call(name, "triton", torch.float64)


@pytest.mark.parametrize("name", OPERATORS)
def test_unknown_names_list_the_choices(name: str) -> None:
    with pytest.raises(ValueError, match=r"^impl is 'cuda'; the choices are 'auto', 'triton', 'torch', 'reference'$"):
        call(name, "cuda")


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_autocast_does_not_lower_the_precision(name: str, impl: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = call(name, impl)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, call(name, impl))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OPERATORS)
def test_result_types(name: str, dtype: torch.dtype) -> None:
    result = torch.float32 if name.endswith("info_nce") else dtype
    assert call(name, "torch", dtype).dtype == call(name, "reference", dtype).dtype == result


def test_a_triton_kernel_would_be_auto_on_cuda_only() -> None:
    implementations = {"torch": lambda _: "torch", "triton": lambda _: "triton"}
    assert dispatch.run("auto", implementations, torch.empty(1)) == "torch"
    assert dispatch.run("triton", implementations, torch.empty(1)) == "triton"
