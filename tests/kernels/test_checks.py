"""What the operators refuse: wrong shapes, types and devices, in every implementation, with one line that says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels import dispatch, registry

triton_runs = dispatch.obstacle(torch.empty(0)) is None
IMPLS = ["torch", "reference", *(["triton"] if triton_runs else [])]
OPERATORS: dict[str, Callable[..., Any]] = {
    name: getattr(kernels, name) for name in ("cross_attention", "gated_residual_norm", "info_nce", "grouped_info_nce")
}


def right_arguments(name: str) -> dict[str, Any]:
    """A call that is in order, by the names of its arguments."""
    generator = torch.Generator().manual_seed(1)

    def floats(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    if name == "cross_attention":
        arguments: dict[str, Any] = {"q": floats(2, 3, 4, 8), "k": floats(2, 3, 5, 8), "v": floats(2, 3, 5, 8)}
        arguments |= {"key_mask": torch.tensor([[True] * 5, [True, False] * 2 + [True]]), "key_bias": floats(2, 5)}
        return arguments | {"return_mass": True, "query_mask": torch.ones(2, 4, dtype=torch.bool)}
    if name == "gated_residual_norm":
        arguments = {key: floats(2, 3, 8) for key in ("x", "residual", "gate_logits")}
        return arguments | {"weight": floats(8), "bias": floats(8)}
    if name == "info_nce":
        mask = torch.tensor([True, True, False, True])
        return {"a": floats(4, 8), "b": floats(4, 8), "scale": torch.tensor(2.0), "row_mask": mask}
    arguments = {"a": floats(2, 4, 8), "b": floats(2, 4, 8), "scale": torch.tensor(2.0)}
    return arguments | {"mask": torch.ones(2, 4, dtype=torch.bool), "weights": floats(2, 4).abs()}


WRONG = [  # operator, argument, what it is in place of what is right, and what is said
    ("cross_attention", "key_bias", torch.zeros(1, 5), r"key_bias is \(1, 5\) float32 on cpu; it must be \(2, 5\)"),
    ("cross_attention", "key_mask", torch.ones(2, 4, dtype=torch.bool), r"key_mask is \(2, 4\) bool .* \(2, 5\) bool"),
    ("cross_attention", "key_mask", torch.ones(2, 5), r"key_mask is \(2, 5\) float32 .* must be \(2, 5\) bool on cpu"),
    ("cross_attention", "v", torch.zeros(2, 3, 4, 8), r"v is \(2, 3, 4, 8\) float32 .* must be \(2, 3, 5, 8\) float32"),
    ("cross_attention", "k", torch.zeros(2, 1, 5, 8), r"k is \(2, 1, 5, 8\) float32 .* must be \(2, 3, 5, 8\) float32"),
    ("cross_attention", "k", torch.zeros(2, 3, 5, 8).half(), r"k is \(2, 3, 5, 8\) float16 .* float32 on cpu"),
    ("cross_attention", "k", torch.zeros(5, 8), r"k must be a tensor of \(2, 3, keys, 8\), as q is \(2, 3, 4, 8\)"),
    ("cross_attention", "q", torch.zeros(3, 4, 8), r"q is \(3, 4, 8\); it must have 4 axes, B, H, Q, D"),
    ("cross_attention", "q", torch.zeros(2, 3, 4, 0), r"q is \(2, 3, 4, 0\); its last axis must have at least one"),
    ("cross_attention", "q", torch.zeros(2, 3, 4, 8).long(), r"q is int64; it must be float16, bfloat16, float32 or"),
    ("cross_attention", "q", torch.zeros(2, 3, 4, 8, device="meta"), r"k is .* on cpu; it must be .* on meta"),
    ("cross_attention", "query_mask", torch.ones(2, 5, dtype=torch.bool), r"query_mask is \(2, 5\) bool .* \(2, 4\)"),
    ("cross_attention", "v", [[1.0]], r"v is a list; it must be a tensor"),
    ("cross_attention", "scale", torch.ones(()), r"scale is a Tensor; it must be a number"),
    ("gated_residual_norm", "weight", torch.ones(1), r"weight is \(1,\) float32 on cpu; it must be \(8,\) float32"),
    ("gated_residual_norm", "bias", torch.ones(8).half(), r"bias is \(8,\) float16 .* must be \(8,\) float32 on cpu"),
    ("gated_residual_norm", "residual", torch.ones(3, 8), r"residual is \(3, 8\) .* must be \(2, 3, 8\) float32"),
    ("gated_residual_norm", "x", torch.ones(()), r"x is \(\); its last axis must have at least one element"),
    ("info_nce", "b", torch.ones(3, 8), r"b is \(3, 8\) float32 on cpu; it must be \(4, 8\) float32 on cpu"),
    ("info_nce", "b", torch.ones(4, 7), r"b is \(4, 7\) float32 on cpu; it must be \(4, 8\) float32 on cpu"),
    ("info_nce", "row_mask", torch.ones(1, dtype=torch.bool), r"row_mask is \(1,\) bool .* must be \(4,\) bool"),
    ("info_nce", "scale", torch.ones(2), r"scale is \(2,\) float32; it must have one floating-point element"),
    ("info_nce", "scale", None, r"scale is None; it must be a number"),
    ("grouped_info_nce", "mask", torch.ones(1, 4, dtype=torch.bool), r"mask is \(1, 4\) bool .* be \(2, 4\) bool"),
    ("grouped_info_nce", "weights", torch.ones(2, 1), r"weights is \(2, 1\) float32 .* be \(2, 4\) floating point"),
    ("grouped_info_nce", "a", torch.ones(4, 8), r"a is \(4, 8\); it must have 3 axes, G, N, D"),
]  # fmt: skip


@pytest.mark.parametrize("impl", IMPLS)
def test_what_is_wrong_is_refused_in_one_line(impl: str) -> None:
    for name, argument, value, message in WRONG:
        with pytest.raises((ValueError, TypeError), match=rf"^({message})") as raised:
            OPERATORS[name](**right_arguments(name) | {argument: value}, impl=impl)
        assert "\n" not in str(raised.value), (name, argument)
    for name in ("cross_attention", "gated_residual_norm"):
        for seed in (2**63, 0.5, torch.tensor(0.5), torch.zeros(1, dtype=torch.int64)):
            with pytest.raises(ValueError, match=r"^seed is "):
                OPERATORS[name](**right_arguments(name), dropout_p=0.5, seed=seed, impl=impl)


def test_autocast_does_not_hide_that_types_differ() -> None:
    arguments = right_arguments("cross_attention")
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match=r"^k is .* float32 .* bfloat16 on"),
    ):
        kernels.cross_attention(**arguments | {"q": arguments["q"].bfloat16()})


def differentiable(name: str, impl: str) -> tuple[list[torch.Tensor], Any]:
    """The leaves, and the sum of what comes out."""
    arguments = right_arguments(name)
    if name == "info_nce" and impl == "torch":
        arguments["mode"] = "chunked"  # "save" is autograd's own, and has derivatives of every order
    names = [key for key, value in arguments.items() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    names = [key for key in names if key != "weights"]
    arguments |= {key: arguments[key].clone().requires_grad_() for key in names}
    result = OPERATORS[name](**arguments, impl=impl)
    outputs = result if isinstance(result, tuple) else (result,)
    return [arguments[key] for key in names], sum(output.sum() for output in outputs)


ONCE = [("cross_attention", "torch"), ("info_nce", "torch"), *((name, "triton") for name in OPERATORS if triton_runs)]


@pytest.mark.parametrize(("name", "impl"), ONCE)
def test_a_second_derivative_raises_where_the_first_came_from_a_constant(name: str, impl: str) -> None:
    leaves, objective = differentiable(name, impl)
    plain = torch.autograd.grad(objective, leaves, retain_graph=True)
    gradients = torch.autograd.grad(objective, leaves, create_graph=True)
    assert all(map(torch.equal, gradients, plain))
    with pytest.raises(RuntimeError, match=f"^{registry.ONCE}$"):
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), leaves)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("empty", ["B", "H", "Q", "K"])
def test_attention_without_a_sample_head_query_or_key(impl: str, empty: str) -> None:
    sizes = {"B": 2, "H": 3, "Q": 4, "K": 5} | {empty: 0}
    B, H, Lq, Lk = sizes.values()
    leaves = [
        torch.randn(shape, requires_grad=True) for shape in ((B, H, Lq, 8), (B, H, Lk, 8), (B, H, Lk, 8), (B, Lk))
    ]
    out, mass = kernels.cross_attention(*leaves[:3], key_bias=leaves[3], return_mass=True, impl=impl)
    gradients = torch.autograd.grad(out.sum() + mass.sum(), leaves)
    assert (out == 0).all()
    assert (mass == 0).all()
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert torch.equal(gradient, torch.zeros_like(leaf))


def test_a_kernel_runs_on_its_tensors_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [0]

    @contextmanager
    def made_current(device: torch.device) -> Iterator[None]:
        current.append(device.index)
        yield
        current.pop()

    class OnTheSecondGPU:
        is_cuda, dtype, device = True, torch.float32, torch.device("cuda", 1)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(dispatch, "obstacle", lambda tensor: None)
    x: Any = OnTheSecondGPU()
    assert dispatch.run("triton", {"triton": lambda tensor: current[-1]}, x) == 1
    assert current == [0]


MUTATIONS = st.sampled_from(
    ["nothing", "drop a row", "drop an axis", "add an axis", "to half", "to double", "to int", "to bool", "to meta",
     "transposed", "expanded", "every second", "to one"]
)  # fmt: skip


def mutated(x: torch.Tensor, mutation: str) -> torch.Tensor:
    if mutation in ("to half", "to double", "to int", "to bool"):
        return x.to({"half": torch.half, "double": torch.double, "int": torch.int64, "bool": torch.bool}[mutation[3:]])
    if mutation == "to meta":
        return x.to("meta")
    if mutation == "add an axis":
        return x[None]
    if not x.ndim:
        return x
    return {
        "nothing": lambda: x,
        "drop a row": lambda: x[1:],
        "drop an axis": lambda: x[0],
        "transposed": lambda: x.mT.contiguous().mT if x.ndim > 1 else x,
        "expanded": lambda: x[:1].expand_as(x),
        "every second": lambda: torch.stack([x, x], -1).flatten(-2)[..., ::2],
        "to one": lambda: x[..., :1],
    }[mutation]()


def outcome(name: str, arguments: dict[str, Any], impl: str) -> tuple[torch.Tensor, ...] | str:
    """What comes out, or what is said instead; any other error is a failure."""
    try:
        result = OPERATORS[name](**arguments, impl=impl)
    except (ValueError, TypeError, RuntimeError) as error:
        return str(error)
    return result if isinstance(result, tuple) else (result,)


def as_the_reference_or_refused(name: str, impl: str, argument: str, mutation: str) -> None:
    arguments = right_arguments(name)
    arguments[argument] = mutated(arguments[argument], mutation)
    actual, expected = (outcome(name, arguments, one) for one in (impl, "reference"))
    if isinstance(actual, str):
        # A kernel may refuse what the reference takes, and says so. All else is said by the checks, whoever computes.
        assert "\n" not in actual
        assert actual.startswith("impl='triton' cannot run here: ") or ("must" in actual and actual == expected)
        return
    assert not isinstance(expected, str), expected
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        if other.device.type != "meta":
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(name=st.sampled_from(list(OPERATORS)), mutation=MUTATIONS, data=st.data())
def test_whatever_is_given_the_torch_path_is_the_reference_or_refuses(
    name: str, mutation: str, data: st.DataObject
) -> None:
    given_tensors = [key for key, value in right_arguments(name).items() if isinstance(value, torch.Tensor)]
    as_the_reference_or_refused(name, "torch", data.draw(st.sampled_from(given_tensors)), mutation)


@pytest.mark.skipif(not triton_runs, reason="needs Triton, interpreted or on a GPU")
@settings(deadline=None, derandomize=True, max_examples=30)
@given(name=st.sampled_from(list(OPERATORS)), mutation=MUTATIONS, data=st.data())
def test_whatever_is_given_the_kernels_are_the_reference_or_refuse(
    name: str, mutation: str, data: st.DataObject
) -> None:
    given_tensors = [key for key, value in right_arguments(name).items() if isinstance(value, torch.Tensor)]
    as_the_reference_or_refused(name, "triton", data.draw(st.sampled_from(given_tensors)), mutation)


def test_a_scale_that_is_no_number_gives_none() -> None:
    """NaN is a number: what it makes is the caller's, and the same everywhere."""
    arguments = right_arguments("info_nce") | {"scale": math.nan}
    assert all(OPERATORS["info_nce"](**arguments, impl=impl).isnan() for impl in IMPLS)
