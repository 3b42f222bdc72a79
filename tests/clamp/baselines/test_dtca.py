"""DTCA: its transport plan against linear programming, and which words and regions its losses read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import batch_of, tiny_config, tiny_model, tweets, without_images
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from clamp.baselines import Dtca
from clamp.baselines.dtca import alignment_loss, transport_plan


def exact_cost(cost_TR: np.ndarray) -> float:
    """The least cost of moving uniform mass on rows onto uniform mass on columns."""
    rows, columns = cost_TR.shape
    out_of = np.kron(np.eye(rows), np.ones(columns))
    into = np.kron(np.ones(rows), np.eye(columns))
    mass = np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)])
    return linprog(cost_TR.ravel(), A_eq=np.concatenate([out_of, into]), b_eq=mass, method="highs").fun


def cosine_costs(seed: int, rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    t_TD, r_RD = (torch.nn.functional.normalize(torch.randn(n, 6, generator=generator)) for n in (rows, columns))
    return 1.0 - t_TD @ r_RD.T


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 9), columns=st.integers(1, 9), padding=st.integers(0, 3))
def test_the_plan_moves_all_mass_at_nearly_the_least_cost(seed: int, rows: int, columns: int, padding: int) -> None:
    cost_TR = cosine_costs(seed, rows, columns)
    cost_BTR = torch.nn.functional.pad(cost_TR, (0, padding, 0, padding), value=-9.0)[None]  # cheap, but not there
    row_mask_BT = (torch.arange(rows + padding) < rows)[None]
    column_mask_BR = (torch.arange(columns + padding) < columns)[None]
    plan_BTR = transport_plan(cost_BTR, row_mask_BT, column_mask_BR)
    assert (plan_BTR >= 0).all()
    torch.testing.assert_close(plan_BTR[0, :rows].sum(dim=1), torch.full((rows,), 1 / rows), rtol=0.1, atol=0.0)
    torch.testing.assert_close(plan_BTR[0].sum(dim=0)[:columns], torch.full((columns,), 1 / columns))
    assert not plan_BTR[0, rows:].any()
    assert not plan_BTR[0, :, columns:].any()
    found = (plan_BTR[0, :rows, :columns] * cost_TR).sum().item()
    assert found == pytest.approx(exact_cost(cost_TR.numpy()), abs=0.03)


def test_the_plan_is_far_better_than_moving_everything_everywhere() -> None:
    cost_TR = cosine_costs(0, 8, 8)
    mask_BN = torch.ones(1, 8, dtype=torch.bool)
    found = (transport_plan(cost_TR[None], mask_BN, mask_BN)[0] * cost_TR).sum()
    least = exact_cost(cost_TR.numpy())
    assert found - least < 0.1 * (cost_TR.mean() - least)


def test_an_empty_side_moves_nothing() -> None:
    cost_BTR = torch.rand(2, 3, 4)
    row_mask_BT = torch.tensor([[True] * 3, [False] * 3])
    column_mask_BR = torch.tensor([[False] * 4, [True] * 4])
    assert not transport_plan(cost_BTR, row_mask_BT, column_mask_BR).any()


def test_words_lying_on_the_regions_cost_nothing_and_others_are_pulled() -> None:
    torch.manual_seed(0)
    regions_BRD = torch.randn(2, 5, 8)
    mask_BN = torch.ones(2, 5, dtype=torch.bool)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert alignment_loss(7.0 * regions_BRD[:, order], mask_BN, regions_BRD, mask_BN) < 0.01
    text_BTD, regions_BRD = torch.randn(2, 5, 8, requires_grad=True), regions_BRD.requires_grad_()
    loss = alignment_loss(text_BTD, mask_BN, regions_BRD, mask_BN)
    loss.backward()
    with torch.no_grad():
        for tensor in (text_BTD, regions_BRD):
            assert tensor.grad.any()
        moved = alignment_loss(text_BTD - 0.5 * text_BTD.grad, mask_BN, regions_BRD, mask_BN)
    assert moved < loss


def made() -> Dtca:
    model = tiny_model(tiny_config(model__architecture="dtca", model__dropout=0.0).model)
    assert isinstance(model, Dtca)
    return model


def test_it_has_no_gate() -> None:
    assert made().stage.gate is None


def test_alignment_is_over_tweets_with_an_image_and_over_words_only() -> None:
    model = made()
    some = tweets(3)
    mixed = batch_of(model, [some[0], *without_images(some[1:2]), some[2]])
    expected = []
    for b in (0, 2):
        batch = batch_of(model, [some[b]])
        output = model(batch)
        expected.append(model.losses(output, batch)["alignment"])
        t_TD, r_RD = (torch.nn.functional.normalize(x[0], dim=-1) for x in (output.text_BTD, output.regions_BRD))
        assert expected[-1].item() == pytest.approx(exact_cost((1 - t_TD @ r_RD.T).detach().numpy()), abs=0.03)
    torch.testing.assert_close(model.losses(model(mixed), mixed)["alignment"], torch.stack(expected).mean())


def test_without_images_alignment_is_absent() -> None:
    model = made()
    batch = batch_of(model, without_images(tweets(2)))
    assert list(model.losses(model(batch), batch)) == ["tagging", "text"]


def test_the_text_task_tags_from_the_words_before_fusion() -> None:
    model = made()
    batch = batch_of(model, tweets(3))
    output = model(batch)
    logits = model.text_tag_head(output.text_BTD)[batch.word_mask_BT]
    expected = torch.nn.functional.cross_entropy(logits, batch.tags_BT[batch.word_mask_BT])
    torch.testing.assert_close(model.losses(output, batch)["text"], expected)
