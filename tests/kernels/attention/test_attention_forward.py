"""The two forward kernels by themselves: short rows of 16 bits go through one, what else there is through the other."""

from __future__ import annotations

import math
import mmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from kernels import launch, philox, reference
from kernels.attention import forward as forward_module

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")  # of NaN, in numpy
BOTH = [(torch.float32, 70), (torch.float16, 70), (torch.float16, 300)]  # looped, whole, looped


def inputs(
    batch: int, heads: int, queries: int, keys: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, ...]:
    shapes = ((queries, width), (keys, width), (keys, width))
    return tuple(torch.randn(batch, heads, *shape).to(DEVICE, dtype) for shape in shapes)


def random_mask(batch: int, length: int) -> torch.Tensor:
    """About a third masked, at least one valid each."""
    mask = torch.rand(batch, length) > 0.35
    mask[:, length // 2] = True
    return mask.to(DEVICE)


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_mask: torch.Tensor | None = None,
    key_bias: torch.Tensor | None = None,
    scale: float = 0.25,
    dropout_p: float = 0.0,
    seed: int = 0,
    query_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """out, mass and lse."""
    seed_tensor = torch.tensor(seed, device=DEVICE) if dropout_p else None
    return forward_module.forward(q, k, v, key_mask, key_bias, scale, dropout_p, seed_tensor, True, query_mask)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    norm = expected.norm().item()
    return (actual.double() - expected).norm().item() / (norm or 1.0)


def joined(lse_BH2Q: torch.Tensor) -> torch.Tensor:
    """The logsumexp (B, H, Lq) float64 of its two parts, which are in bits."""
    return lse_BH2Q.double().sum(dim=2) * math.log(2)


@pytest.mark.parametrize(
    ("arch", "dtype", "queries", "keys", "mass", "dropout_p", "kernel"),
    [
        (90, torch.float16, 64, 197, False, 0.1, "row"),
        (90, torch.float16, 128, 257, True, 0.0, "row"),
        (90, torch.float16, 128, 257, False, 0.0, "loop"),
        (90, torch.float16, 128, 257, True, 0.1, "loop"),
        (90, torch.float16, 64, 273, True, 0.0, "loop"),
        (90, torch.float32, 64, 197, False, 0.0, "loop"),
        (80, torch.float16, 64, 197, False, 0.0, "loop"),
        (100, torch.float16, 64, 197, False, 0.0, "loop"),
    ],
)
def test_which_kernel_runs(
    arch: int, dtype: torch.dtype, queries: int, keys: int, mass: bool, dropout_p: float, kernel: str
) -> None:
    launched: list[str] = []
    q, k, v = (torch.empty(2, 3, length, 64, dtype=dtype, device="meta") for length in (queries, keys, keys))
    seed = torch.empty((), dtype=torch.int64, device="meta")
    with launch.observed(lambda kernel, *_: launched.append(kernel.fn.__name__), arch):
        forward_module.forward(q, k, v, None, None, 0.125, dropout_p, seed, mass, None)
    assert launched == [f"attention_fwd_{kernel}_kernel"] + ["attention_sum_kernel"] * mass


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    batch=st.integers(1, 2), heads=st.integers(1, 2), queries=st.sampled_from([1, 5, 64, 70]),
    keys=st.integers(1, 210), width=st.sampled_from([8, 16, 20, 32, 64]),
    scale=st.sampled_from([0.0, 0.3, -0.7]), dropout_p=st.sampled_from([0.0, 0.4]),
    seed=st.integers(-(2**63), 2**63 - 1), dtype=st.sampled_from([torch.float32, torch.float16]), data=st.data(),
)  # fmt: skip
def test_parity_with_everything_on(
    batch: int, heads: int, queries: int, keys: int, width: int, scale: float, dropout_p: float, seed: int,
    dtype: torch.dtype, data: st.DataObject,
) -> None:  # fmt: skip
    torch.manual_seed(seed % 1000)
    share = st.sampled_from([0.0, 0.5, 1.1])
    key_mask = (torch.rand(batch, keys) < data.draw(share, "share of valid keys")).to(DEVICE)
    query_mask = (torch.rand(batch, queries) < data.draw(share, "share of valid queries")).to(DEVICE)
    bias_BK = torch.randn(batch, keys).to(DEVICE)
    bias_BK[(torch.rand(batch, keys) < 0.2).to(DEVICE)] = -math.inf
    q, k, v = inputs(batch, heads, queries, keys, width, dtype)
    out, mass, _ = forward(q, k, v, key_mask, bias_BK, scale, dropout_p, seed, query_mask)
    wanted_out, wanted_mass = reference.cross_attention(
        q.double(), k.double(), v.double(), key_mask, bias_BK.double(), scale, dropout_p, seed, True, query_mask
    )
    # In 16 bits: the probabilities and the result are rounded, each by at most half a unit in the last place.
    assert relative_error(out, wanted_out) <= (1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps)
    assert relative_error(mass, wanted_mass) <= 1e-5


