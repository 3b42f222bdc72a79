"""Cross-attention in Triton: parity, what its contract promises, and what torch knows of it.

Interpreted on a CPU, compiled where there is a GPU. The tests of attention_forward and attention_backward alone are
about their paths; here both run as a user meets them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("triton")

import kernels
from kernels import philox
from kernels.attention import op

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

LENGTHS = [(1, 1), (1, 239), (239, 1), (3, 799), (799, 3), (64, 197), (97, 97), (113, 203), (128, 257), (257, 257)]
WIDTHS = [16, 32, 40, 59, 64, 80, 96, 128]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mass": {"return_mass": True},
    "dropout": {"dropout_p": 0.3, "seed": 5},
    "both": {"return_mass": True, "dropout_p": 0.3, "seed": -5},
}


def inputs(queries: int, keys: int, width: int, batch: int = 1, heads: int = 1) -> tuple[torch.Tensor, ...]:
    shapes = ((queries, width), (keys, width), (keys, width))
    return tuple(torch.randn(batch, heads, *shape).to(DEVICE) for shape in shapes)


def random_mask(batch: int, length: int) -> torch.Tensor:
    """About a third masked, at least one valid each."""
    mask = torch.rand(batch, length) > 0.35
    mask[:, length // 2] = True
    return mask.to(DEVICE)


def attend(*tensors: torch.Tensor, impl: str = "triton", **options: Any) -> Any:
    """q, k, v and, where there is a fourth, key_bias."""
    q, k, v, *bias = tensors
    return kernels.cross_attention(q, k, v, key_bias=bias[0] if bias else None, impl=impl, **options)


def everything(tensors: tuple[torch.Tensor, ...], **options: Any) -> list[torch.Tensor]:
    """out, mass, and the gradients of a fixed function of both."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out, mass = attend(*leaves, return_mass=True, **options)
    objective = out.double().sin().sum() + mass.double().square().sum()
    return [out.detach(), mass.detach(), *torch.autograd.grad(objective, leaves)]


def check_parity(assert_parity: Callable[..., None], lengths: tuple[int, int], width: int, options: dict) -> None:
    queries, keys = lengths
    key_mask = random_mask(1, keys)
    if "return_mass" in options:
        options = options | {"query_mask": random_mask(1, queries)}
    bias_BK = torch.randn(1, keys).to(DEVICE)
    assert_parity(
        lambda *tensors, impl: attend(*tensors, key_mask=key_mask, impl=impl, **options),
        *inputs(queries, keys, width),
        bias_BK,
        impl="triton",
    )


@pytest.mark.parametrize("k", range(len(LENGTHS)), ids=map(str, LENGTHS))
def test_parity(assert_parity: Callable[..., None], k: int) -> None:
    """Every pair of lengths and, between them, every head width and every option; the rest of the grid is slow."""
    check_parity(assert_parity, LENGTHS[k], WIDTHS[k % len(WIDTHS)], list(OPTIONS.values())[k % 4])


