"""On a machine without Triton, such as one with macOS or Windows, the operators run in PyTorch, and say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels

_HIDDEN = "import sys; sys.modules['triton'] = None  # as if it were not installed\n"

_OPERATORS = """
import torch
import kernels

torch.manual_seed(0)
q_BHQD, k_BHKD, v_BHKD = (torch.randn(2, 3, length, 8, requires_grad=True) for length in (4, 5, 5))
a_ND, b_ND = (torch.randn(6, 8, requires_grad=True) for _ in range(2))
a_GND, b_GND = (torch.randn(3, 4, 8, requires_grad=True) for _ in range(2))
weight_D = torch.ones(8, requires_grad=True)
operators = {
    "cross_attention": lambda impl: kernels.cross_attention(
        q_BHQD, k_BHKD, v_BHKD, dropout_p=0.2, seed=3, return_mass=True, impl=impl
    )[0].sum(),
    "gated_residual_norm": lambda impl: kernels.gated_residual_norm(
        a_ND, b_ND, a_ND, weight_D, weight_D, dropout_p=0.2, seed=3, impl=impl
    ).square().sum(),
    "info_nce": lambda impl: sum(
        kernels.info_nce(a_ND, b_ND, 5.0, mode=mode, impl=impl) for mode in ("auto", "chunked", "resident")
    ),
    "grouped_info_nce": lambda impl: kernels.grouped_info_nce(a_GND, b_GND, 5.0, impl=impl),
}
for name, operator in operators.items():
    operator("auto").backward()
    torch.testing.assert_close(operator("auto"), operator("reference"))
    try:
        operator("triton")
    except RuntimeError as error:
        assert "triton is not installed" in str(error), error
    else:
        raise AssertionError(f"{name} ran in Triton")
assert all(x.grad.isfinite().all() for x in (q_BHQD, k_BHKD, v_BHKD, a_ND, b_ND, a_GND, b_GND, weight_D))
print("ran", *operators)
"""

_COMMANDS = """
import kernels.bench.__main__
from kernels.inspect.__main__ import main

assert main([]) == 2
"""


def run(program: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(kernels.__file__).parents[1])}
    environment["TRITON_INTERPRET"] = "1" if interpret else "0"
    return subprocess.run([sys.executable, "-c", _HIDDEN + program], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("interpret", [False, True])
def test_the_operators_run_in_pytorch_and_refuse_the_kernels(interpret: bool) -> None:
    done = run(_OPERATORS, interpret)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran cross_attention gated_residual_norm info_nce grouped_info_nce\n"


def test_the_tools_import_and_say_what_is_missing() -> None:
    done = run(_COMMANDS, False)
    assert done.returncode == 0, done.stderr
    assert "triton is not installed" in done.stderr