@pytest.mark.parametrize(("dtype", "keys"), BOTH)
def test_lse_is_the_logsumexp_of_the_valid_logits(dtype: torch.dtype, keys: int) -> None:
    q, k, v = inputs(2, 2, 5, keys, 16, dtype)
    mask, bias_BK = random_mask(2, keys), torch.randn(2, keys).to(DEVICE)
    mask[1] = False
    lse_BHQ = joined(forward(q, k, v, mask, bias_BK, -0.3)[2])
    logits_BHQK = -0.3 * q.double() @ k.double().mT + bias_BK[:, None, None]
    expected = logits_BHQK.masked_fill(~mask[:, None, None], -math.inf).logsumexp(dim=-1)
    torch.testing.assert_close(lse_BHQ[0], expected[0], rtol=1e-6, atol=1e-6)
    assert (lse_BHQ[1] == math.inf).all()


@pytest.mark.parametrize(("dtype", "keys"), BOTH)
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf])
def test_masked_keys_leak_nowhere(dtype: torch.dtype, keys: int, rubbish: float) -> None:
    q, k, v = inputs(2, 1, 5, keys, 16, dtype)
    mask, bias_BK = random_mask(2, keys), torch.randn(2, keys).to(DEVICE)
    mask[1] = False
    bias_BK[0, mask[0].nonzero()[0]] = -math.inf
    valid_BK = mask & (bias_BK != -math.inf)
    clean = forward(q, k, v, mask, bias_BK)
    dirty_k, dirty_v, dirty_bias_BK = k.clone(), v.clone(), bias_BK.clone()
    dirty_k.transpose(1, 2)[~valid_BK], dirty_v.transpose(1, 2)[~valid_BK] = rubbish, rubbish
    dirty_bias_BK[~mask] = rubbish
    dirty = forward(q, dirty_k, dirty_v, mask, dirty_bias_BK)
    assert all(map(torch.equal, clean, dirty))
    out, mass, _ = dirty
    assert out.isfinite().all()
    assert (out[1] == 0).all()
    assert (mass[~valid_BK] == 0).all()
    assert (mass[valid_BK] > 0).all()


@pytest.mark.parametrize(("dtype", "keys"), BOTH)
def test_all_logits_at_minus_120(dtype: torch.dtype, keys: int) -> None:
    _, k, v = inputs(1, 1, 3, keys, 16, dtype)
    q, k = torch.full_like(v[:, :, :3], -30.0), torch.ones_like(k)
    out, mass, lse = forward(q, k, v, torch.ones(1, keys, dtype=torch.bool, device=DEVICE))
    assert relative_error(out, v.double().mean(dim=2, keepdim=True).expand_as(out)) < 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(mass, torch.full_like(mass, 1 / keys))
    torch.testing.assert_close(joined(lse), torch.full((1, 1, 3), math.log(keys) - 120).to(joined(lse)))


@pytest.mark.parametrize(("dtype", "keys"), BOTH)
@pytest.mark.parametrize("bias", [-1e30, torch.finfo(torch.float32).min, 1e30])
def test_a_bias_beside_which_nothing_counts_gives_every_key_its_share(
    dtype: torch.dtype, keys: int, bias: float
) -> None:
    q, k, v = inputs(1, 1, 3, keys, 16, dtype)
    out, mass, _ = forward(q, k, v, None, torch.full((1, keys), bias, device=DEVICE))
    assert relative_error(out, v.double().mean(dim=2, keepdim=True).expand_as(out)) < 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(mass, torch.full_like(mass, 1 / keys))