@pytest.mark.parametrize("lengths", [(20, 70), (140, 70)])  # one kernel backward, and two
@pytest.mark.parametrize("bias", [-1e30, torch.finfo(torch.float32).min])
def test_a_bias_beside_which_nothing_counts_leaves_every_key_its_share(
    assert_parity: Callable[..., None], lengths: tuple[int, int], bias: float
) -> None:
    """The logarithm of the number of keys is lost beside it; probabilities of 1 would come of a sum with it."""
    assert_parity(
        lambda *tensors, impl: attend(
            *tensors, torch.full((1, lengths[1]), bias, device=DEVICE), return_mass=True, impl=impl
        ),
        *inputs(*lengths, 16, heads=2),
        impl="triton",
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_parity_over_the_whole_grid(
    assert_parity: Callable[..., None], lengths: tuple[int, int], width: int, options: dict
) -> None:
    check_parity(assert_parity, lengths, width, options)


@pytest.mark.parametrize("mass", [False, True], ids=["out", "mass"])
@pytest.mark.parametrize("lengths", [(64, 197), (97, 97), (3, 300)])
def test_half_precision_is_as_accurate_as_the_torch_path(
    assert_as_accurate_as_torch: Callable[..., None], lengths: tuple[int, int], mass: bool
) -> None:
    key_mask = random_mask(1, lengths[1])
    assert_as_accurate_as_torch(
        lambda *tensors, impl: attend(*tensors, key_mask=key_mask, return_mass=mass, impl=impl),
        *inputs(*lengths, 64),
        dtype=torch.float16,
    )


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", LENGTHS)
def test_bfloat16_is_as_accurate_as_the_torch_path(
    assert_as_accurate_as_torch: Callable[..., None], lengths: tuple[int, int]
) -> None:
    key_mask = random_mask(4, lengths[1])
    assert_as_accurate_as_torch(
        lambda *tensors, impl: attend(*tensors, key_mask=key_mask, return_mass=True, impl=impl),
        *inputs(*lengths, 64, batch=4, heads=3),
        dtype=torch.bfloat16,
    )


@settings(deadline=None, derandomize=True, max_examples=8)
@given(
    batch=st.integers(1, 2), heads=st.integers(1, 2), queries=st.integers(1, 70), keys=st.integers(1, 140),
    width=st.integers(1, 40), scale=st.sampled_from([None, 0.0, 0.7]), dropout_p=st.sampled_from([0.0, 0.4]),
    seed=st.integers(-(2**63), 2**63 - 1), data=st.data(),
)  # fmt: skip
def test_parity_with_everything_on(
    assert_parity: Callable[..., None], batch: int, heads: int, queries: int, keys: int, width: int,
    scale: float | None, dropout_p: float, seed: int, data: st.DataObject,
) -> None:  # fmt: skip
    torch.manual_seed(seed % 1000)
    key_mask = torch.rand(batch, keys) < data.draw(st.sampled_from([0.0, 0.5, 1.1]), "share of valid keys")
    query_mask = torch.rand(batch, queries) < data.draw(st.sampled_from([0.0, 0.5, 1.1]), "share of valid queries")
    bias_BK = torch.randn(batch, keys)
    bias_BK[torch.rand(batch, keys) < 0.2] = -math.inf
    assert_parity(
        lambda *tensors, impl: attend(
            *tensors, key_mask=key_mask.to(DEVICE), query_mask=query_mask.to(DEVICE), scale=scale,
            dropout_p=dropout_p, seed=seed, return_mass=True, impl=impl,
        ),
        *inputs(queries, keys, width, batch, heads),
        bias_BK.to(DEVICE),
        impl="triton",
    )  # fmt: skip


def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention and its mass as PyTorch computes them in the inputs' own precision, probabilities included."""
    probs_BHQK = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
    return probs_BHQK @ v, probs_BHQK.float().mean(dim=(1, 2))


def test_large_queries_and_keys_do_not_overflow(assert_parity: Callable[..., None]) -> None:
    """Against the rounding of such logits themselves.

    A float32 product of q and k is off by some A u, with A = scale sum_d |q_d k_d| and u = 2^-24, and the softmax makes
    that the relative error of a probability. By how much less than A u is chance: the order in which a machine's BLAS
    adds decides, and one implementation's luck is no measure of another's error.
    """
    q, k, v = inputs(64, 197, 64)
    q, k = 5 * q, 3 * k
    rounding = (q.abs() @ k.abs().mT).max().item() / 8 * torch.finfo(torch.float32).eps / 2
    assert rounding < 2e-5  # a product rounded to TF32 would be off by 2^13 times as much
    operator = partial(attend, return_mass=True)
    assert_parity(operator, q, k, v, impl="triton", tolerance=rounding)


def test_large_queries_and_keys_do_not_overflow_in_half_precision(
    assert_as_accurate_as_torch: Callable[..., None],
) -> None:
    q, k, v = inputs(64, 197, 64)

    def operator(*tensors: torch.Tensor, impl: str) -> Any:
        # The torch path keeps float32 inside: on rows this sharp that is another precision, not the same.
        return eager(*tensors) if impl == "torch" else attend(*tensors, return_mass=True, impl=impl)

    assert_as_accurate_as_torch(operator, 5 * q, 3 * k, v, dtype=torch.float16)


@pytest.mark.parametrize("keys", [197, 300])
def test_very_low_logits_are_a_softmax_like_any_other(assert_parity: Callable[..., None], keys: int) -> None:
    q, k, v = inputs(33, keys, 16)
    q, k = torch.zeros_like(q), torch.zeros_like(k)
    q[..., 0], k[..., 0] = 120.0, -1.0  # every logit is -120
    key_mask = torch.ones(1, keys, dtype=torch.bool, device=DEVICE)
    out, mass = attend(q, k, v, key_mask=key_mask, scale=1.0, return_mass=True)
    torch.testing.assert_close(mass, torch.full_like(mass, 1 / keys))
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand_as(out))


