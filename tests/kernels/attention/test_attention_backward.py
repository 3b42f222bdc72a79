"""The Triton backward of cross-attention, interpreted, against autograd through the float64 reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from kernels import launch, reference
from kernels.attention import api, configs, tiles
from kernels.attention.backward import allocate, backward
from kernels.attention.configs import BackwardConfig, LoopConfig
from kernels.attention.inputs import Inputs

ONE_KERNEL = BackwardConfig(LoopConfig(32, 32, 4, 1))
TWO_KERNELS = BackwardConfig(LoopConfig(16, 64, 4, 1), LoopConfig(32, 32, 4, 1))
GRADIENTS = ("dq", "dk", "dv", "dbias")


@dataclass(frozen=True)
class Problem:
    """A call of cross-attention, and the gradients of its outputs."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    dout: torch.Tensor
    key_mask: torch.Tensor | None = None
    key_bias: torch.Tensor | None = None
    query_mask: torch.Tensor | None = None
    dmass: torch.Tensor | None = None
    scale: float = 0.25
    dropout_p: float = 0.0
    seed: int = 5

    def reference(self) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """out, the logits' logsumexp in two parts (`tiles.load_lse`), and the gradients, all in float64."""
        tensors = (self.q, self.k, self.v, *(() if self.key_bias is None else (self.key_bias,)))
        leaves = [tensor.double().requires_grad_() for tensor in tensors]
        q, k, _, bias = (*leaves, None)[:4]
        out, mass = reference.cross_attention(
            *leaves[:3], self.key_mask, bias, self.scale, self.dropout_p, self.seed, True, self.query_mask
        )
        objective = (out * self.dout).sum()
        if self.dmass is not None:
            objective = objective + (mass * self.dmass).sum()
        gradients = torch.autograd.grad(objective, leaves)

        valid = api._valid_keys(self.key_mask, self.key_bias)
        logits = self.scale * q.detach() @ k.detach().mT
        if bias is not None:
            logits = logits + bias.detach()[:, None, None, :]
        if valid is not None:
            logits = logits.masked_fill(~valid[:, None, None, :], -math.inf)
        top = logits.amax(dim=-1)
        sum = (logits.logsumexp(dim=-1) - top).nan_to_num(0.0)
        lse = torch.stack([top.masked_fill(top == -math.inf, math.inf), sum], dim=2) / math.log(2)
        return out.detach(), lse, dict(zip(GRADIENTS, gradients, strict=False))

    def backward(self, out: torch.Tensor, lse: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the kernels make of it."""
        inputs = Inputs(
            self.q, self.k, self.v, self.key_mask, self.key_bias, self.scale, self.dropout_p,
            torch.tensor(self.seed) if self.dropout_p else None, self.dmass is not None, self.query_mask,
        )  # fmt: skip
        gradients = backward(
            self.dout, self.dmass, out.to(self.q.dtype), lse.float(), self.key_bias is not None, *inputs
        )
        named = dict(zip(GRADIENTS, gradients, strict=True))
        if self.key_bias is None:
            assert named.pop("dbias").shape == (0,)
        return named


def problem(
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    width: int,
    features: str = "",
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """features: any of "mask", "bias", "mass", "query mask", "dropout", in a text."""

    def rows(length: int) -> torch.Tensor:
        return torch.randn(batch, length, heads, width).transpose(1, 2).to(dtype)

    return Problem(
        rows(queries),
        rows(keys),
        rows(keys),
        rows(queries),
        key_mask=random_mask(batch, keys) if "key mask" in features else None,
        key_bias=torch.randn(batch, keys) if "bias" in features else None,
        query_mask=random_mask(batch, queries) if "query mask" in features else None,
        dmass=torch.randn(batch, keys) if "mass" in features else None,
        scale=1 / math.sqrt(width),
        dropout_p=0.3 if "dropout" in features else 0.0,
    )


def random_mask(batch: int, length: int) -> torch.Tensor:
    """About a third masked, at least one valid each."""
    mask = torch.rand(batch, length) > 0.35
    mask[:, length // 2] = True
    return mask


def errors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """Frobenius norm of each difference, over the expected one's or, where that cancels to nothing, the largest."""
    assert actual.keys() == expected.keys()
    norms = {name: tensor.norm().item() for name, tensor in expected.items()}
    largest = max(norms.values())
    found = {}
    for name, norm in norms.items():
        difference = (actual[name].double() - expected[name]).norm().item()
        found[name] = difference / (norm if norm > 1e-9 * largest else largest) if difference else 0.0
    return found


def assert_parity(a: Problem, tolerance: float = 1e-5) -> None:
    out, lse, expected = a.reference()
    found = errors(a.backward(out, lse), expected)
    assert all(error <= tolerance for error in found.values()), found


@pytest.fixture(params=["one kernel", "two kernels"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way to the gradients, whatever the shape would choose."""

    def chosen(arch: int, dtype: torch.dtype, Lq: int, D: int, mass: bool, dropout: bool) -> BackwardConfig:
        if request.param == "two kernels":
            return TWO_KERNELS
        return BackwardConfig(LoopConfig(max(32, 1 << (Lq - 1).bit_length()), 32, 4, 1))

    monkeypatch.setattr(configs, "backward", chosen)


EVERYTHING = "key mask, bias, mass, query mask, dropout"


@pytest.mark.parametrize(
    ("queries", "keys", "width", "features"),
    [
        (1, 1, 16, EVERYTHING),
        (1, 139, 40, EVERYTHING),
        (33, 1, 32, "mass, bias"),
        (3, 530, 16, EVERYTHING),  # two calls of Philox a query
        (64, 197, 64, ""),
        (64, 197, 64, "key mask, dropout"),
        (50, 97, 59, "bias, mass, query mask"),
    ],
)
@pytest.mark.usefixtures("path")
def test_parity(queries: int, keys: int, width: int, features: str) -> None:
    assert_parity(problem(1, 2 if queries < 50 else 1, queries, keys, width, features))


@pytest.mark.parametrize(
    ("queries", "keys", "width", "features"),
    [
        (20, 70, 80, "key mask, mass"),
        (30, 90, 32, "bias, dropout"),
        (130, 20, 16, EVERYTHING),
        (40, 33, 128, ""),
        (20, 33, 100, EVERYTHING),
    ],
)
def test_parity_on_the_chosen_path(queries: int, keys: int, width: int, features: str) -> None:
    assert_parity(problem(2, 1, queries, keys, width, features))


@pytest.mark.slow
@pytest.mark.parametrize("features", ["", EVERYTHING])
@pytest.mark.parametrize("width", [16, 32, 40, 59, 64, 80, 96, 128])
@pytest.mark.parametrize(
    ("queries", "keys"),
    [(1, 1), (1, 239), (239, 1), (3, 799), (799, 3), (64, 197), (97, 97), (113, 203), (128, 257), (257, 257)],
)
@pytest.mark.usefixtures("path")
def test_parity_over_the_whole_grid(queries: int, keys: int, width: int, features: str) -> None:
    assert_parity(problem(1, 1, queries, keys, width, features))


@settings(deadline=None, derandomize=True, max_examples=8)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    queries=st.integers(1, 40),
    keys=st.integers(1, 90),
    width=st.integers(1, 20),
    scale=st.sampled_from([0.0, 0.7, -0.3]),
    dropout_p=st.sampled_from([0.0, 0.4]),
    seed=st.integers(-(2**63), 2**63 - 1),
    two_kernels=st.booleans(),
    data=st.data(),
)
def test_parity_with_everything_on(
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    width: int,
    scale: float,
    dropout_p: float,
    seed: int,
    two_kernels: bool,
    data: st.DataObject,
) -> None:
    torch.manual_seed(seed % 1000)
    key_mask = torch.rand(batch, keys) < data.draw(st.sampled_from([0.0, 0.5, 1.1]), "share of valid keys")
    query_mask = torch.rand(batch, queries) < data.draw(st.sampled_from([0.0, 0.5, 1.1]), "share of valid queries")
    a = replace(
        problem(batch, heads, queries, keys, width, "bias, mass"),
        key_mask=key_mask,
        query_mask=query_mask,
        scale=scale,
        dropout_p=dropout_p,
        seed=seed,
    )
    a.key_bias[torch.rand(batch, keys) < 0.2] = -math.inf
    with pytest.MonkeyPatch.context() as patch:
        if two_kernels:
            patch.setattr(configs, "backward", lambda *_: TWO_KERNELS)
        else:
            patch.setattr(configs, "backward", lambda *_: BackwardConfig(LoopConfig(64, 16, 4, 1)))
        out, lse, expected = a.reference()
        actual = a.backward(out, lse)
    for name, found in errors(actual, expected).items():
        assert found <= 1e-5, (name, found)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "features"),
    [
        (32, 49, 64, "key mask"),
        (64, 130, 64, "bias, mass"),
        (128, 60, 64, "dropout"),
        (40, 60, 128, EVERYTHING),
        (130, 40, 64, EVERYTHING),
    ],
)
def test_half_precision_errs_at_most_three_times_as_much_as_pytorch(
    queries: int, keys: int, width: int, features: str
) -> None:
    a = problem(1, 2, queries, keys, width, features, torch.float16)
    out, lse, expected = a.reference()
    actual = errors(a.backward(out, lse), expected)

    leaves = [tensor.detach().requires_grad_() for tensor in (a.q, a.k, a.v, a.key_bias) if tensor is not None]
    bias = leaves[3] if a.key_bias is not None else None
    torch_out, torch_mass = api.cross_attention(
        *leaves[:3],
        key_mask=a.key_mask,
        key_bias=bias,
        scale=a.scale,
        dropout_p=a.dropout_p,
        seed=a.seed,
        return_mass=True,
        query_mask=a.query_mask,
        impl="torch",
    )
    objective = (torch_out.float() * a.dout.float()).sum()
    if a.dmass is not None:
        objective = objective + (torch_mass * a.dmass).sum()
    gradients = dict(zip(GRADIENTS, torch.autograd.grad(objective, leaves), strict=False))
    for name, allowed in errors(gradients, expected).items():
        assert actual[name] <= 3 * max(allowed, 2**-13), (name, actual[name], allowed)


@pytest.mark.usefixtures("path")
def test_large_logits() -> None:
    a = problem(1, 1, 20, 70, 32, "mass")
    assert_parity(replace(a, q=5 * a.q, k=3 * a.k))


@pytest.mark.usefixtures("path")
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
def test_logits_that_are_all_low_leave_absent_keys_out() -> None:
    """Were a key beyond the last given a logit of 0, its probability would overflow."""
    a = problem(1, 1, 20, 70, 16, "key mask, mass")
    q, k = torch.zeros_like(a.q), torch.zeros_like(a.k)
    q[..., 0], k[..., 0] = 30.0, -16.0  # their product is -480, and a quarter of it -120
    a = replace(a, q=q, k=k, key_mask=torch.ones_like(a.key_mask))
    out, lse, expected = a.reference()
    found = errors(a.backward(out, lse), expected)
    assert found["dv"] <= 1e-5
    assert max(found.values()) <= 1e-4  # of logits in float32, of which 8e-6 is the last bit


@pytest.mark.usefixtures("path")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_masked_keys_hold_reaches_nothing() -> None:
    a = problem(2, 1, 20, 70, 16, EVERYTHING)
    a.key_bias[:, ::7] = -math.inf
    a.key_mask[1] = False  # a sample without a valid key
    masked = ~a.key_mask | (a.key_bias == -math.inf)
    out, lse, expected = a.reference()
    assert (lse[1, :, 0] == math.inf).all()
    clean = a.backward(out, lse)
    k, v = (
        tensor.masked_fill(masked[:, None, :, None], poison) for tensor, poison in ((a.k, math.nan), (a.v, math.inf))
    )
    bias = a.key_bias.masked_fill(~a.key_mask, math.nan)
    dmass = a.dmass.masked_fill(masked, math.inf)
    actual = replace(a, k=k, v=v, key_bias=bias, dmass=dmass).backward(out, lse)
    for name in GRADIENTS:
        assert torch.equal(actual[name], clean[name]), name
        assert actual[name][1].count_nonzero() == 0, name
    for name in ("dk", "dv"):
        assert actual[name].transpose(1, 2)[masked].count_nonzero() == 0
    assert actual["dbias"][masked].count_nonzero() == 0
    assert max(errors(actual, expected).values()) <= 1e-5


@pytest.mark.usefixtures("path")
def test_a_mass_without_a_valid_query_has_no_gradient() -> None:
    a = problem(1, 1, 20, 33, 16, "bias, mass")
    none = replace(a, query_mask=torch.zeros(1, 20, dtype=torch.bool))
    out, lse, _ = a.reference()
    without, expected = none.backward(out, lse), replace(a, dmass=None).backward(out, lse)
    for name in GRADIENTS:
        torch.testing.assert_close(without[name], expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("path")
def test_strides_change_nothing() -> None:
    a = problem(2, 2, 10, 30, 16, EVERYTHING)
    a = replace(a, k=a.k[:, :1].expand_as(a.k), dout=torch.ones(()).expand_as(a.dout))
    out, lse, _ = a.reference()
    plain = replace(a, **{name: getattr(a, name).contiguous() for name in ("q", "k", "v", "dout")})
    expected = plain.backward(out, lse)
    strided = replace(
        a,
        q=a.q.mT.contiguous().mT,
        v=torch.stack((a.v, a.v), dim=3)[..., 1, :],
        key_mask=a.key_mask.T.contiguous().T,
        key_bias=torch.stack((a.key_bias, a.key_bias), dim=2)[..., 0],
        query_mask=a.query_mask.T.contiguous().T,
        dmass=a.dmass.T.contiguous().T,
    )
    actual = strided.backward(out.transpose(1, 2).contiguous().transpose(1, 2), lse)
    for name in GRADIENTS:
        assert torch.equal(actual[name], expected[name]), name


def test_gradients_lie_in_memory_as_their_inputs_do() -> None:
    a = problem(2, 3, 5, 6, 16, "bias")
    inputs = Inputs(a.q, a.k.contiguous(), a.v[:, :1].expand_as(a.v), None, a.key_bias, 1.0, 0.0, None, False, None)
    gradients = allocate(None, None, None, None, True, *inputs)
    assert gradients[0].stride() == a.q.stride() != a.q.contiguous().stride()
    assert gradients[1].stride() == a.k.contiguous().stride()
    assert gradients[2].shape == a.v.shape
    assert gradients[3].shape == a.key_bias.shape
    assert gradients[3].dtype == a.key_bias.dtype


@pytest.mark.slow
def test_offsets_pass_two_to_the_31() -> None:
    """The second sample's keys lie 4 GiB behind the first's; only what is touched is memory."""
    a = problem(2, 1, 4, 20, 16, "", torch.float16)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        far = torch.empty(2**31 + 20 * 16, dtype=torch.float16)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True
    k = far.as_strided(a.k.shape, (2**31, 20 * 16, 16, 1))
    k.copy_(a.k)
    out, lse, _ = a.reference()
    actual, expected = replace(a, k=k).backward(out, lse), a.backward(out, lse)
    for name in ("dq", "dk", "dv"):
        assert torch.equal(actual[name], expected[name]), name


@pytest.mark.usefixtures("path")
def test_runs_repeat_bit_for_bit() -> None:
    a = problem(1, 2, 20, 70, 16, EVERYTHING)
    out, lse, _ = a.reference()
    first, second = a.backward(out, lse), a.backward(out, lse)
    for name in GRADIENTS:
        assert torch.equal(first[name], second[name]), name


def test_dropout_needs_a_seed_and_no_dropout_none() -> None:
    with pytest.raises(ValueError, match="there is no seed"):
        tiles.dropout_of(0.5, None)
    assert tiles.dropout_of(1e-6, None) is None  # rounds to a probability of 0


@given(keys=st.integers(1, 1500), block_k=st.sampled_from([16, 32, 64]), shared=st.integers(1, 8))
def test_tiles_hold_every_key_once(keys: int, block_k: int, shared: int) -> None:
    def first_key(tile: int) -> int:
        block, lane = tiles.key_place.fn(tile, block_k, shared)
        return 64 * block + lane

    count = tiles.tile_count(keys, block_k, shared)
    firsts = [first_key(tile) for tile in range(count)]
    assert len(set(firsts)) == count
    assert all(first % block_k == 0 for first in firsts)
    assert {key // block_k * block_k for key in range(keys)} <= set(firsts)
    assert first_key(count - 1) < keys
    for start in range(0, count - shared + 1, shared):  # those that share a call
        assert {first_key(tile) - firsts[start] for tile in range(start, start + shared)} == {
            *range(0, 64 * shared, 64)
        }


def launched(arch: int, dtype: torch.dtype, queries: int, width: int, features: str) -> list[str]:
    names: list[str] = []
    observer: Callable[..., None] = lambda kernel, *_: names.append(kernel.fn.__name__)  # noqa: E731
    a = problem(1, 1, queries, 70, width, features, dtype)
    to_meta = {name: value.to("meta") for name, value in vars(a).items() if isinstance(value, torch.Tensor)}
    with launch.observed(observer, arch):
        replace(a, **to_meta).backward(a.dout.to("meta"), torch.empty(1, 1, queries, device="meta"))
    return names


def test_the_path_by_shape_and_architecture() -> None:
    by_queries, by_keys = "attention_bwd_queries_kernel", "attention_bwd_keys_kernel"
    half = torch.bfloat16
    for arch in (80, 90, 100):
        for queries in (1, 32, 64, 128):
            assert launched(arch, half, queries, 64, "mass, query mask, dropout") == [by_queries]
        assert launched(arch, half, 128, 64, "bias") == [by_queries, "attention_sum_kernel"]
        assert launched(arch, half, 129, 64, "mass") == [by_queries, by_keys]
        assert launched(arch, half, 64, 128, "") == [by_queries]
        assert launched(arch, torch.float32, 32, 64, "") == [by_queries]
        assert launched(arch, torch.float32, 64, 64, "") == [by_queries, by_keys]
    assert launched(90, half, 128, 128, "") == [by_queries]
    assert launched(80, half, 65, 128, "") == [by_queries, by_keys]


def test_one_program_takes_all_queries_where_there_is_one_kernel() -> None:
    dtypes, widths, either = (torch.float16, torch.bfloat16, torch.float32), (16, 59, 64, 65, 72, 100, 128), (0, 1)
    for arch, dtype, width, mass, dropout in product((80, 86, 90, 100, 120), dtypes, widths, either, either):
        for queries in range(1, 200):
            config, second = configs.backward(arch, dtype, queries, width, bool(mass), bool(dropout))
            assert second is not None or config.block_q >= queries


def test_without_dropout_hopper_takes_64_keys_at_a_time() -> None:
    """For fewer, products of keys with queries fall back to Ampere's instructions."""

    def keys(queries: int, mass: bool, dropout: bool, arch: int = 90, dtype: torch.dtype = torch.bfloat16) -> int:
        return configs.backward(arch, dtype, queries, 64, mass, dropout).by_queries.block_k

    assert [keys(33, mass, False) for mass in (False, True)] == [64, 64]
    assert [keys(128, mass, False) for mass in (False, True)] == [32, 64]
    others = keys(64, True, True), keys(32, True, False), keys(64, True, False, 80), keys(64, True, False, 100)
    assert max(*others, keys(64, True, False, 90, torch.float32)) <= 32