@pytest.mark.parametrize(("dtype", "keys"), BOTH)
def test_mass_of_logits_of_a_hundred_thousand(dtype: torch.dtype, keys: int) -> None:
    """It adds up to 1 as if they were small: a logsumexp in one float32 number ends at a hundredth of a bit here."""
    q, k, v = inputs(2, 2, 5, keys, 16, dtype)
    mass = forward(q, k, v, random_mask(2, keys), scale=1e4)[1]
    torch.testing.assert_close(mass.sum(dim=1), torch.ones_like(mass[:, 0]), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("dtype", "queries", "keys"), [(torch.float32, 40, 70), (torch.float16, 130, 70), (torch.float16, 130, 300)]
)
def test_mass_is_a_mean_over_blocks_of_valid_queries_and_ignores_dropout(
    dtype: torch.dtype, queries: int, keys: int
) -> None:
    q, k, v = inputs(3, 1, queries, keys, 16, dtype)
    mask, query_mask = random_mask(3, keys), random_mask(3, queries)
    mask[1], query_mask[2] = False, False
    mass = forward(q, k, v, mask, query_mask=query_mask)[1]
    torch.testing.assert_close(mass.sum(dim=1).cpu(), torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(forward(q, k, v, mask, dropout_p=0.5, query_mask=query_mask)[1], mass)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("keys", [30, 64, 197, 600])
def test_dropout_drops_what_philox_says(keys: int, dtype: torch.dtype) -> None:
    """Values that are 1 in a column of their own make the output the kept probabilities of the last 128 keys."""
    first = max(0, keys - 128)
    q, k, v = inputs(1, 2, 4, keys, 128 if keys > 64 else 64, dtype)
    shown = v.shape[-1] if keys > first + v.shape[-1] else keys - first
    v.zero_()
    v[:, :, first : first + shown, :shown] = torch.eye(shown, device=DEVICE, dtype=dtype)
    kept_BHQK = forward(q / 4, k, v, dropout_p=0.4, seed=-77)[0][..., :shown]
    probs_BHQK = forward(q / 4, k, v)[0][..., :shown]
    shape_BHQK = torch.Size((1, 2, 4, keys))
    keep_BHQK = philox.attention_keep_mask(shape_BHQK, 0.4, -77, DEVICE)[..., first : first + shown]
    assert (probs_BHQK > 0).all()
    assert torch.equal(kept_BHQK > 0, keep_BHQK)
    expected = probs_BHQK[keep_BHQK].double() * philox.keep_scale(0.4)
    torch.testing.assert_close(
        kept_BHQK[keep_BHQK].double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=2**-24
    )  # fmt: skip


def test_rows_that_are_no_whole_tiles_waste_no_keys_of_the_next_sample() -> None:
    """Keys and values of one sample lie right before NaN."""
    for keys in (1, 16, 17, 49, 64, 65, 197):
        q, k, v = inputs(2, 1, 3, keys, 16, torch.float16)
        k[1], v[1] = math.nan, math.nan
        alone, _, _ = forward(q[:1], k[:1].clone(), v[:1].clone())
        together, _, _ = forward(q, k, v)
        assert torch.equal(together[0], alone[0])
        assert together[0].isfinite().all()


def test_out_is_laid_out_for_the_projection_after_it() -> None:
    out, mass, lse = forward(*inputs(2, 3, 5, 7, 16))
    assert out.shape == (2, 3, 5, 16)
    assert out.transpose(1, 2).is_contiguous()
    assert not out._is_view()  # a view would forbid to change it in place under autograd
    assert (mass.dtype, lse.dtype, lse.shape) == (torch.float32, torch.float32, (2, 3, 2, 5))


@pytest.mark.skipif(DEVICE.type != "cpu", reason="lies in memory that is only promised")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_further_apart_than_32_bits_reach(dtype: torch.dtype) -> None:
    no_reserve = 0x4000  # of Linux; Python has no name for it before 3.13
    stride = 2**31
    size = (stride + 16) * dtype.itemsize
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    q, k, v = inputs(1, 1, 3, 2, 16, dtype)
    far = torch.frombuffer(pages, dtype=dtype).as_strided((1, 1, 2, 16), (0, 0, stride, 1))
    far.copy_(k)
    assert all(map(torch.equal, forward(q, far, v), forward(q, k, v)))