@pytest.mark.parametrize(("keys", "bad"), [(97, math.nan), (300, math.inf)])
def test_masked_keys_leak_nowhere_and_get_a_gradient_of_exactly_zero(keys: int, bad: float) -> None:
    q, k, v = inputs(33, keys, 40, batch=2)
    bias_BK, key_mask = torch.randn(2, keys).to(DEVICE), random_mask(2, keys)
    bias_BK[:, 3] = -math.inf  # which masks as well
    masked = ~key_mask | (bias_BK == -math.inf)
    clean = [torch.where(masked[:, None, :, None], 0.0, x) for x in (k, v)]
    dirty = [torch.where(masked[:, None, :, None], bad, x) for x in (k, v)]
    dirty_bias = torch.where(masked & (bias_BK != -math.inf), bad, bias_BK)
    options = {"key_mask": key_mask, "dropout_p": 0.2, "seed": 3}
    expected = everything((q, *clean, bias_BK), **options)
    actual = everything((q, *dirty, dirty_bias), **options)
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)
    _, mass, _, dk, dv, dbias = actual
    assert (mass[masked] == 0).all()
    assert (dk.transpose(1, 2)[masked] == 0).all()
    assert (dv.transpose(1, 2)[masked] == 0).all()
    assert (dbias[masked] == 0).all()
    assert (dk.transpose(1, 2)[~masked] != 0).any(dim=-1).all()


def test_a_sample_without_a_valid_key_or_query() -> None:
    q, k, v = inputs(20, 70, 16, batch=3)
    key_mask, query_mask = random_mask(3, 70), random_mask(3, 20)
    key_mask[1], query_mask[2] = False, False
    out, mass, *gradients = everything((q, k, v), key_mask=key_mask, query_mask=query_mask)
    assert (out[1] == 0).all()
    assert all((gradient[1] == 0).all() for gradient in gradients)
    assert (mass[1:] == 0).all()
    assert (out[2] != 0).all()
    torch.testing.assert_close(mass.sum(dim=1).cpu(), torch.tensor([1.0, 0.0, 0.0]))


def test_the_query_mask_changes_the_mass_alone() -> None:
    q, k, v = inputs(33, 70, 16)
    out, mass = attend(q, k, v, return_mass=True)
    other, other_mass = attend(q, k, v, return_mass=True, query_mask=random_mask(1, 33))
    assert torch.equal(out, other)
    assert not torch.allclose(mass, other_mass)
    assert torch.equal(out, attend(q, k, v))


