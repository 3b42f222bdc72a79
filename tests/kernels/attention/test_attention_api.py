"""Cross-attention: parity with the float64 reference, and the properties that its contract promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import kernels
from kernels import philox

PATHS = ["torch", "reference"]
# One of these leaves SDPA to the torch path, the others take its explicit softmax.
OPTIONS = {
    "plain": {},
    "mass": {"return_mass": True},
    "dropout": {"dropout_p": 0.3, "seed": 5},
    "both": {"return_mass": True, "dropout_p": 0.3, "seed": 5},
}


def inputs(batch: int, heads: int, queries: int, keys: int, width: int) -> tuple[torch.Tensor, ...]:
    q_BHQD = torch.randn(batch, heads, queries, width)
    return q_BHQD, torch.randn(batch, heads, keys, width), torch.randn(batch, heads, keys, width)


def random_mask(batch: int, length: int) -> torch.Tensor:
    """About a third masked, at least one valid each."""
    mask = torch.rand(batch, length) > 0.35
    mask[:, length // 2] = True
    return mask


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "key mask"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("width", [16, 59, 64, 128])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 239), (239, 1), (3, 130), (64, 197)])
def test_parity(
    assert_parity: Callable[..., None], queries: int, keys: int, width: int, options: dict, masked: bool
) -> None:
    if masked:
        options = options | {"key_mask": random_mask(2, keys)}
    assert_parity(
        lambda q, k, v, impl: kernels.cross_attention(q, k, v, **options, impl=impl),
        *inputs(2, 2, queries, keys, width),
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("width", [16, 32, 40, 59, 64, 80, 96, 128])
@pytest.mark.parametrize(
    ("queries", "keys"),
    [(1, 1), (1, 239), (239, 1), (3, 799), (799, 3), (64, 197), (97, 97), (113, 203), (128, 257), (257, 257)],
)
def test_parity_over_the_whole_grid(
    assert_parity: Callable[..., None], queries: int, keys: int, width: int, options: dict
) -> None:
    key_mask, query_mask, bias_BK = random_mask(2, keys), random_mask(2, queries), torch.randn(2, keys)
    if "return_mass" in options:
        options = options | {"query_mask": query_mask}
    assert_parity(
        lambda q, k, v, b, impl: kernels.cross_attention(q, k, v, key_mask=key_mask, key_bias=b, **options, impl=impl),
        *inputs(2, 2, queries, keys, width),
        bias_BK,
    )


@settings(deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    queries=st.integers(1, 9),
    keys=st.integers(1, 140),
    width=st.integers(1, 20),
    scale=st.sampled_from([None, 0.0, 0.7]),
    dropout_p=st.sampled_from([0.0, 0.4]),
    seed=st.integers(-(2**63), 2**63 - 1),
    data=st.data(),
)
def test_parity_with_everything_on(
    assert_parity: Callable[..., None],
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    width: int,
    scale: float | None,
    dropout_p: float,
    seed: int,
    data: st.DataObject,
) -> None:
    torch.manual_seed(seed % 1000)
    key_mask = torch.rand(batch, keys) < data.draw(st.sampled_from([0.0, 0.5, 1.1]), "share of valid keys")
    query_mask = torch.rand(batch, queries) < data.draw(st.sampled_from([0.0, 0.5, 1.1]), "share of valid queries")
    bias_BK = torch.randn(batch, keys)
    bias_BK[torch.rand(batch, keys) < 0.2] = -math.inf

    def operator(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, b: torch.Tensor, impl: str) -> tuple:
        return kernels.cross_attention(
            q,
            k,
            v,
            key_mask=key_mask,
            key_bias=b,
            scale=scale,
            dropout_p=dropout_p,
            seed=seed,
            return_mass=True,
            query_mask=query_mask,
            impl=impl,
        )

    assert_parity(operator, *inputs(batch, heads, queries, keys, width), bias_BK)


@pytest.mark.parametrize("mass", [False, True], ids=["out", "mass"])
@pytest.mark.parametrize(("dtype", "unit"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_precision_rounds_only_inputs_and_results(
    assert_parity: Callable[..., None], dtype: torch.dtype, unit: float, mass: bool
) -> None:
    mask_BK = random_mask(2, 130)
    assert_parity(
        lambda q, k, v, impl: kernels.cross_attention(q, k, v, key_mask=mask_BK, return_mass=mass, impl=impl),
        *inputs(2, 2, 33, 130, 64),
        tolerance=2 * unit,
        dtype=dtype,
    )


def test_a_float32_bias_keeps_its_digits_on_bfloat16_queries(assert_parity: Callable[..., None]) -> None:
    bias_BK = -9 * torch.rand(2, 130)
    q, k, v = (tensor.bfloat16() for tensor in inputs(2, 2, 33, 130, 64))
    expected = kernels.cross_attention(q.double(), k.double(), v.double(), key_bias=bias_BK, impl="reference")
    actual = kernels.cross_attention(q, k, v, key_bias=bias_BK)
    assert (actual - expected).norm() / expected.norm() < 2**-8


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("scale", [None, 0.6])
def test_equals_sdpa(impl: str, scale: float | None) -> None:
    q, k, v = inputs(2, 3, 7, 11, 16)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=scale)
    actual = kernels.cross_attention(q, k, v, scale=scale, impl=impl)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf])
def test_masked_keys_leak_nowhere(impl: str, options: dict, rubbish: float) -> None:
    q, k, v = inputs(3, 2, 5, 70, 16)
    key_mask, bias_BK = random_mask(3, 70), torch.randn(3, 70)
    key_mask[2] = False
    bias_BK[0, key_mask[0].nonzero()[0]] = -math.inf
    valid_BK = key_mask & (bias_BK != -math.inf)

    def run(fill: float) -> list[torch.Tensor]:
        leaves = [q.clone(), k.clone(), v.clone(), bias_BK.clone()]
        leaves[1].transpose(1, 2)[~valid_BK] = fill
        leaves[2].transpose(1, 2)[~valid_BK] = fill
        leaves[3][~key_mask] = fill
        for leaf in leaves:
            leaf.requires_grad_()
        result = kernels.cross_attention(*leaves[:3], key_mask=key_mask, key_bias=leaves[3], **options, impl=impl)
        outputs = list(result) if isinstance(result, tuple) else [result]
        sum((output.sin() * 3).sum() for output in outputs).backward()
        return outputs + [leaf.grad for leaf in leaves]

    for clean, dirty in zip(run(0.0), run(rubbish), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, dirty)
    out_BHQD, (dq, dk, dv, dbias_BK) = run(rubbish)[0], run(rubbish)[-4:]
    assert (out_BHQD[2] == 0).all()
    assert (dq[2] == 0).all()
    assert (dbias_BK[~valid_BK] == 0).all()
    assert (dbias_BK[valid_BK] != 0).all()
    for grad in (dk, dv):
        assert (grad.transpose(1, 2)[~valid_BK] == 0).all()
        assert (grad.transpose(1, 2)[valid_BK] != 0).any(dim=-1).float().mean() > 0.5


@pytest.mark.parametrize("impl", PATHS)
def test_masked_keys_leak_nowhere_without_a_bias(impl: str) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in inputs(2, 2, 5, 9, 16))
    key_mask = torch.ones(2, 9, dtype=torch.bool)
    key_mask[0, 3:], key_mask[1] = False, False
    with torch.no_grad():
        k[0, :, 3:], v[0, :, 3:], k[1], v[1] = math.nan, math.inf, math.nan, math.nan
    out_BHQD = kernels.cross_attention(q, k, v, key_mask=key_mask, impl=impl)
    expected = kernels.cross_attention(q[:1], k[:1, :, :3], v[:1, :, :3], impl=impl)
    torch.testing.assert_close(out_BHQD[:1], expected)
    out_BHQD.square().sum().backward()
    assert (out_BHQD[1] == 0).all()
    assert all(tensor.grad.isfinite().all() and (tensor.grad[1] == 0).all() for tensor in (q, k, v))
    assert (k.grad[0, :, 3:] == 0).all()
    assert (k.grad[0, :, :3] != 0).any()


@pytest.mark.parametrize("impl", PATHS)
def test_permuting_the_keys_changes_nothing(impl: str) -> None:
    q, k, v = (tensor.double() for tensor in inputs(2, 2, 5, 70, 16))
    key_mask, bias_BK, order = random_mask(2, 70), torch.randn(2, 70).double(), torch.randperm(70)
    out, mass_BK = kernels.cross_attention(q, k, v, key_mask=key_mask, key_bias=bias_BK, return_mass=True, impl=impl)
    moved_out, moved_mass_BK = kernels.cross_attention(
        q,
        k[:, :, order],
        v[:, :, order],
        key_mask=key_mask[:, order],
        key_bias=bias_BK[:, order],
        return_mass=True,
        impl=impl,
    )
    torch.testing.assert_close(moved_out, out)
    torch.testing.assert_close(moved_mass_BK, mass_BK[:, order])


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
def test_padding_the_keys_changes_nothing(impl: str, dropout_p: float) -> None:
    q, k, v = inputs(2, 2, 5, 197, 16)
    padded_k, padded_v = F.pad(k, (0, 0, 0, 59), value=9.0), F.pad(v, (0, 0, 0, 59), value=9.0)
    key_mask = torch.arange(256).expand(2, -1) < 197
    options = {"dropout_p": dropout_p, "seed": 3, "return_mass": True, "impl": impl}
    out, mass_BK = kernels.cross_attention(q, k, v, **options)
    padded_out, padded_mass_BK = kernels.cross_attention(q, padded_k, padded_v, key_mask=key_mask, **options)
    torch.testing.assert_close(padded_out, out)
    torch.testing.assert_close(padded_mass_BK[:, :197], mass_BK)
    assert (padded_mass_BK[:, 197:] == 0).all()


@pytest.mark.parametrize("impl", PATHS)
def test_mass_sums_to_one_and_is_what_is_left_of_dropout(impl: str) -> None:
    q, k, v = inputs(4, 2, 6, 50, 16)
    key_mask, query_mask = random_mask(4, 50), random_mask(4, 6)
    key_mask[1], query_mask[2] = False, False
    options = {"key_mask": key_mask, "query_mask": query_mask, "return_mass": True, "impl": impl}
    _, mass_BK = kernels.cross_attention(q, k, v, **options)
    assert mass_BK.dtype == torch.float32
    torch.testing.assert_close(mass_BK.sum(dim=1), torch.tensor([1.0, 0.0, 0.0, 1.0]))
    assert (mass_BK[~key_mask] == 0).all()
    assert torch.equal(kernels.cross_attention(q, k, v, dropout_p=0.5, **options)[1], mass_BK)


@pytest.mark.parametrize("impl", PATHS)
def test_mass_is_an_average_over_the_valid_queries_alone(impl: str) -> None:
    q, k, v = inputs(1, 3, 4, 10, 8)
    query_mask = torch.tensor([[True, False, False, True]])
    options = {"return_mass": True, "impl": impl}
    out, mass_BK = kernels.cross_attention(q, k, v, query_mask=query_mask, **options)
    alone_BK = torch.stack([kernels.cross_attention(q[:, :, i : i + 1], k, v, **options)[1] for i in (0, 3)])
    torch.testing.assert_close(mass_BK, alone_BK.mean(dim=0))
    assert torch.equal(out, kernels.cross_attention(q, k, v, **options)[0])


@pytest.mark.parametrize("impl", PATHS)
def test_no_valid_query_gives_the_mass_zero_gradients(impl: str) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in inputs(2, 2, 5, 9, 16))
    bias_BK = torch.randn(2, 9, requires_grad=True)
    query_mask = torch.zeros(2, 5, dtype=torch.bool)
    _, mass_BK = kernels.cross_attention(q, k, v, key_bias=bias_BK, query_mask=query_mask, return_mass=True, impl=impl)
    mass_BK.sin().sum().backward()
    assert all((tensor.grad == 0).all() for tensor in (q, k, bias_BK))


@pytest.mark.parametrize("impl", PATHS)
def test_one_key_takes_everything(impl: str) -> None:
    q, k, v = inputs(2, 2, 5, 1, 16)
    out, mass_BK = kernels.cross_attention(q, k, v, return_mass=True, impl=impl)
    assert torch.equal(out, v.expand_as(out))
    torch.testing.assert_close(mass_BK, torch.ones(2, 1))


@pytest.mark.parametrize("impl", PATHS)
def test_dropout_drops_what_philox_says(impl: str) -> None:
    """With the identity as values the output is the dropped probabilities themselves."""
    q, k, _ = inputs(2, 3, 4, 70, 16)
    v = torch.eye(70).expand(2, 3, 70, 70)
    q, k = F.pad(q, (0, 54)), F.pad(k, (0, 54))
    kept_BHQK = kernels.cross_attention(q, k, v, dropout_p=0.4, seed=77, impl=impl)
    probs_BHQK = kernels.cross_attention(q, k, v, impl=impl)
    keep_BHQK = philox.attention_keep_mask(kept_BHQK.shape, 0.4, 77, torch.device("cpu"))
    assert torch.equal(kept_BHQK != 0, keep_BHQK)
    torch.testing.assert_close(kept_BHQK[keep_BHQK], probs_BHQK[keep_BHQK] * 65536 / (65536 - 26214))


def test_dropout_repeats_and_reads_the_seed() -> None:
    q, k, v = inputs(2, 2, 5, 70, 16)
    first = kernels.cross_attention(q, k, v, dropout_p=0.5, seed=8)
    assert torch.equal(first, kernels.cross_attention(q, k, v, dropout_p=0.5, seed=8))
    assert torch.equal(first, kernels.cross_attention(q, k, v, dropout_p=0.5, seed=torch.tensor(8)))
    assert not torch.equal(first, kernels.cross_attention(q, k, v, dropout_p=0.5, seed=9))
    for impl in PATHS:
        with pytest.raises(ValueError, match=r"^dropout_p is 1\.0; it must be at least 0 and below 1$"):
            kernels.cross_attention(q, k, v, dropout_p=1.0, impl=impl)


@pytest.mark.parametrize("mass", [False, True], ids=["out", "mass"])
def test_large_logits(assert_parity: Callable[..., None], mass: bool) -> None:
    q, k, v = inputs(2, 2, 64, 197, 64)
    # Rounding a logit to float32 alone moves its probability by up to 2^-24 of the logit.
    largest_logit = 15 * (q @ k.mT).abs().max().item() / 8
    assert_parity(
        lambda q, k, v, impl: kernels.cross_attention(q, k, v, return_mass=mass, impl=impl),
        q * 5,
        k * 3,
        v,
        tolerance=2 * largest_logit * 2**-24,
    )


@pytest.mark.parametrize("impl", PATHS)
@pytest.mark.parametrize("mass", [False, True], ids=["out", "mass"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_all_logits_at_minus_120(impl: str, mass: bool, dtype: torch.dtype) -> None:
    v = torch.randn(2, 2, 9, 16, dtype=dtype)
    q, k, all_true = torch.full_like(v, -30), torch.ones_like(v), torch.ones(2, 9, dtype=torch.bool)
    result = kernels.cross_attention(q, k, v, key_mask=all_true, return_mass=mass, impl=impl)
    out = result[0] if isinstance(result, tuple) else result
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand_as(out))


@pytest.mark.parametrize("mass", [False, True], ids=["out", "mass"])
def test_strides_do_not_matter(mass: bool) -> None:
    q, k, v = inputs(2, 3, 5, 17, 8)
    key_mask = random_mask(2, 17)

    def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        result = kernels.cross_attention(*leaves, key_mask=key_mask, return_mass=mass)
        outputs = list(result) if mass else [result]
        # The gradient of a transposed sum comes in with strides of its own.
        sum(output.transpose(0, 1).contiguous().sin().sum() for output in outputs).backward()
        return outputs + [leaf.grad for leaf in leaves]

    heads_last = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (q, k, v)]
    width_first = [tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (q, k, v)]
    every_other = [tensor.repeat_interleave(2, dim=3)[..., ::2] for tensor in (q, k, v)]
    expected = run(q, k, v)
    for strided in (heads_last, width_first, every_other):
        for actual, wanted in zip(run(*strided), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", PATHS)
def test_gradcheck(impl: str) -> None:
    q, k, v = (tensor.double().requires_grad_() for tensor in inputs(2, 2, 3, 4, 2))
    bias_BK = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    key_mask = torch.tensor([[True, True, False, True], [False] * 4])
    query_mask = torch.tensor([[True, False, True], [True, True, True]])
    for dropout_p in (0.0, 0.4):
        torch.autograd.gradcheck(
            lambda q, k, v, b, p=dropout_p: kernels.cross_attention(
                q,
                k,
                v,
                key_mask=key_mask,
                key_bias=b,
                dropout_p=p,
                seed=1,
                return_mass=True,
                query_mask=query_mask,
                impl=impl,
            ),
            (q, k, v, bias_BK),
        )


def test_repeats_bit_for_bit() -> None:
    q, k, v = (tensor.requires_grad_() for tensor in inputs(2, 2, 33, 70, 16))
    bias_BK = torch.randn(2, 70, requires_grad=True)

    def run() -> list[torch.Tensor]:
        out, mass_BK = kernels.cross_attention(q, k, v, key_bias=bias_BK, dropout_p=0.1, seed=4, return_mass=True)
        objective = out.sin().sum() + mass_BK.sin().sum()
        return [out, mass_BK, *torch.autograd.grad(objective, (q, k, v, bias_BK))]

    first = run()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@pytest.mark.parametrize("index", range(4))
def test_each_input_may_be_the_only_one_to_need_a_gradient(index: int) -> None:
    tensors = [*inputs(1, 2, 5, 9, 16), torch.randn(1, 9)]

    def gradients(needed: Collection[int]) -> list[torch.Tensor | None]:
        leaves = [tensor.clone().requires_grad_(place in needed) for place, tensor in enumerate(tensors)]
        out, mass_BK = kernels.cross_attention(*leaves[:3], key_bias=leaves[3], return_mass=True, impl="torch")
        (out.sin().sum() + mass_BK.sin().sum()).backward()
        return [leaf.grad for leaf in leaves]

    everything, alone = gradients(range(4)), gradients([index])
    for place, (wanted, actual) in enumerate(zip(everything, alone, strict=True)):
        assert torch.equal(actual, wanted) if place == index else actual is None


@pytest.mark.parametrize("used", ["out", "mass"])
def test_either_output_may_be_unused(used: str) -> None:
    tensors = [*inputs(1, 2, 5, 9, 16), torch.randn(1, 9)]

    def gradients(impl: str) -> list[torch.Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        out, mass_BK = kernels.cross_attention(*leaves[:3], key_bias=leaves[3], return_mass=True, impl=impl)
        (out if used == "out" else mass_BK).sin().sum().backward()
        return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]

    for actual, expected in zip(gradients("torch"), gradients("reference"), strict=True):
        torch.testing.assert_close(actual, expected)


def test_with_and_without_a_derivative_the_outputs_agree() -> None:
    """SDPA computes the one, the explicit softmax the other."""
    q, k, v = inputs(2, 2, 5, 70, 16)
    mask_BK = random_mask(2, 70)
    mask_BK[1] = False
    with torch.no_grad():
        expected = kernels.cross_attention(q, k, v, key_mask=mask_BK)
    torch.testing.assert_close(kernels.cross_attention(q.requires_grad_(), k, v, key_mask=mask_BK), expected)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_traces_in_one_graph(options: dict) -> None:
    leaves = [tensor.requires_grad_() for tensor in (*inputs(2, 2, 5, 70, 16), torch.randn(2, 70))]
    key_mask, query_mask = random_mask(2, 70), random_mask(2, 5)
    options = options | {"seed": torch.tensor(3)}

    def operator(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias_BK: torch.Tensor) -> list[torch.Tensor]:
        results = [
            kernels.cross_attention(q, k, v, key_mask=key_mask, query_mask=query_mask, **options),
            kernels.cross_attention(q, k, v, key_mask=key_mask, key_bias=bias_BK, **options),
        ]
        return [part for result in results for part in (result if isinstance(result, tuple) else (result,))]

    def outputs_and_gradients(operator: Callable[..., list[torch.Tensor]]) -> list[torch.Tensor]:
        outputs = operator(*leaves)
        return [*outputs, *torch.autograd.grad(sum(output.sin().sum() for output in outputs), leaves)]

    traced = torch.compile(operator, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(outputs_and_gradients(traced), outputs_and_gradients(operator), strict=True):
        assert torch.equal(actual, expected)
    with torch.no_grad():
        for actual, expected in zip(traced(*leaves), operator(*leaves), strict=True):
            assert torch.equal(actual, expected)
