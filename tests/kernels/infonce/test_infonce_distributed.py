"""InfoNCE over a process group equals InfoNCE over the whole batch. Three processes run all cases, once."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

import kernels

sys.path.insert(0, str(Path(__file__).parents[1]))
import ring_ranks
from ring_ranks import CASES, Outcome

SECONDS = 120
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Outcome]]]:
    """Of each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=ring_ranks.run, args=(rank, folder, 1)) for rank in range(ring_ranks.WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * ring_ranks.WORLD
    return [torch.load(folder / f"{rank}.pt") for rank in range(ring_ranks.WORLD)]


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, size: float | None = None) -> None:
    """Frobenius norm of the difference, over that of what is expected or over `size`."""
    size = expected.norm().item() if size is None else size
    assert (actual.double() - expected).norm().item() <= tolerance * size


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.needed is None])
def test_equals_one_process(outcomes: list[dict[str, list[Outcome]]], name: str) -> None:
    case = CASES[name]
    ranks = [outcomes[rank][name][0] for rank in case.ranks]
    a_ND, b_ND, scale, mask_N = case.batch()
    leaves = [tensor.double().requires_grad_() for tensor in (a_ND, b_ND, scale)]
    expected_loss = kernels.info_nce(*leaves, row_mask=mask_N, impl="reference")
    expected = torch.autograd.grad(2 * expected_loss, leaves)

    for outcome in ranks:
        assert torch.equal(outcome["loss"], ranks[0]["loss"])
        assert_near(outcome["loss"], expected_loss, min(TOLERANCE[case.dtype], 1e-6))
    tolerance = TOLERANCE[case.dtype]
    for key, gradient_ND in zip("ab", expected, strict=False):
        assert [outcome[key].shape[0] for outcome in ranks] == list(case.counts)
        gathered_ND = torch.cat([outcome[key] for outcome in ranks])
        assert gathered_ND.dtype == case.dtype
        assert_near(gathered_ND, gradient_ND, tolerance)
        if mask_N is not None:
            assert (gathered_ND[~mask_N] == 0).all()
    share = torch.stack([outcome["scale"] for outcome in ranks])
    assert_near(share.sum(), expected[2], tolerance, size=max(gradient.norm().item() for gradient in expected))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.needed is not None])
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(
    outcomes: list[dict[str, list[Outcome]]], name: str
) -> None:
    for rank, needed in enumerate(CASES[name].needed or ()):
        outcome, complete = outcomes[rank][name][0], outcomes[rank]["three ranks"][0]
        for key, wanted in zip(("a", "b", "scale"), needed, strict=True):
            assert (outcome[key] is not None) == wanted
            assert not wanted or torch.equal(outcome[key], complete[key])


def test_a_repetition_is_the_same_to_the_bit_even_under_autocast(outcomes: list[dict[str, list[Outcome]]]) -> None:
    for rank in outcomes:
        for first, second in rank.values():
            for key, value in first.items():
                assert value is None or torch.equal(value, second[key])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "save"}, "mode='save' is for one process"),
        ({"impl": "reference"}, "impl='reference' is for one process"),
    ],
)
def test_what_a_group_does_not_have(options: dict[str, str], message: str) -> None:
    a_ND = torch.randn(4, 3)
    with pytest.raises(ValueError, match=message):
        kernels.info_nce(a_ND, a_ND, 2.0, group=object(), **options)