def test_permuting_keys_permutes_what_they_get() -> None:
    q, k, v = inputs(33, 197, 40)
    bias_BK, key_mask = torch.randn(1, 197).to(DEVICE), random_mask(1, 197)
    order = torch.randperm(197).to(DEVICE)
    there = everything((q, k, v, bias_BK), key_mask=key_mask)
    back = everything((q, k[:, :, order], v[:, :, order], bias_BK[:, order]), key_mask=key_mask[:, order])
    permuted = [there[0], there[1][:, order], there[2], *(x[:, :, order] for x in there[3:5]), there[5][:, order]]
    for one, other in zip(back, permuted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_padding_the_keys_under_a_mask_changes_nothing() -> None:
    q, k, v = inputs(64, 197, 64)
    padded = [torch.cat([x, torch.full((1, 1, 59, 64), math.nan, device=DEVICE)], dim=2) for x in (k, v)]
    key_mask = (torch.arange(256, device=DEVICE) < 197)[None]
    short, long = everything((q, k, v)), everything((q, *padded), key_mask=key_mask)
    cut = [long[0], long[1][:, :197], long[2], *(x[:, :, :197] for x in long[3:])]
    for one, other in zip(cut, short, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_any_strides_of_inputs_and_gradients_give_the_same_bits() -> None:
    heads_last = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(33, 70, 24, batch=2, heads=2)]
    wide = torch.zeros(2, 2, 70, 48, device=DEVICE)
    wide[..., ::2] = heads_last[1]
    strided = [heads_last[0], wide[..., ::2], heads_last[2].flip(2).flip(2)]
    dense = [x.contiguous() for x in heads_last]
    assert not strided[0].is_contiguous()
    weights = torch.randn(2, 33, 2, 24).to(DEVICE).transpose(1, 2)  # a gradient of other strides than out's
    results = []
    for tensors, direction in ((strided, weights), (dense, weights.contiguous())):
        leaves = [x.detach().requires_grad_() for x in tensors]
        out, mass = attend(*leaves, return_mass=True)
        gradients = torch.autograd.grad([out, mass.sum()], leaves, [direction, torch.ones((), device=DEVICE)])
        results.append([out, mass, *gradients])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    leaf = dense[0].requires_grad_()
    attend(leaf, *dense[1:]).sum().backward()  # a gradient whose strides are all 0
    assert leaf.grad is not None


@pytest.mark.parametrize("keys", [60, 100, 197, 600])
def test_dropout_is_the_references_mask_bit_for_bit(keys: int) -> None:
    """Values that are unit vectors show every kept probability by itself, 128 of them at a time."""
    q, k, _ = inputs(20, keys, 128)
    keep_BHQK = philox.attention_keep_mask(torch.Size((1, 1, 20, keys)), 0.4, 11, DEVICE)
    probs_BHQK = (q @ k.mT / math.sqrt(128)).softmax(dim=-1)
    for start in range(0, keys, 128):
        width = min(128, keys - start)
        v = torch.zeros(1, 1, keys, 128, device=DEVICE)
        v[0, 0, start : start + width, :width] = torch.eye(width, device=DEVICE)
        out = attend(q, k, v, dropout_p=0.4, seed=11)[..., :width]
        kept = keep_BHQK[..., start : start + width]
        assert torch.equal(out != 0, kept)
        expected = probs_BHQK[..., start : start + width] * kept * philox.keep_scale(0.4)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("lengths", [(64, 197), pytest.param((130, 130), marks=pytest.mark.slow)])
def test_the_same_call_gives_the_same_bits_and_a_seed_tensor_is_a_seed(lengths: tuple[int, int]) -> None:
    tensors = (*inputs(*lengths, 16), torch.randn(1, lengths[1]).to(DEVICE))
    first = everything(tensors, dropout_p=0.3, seed=8)
    for seed in (8, torch.tensor(8, device=DEVICE)):
        assert all(map(torch.equal, everything(tensors, dropout_p=0.3, seed=seed), first))
    assert not torch.equal(everything(tensors, dropout_p=0.3, seed=9)[0], first[0])


@pytest.mark.gpu
def test_a_cuda_graph_follows_its_seed_tensor() -> None:
    tensors, seed = inputs(64, 197, 64, batch=2, heads=2), torch.tensor(1, device=DEVICE)
    everything(tensors, dropout_p=0.3, seed=seed)  # compiled before the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(tensors, dropout_p=0.3, seed=seed)
    for value in (4, 5):
        seed.fill_(value)
        graph.replay()
        assert all(map(torch.equal, captured, everything(tensors, dropout_p=0.3, seed=value)))


def operator_arguments(dropout_p: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Of the forward and of the backward operator, everything given."""
    q, k, v = inputs(5, 20, 8)
    bias_BK, key_mask, query_mask = torch.randn(1, 20).to(DEVICE), random_mask(1, 20), random_mask(1, 5)
    seed = torch.tensor(3, device=DEVICE) if dropout_p else None
    forward = (q, k, v, key_mask, bias_BK, 0.3, dropout_p, seed, True, query_mask)
    out, mass, lse = op._forward_op(*forward)
    return forward, (torch.randn_like(out), torch.randn_like(mass), out, lse, True, *forward)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_torch_accepts_the_operators(dropout_p: float) -> None:
    forward, backward = operator_arguments(dropout_p)
    torch.library.opcheck(op._backward_op, backward)
    q, k, v, key_mask, bias_BK, *rest = forward
    leaves = [x.clone().requires_grad_() for x in (q, k, v, bias_BK)]
    torch.library.opcheck(op._forward_op, (*leaves[:3], key_mask, leaves[3], *rest))


def test_it_traces_in_one_graph_and_counts_its_products() -> None:
    tensors, key_mask = (*inputs(33, 70, 16), torch.randn(1, 70).to(DEVICE)), random_mask(1, 70)

    def objective(*tensors: torch.Tensor) -> torch.Tensor:
        out, mass = attend(*tensors, key_mask=key_mask, return_mass=True)
        return out.sin().sum() + mass.square().sum()

    results = []
    for function in (objective, torch.compile(objective, fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in tensors]
        results.append(torch.autograd.grad(function(*leaves), leaves))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    leaves = [x.clone().requires_grad_() for x in tensors]
    with FlopCounterMode(display=False) as counter:
        objective(*leaves).backward()
    assert counter.get_total_flops() == (2 + 6) * 2 * 33 * 70 * 16


def test_only_the_gradients_asked_for_are_given_and_none_twice() -> None:
    q, k, v = inputs(5, 20, 8)
    q.requires_grad_()
    out = attend(q, k, v)
    out.sum().backward()
    assert q.grad is not None
    assert k.grad is v.grad is None
    mass_only = attend(*[x.detach().requires_grad_() for x in (q, k, v)], return_mass=True)[1]
    assert mass_only.requires_grad
    twice = torch.autograd.grad(attend(q, k, v).square().sum(), q, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiated once"):
        twice.sum().backward()


def test_what_triton_cannot_take_is_an_error_and_auto_takes_it_elsewhere() -> None:
    q, k, v = inputs(3, 5, 160)
    with pytest.raises(RuntimeError, match=r"head width 160 is above 128"):
        attend(q, k, v)
    assert attend(q, k, v, impl="auto").shape == q.shape
    with pytest.raises(RuntimeError, match="float64"):
        attend(*(x.double() for x in inputs(3, 5, 16)))
    q, k, v = inputs(3, 5, 16)
    with pytest.raises(ValueError, match=r"k is .* float16 on cpu; it must be .* float32"):
        attend(q, k.half(), v)
