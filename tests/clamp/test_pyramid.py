"""The region pyramid against loops over grid positions."""

from __future__ import annotations

import pytest
import torch

from clamp.pyramid import Grid, RegionPyramid, pooled_members, regions_of

GRIDS: list[Grid] = [(8, 8), (5, 3), (3, 4), (1, 6), (1, 5), (1, 1), (2, 1), (7, 7)]


def expected_members(grid: Grid) -> list[list[int]]:
    """Blocks of 2 x 2, or of two along a sequence, found patch by patch."""
    rows, columns = grid
    blocks: dict[tuple[int, int], list[int]] = {}
    for row in range(rows):
        for column in range(columns):
            block = (0, column // 2) if rows == 1 else (row // 2, column // 2)
            blocks.setdefault(block, []).append(row * columns + column)
    return [blocks[key] for key in sorted(blocks)]


def made_up(grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    n = grid[0] * grid[1]
    mask_BR = torch.rand(3, n) < 0.5
    mask_BR[0] = True
    mask_BR[2] = False
    return torch.randn(3, n, 4), mask_BR


@pytest.mark.parametrize("grid", GRIDS)
def test_every_patch_belongs_to_one_block(grid: Grid) -> None:
    assert [list(members) for members in pooled_members(grid)] == expected_members(grid)
    for level in ("patch", "pooled", "image"):
        covered = [patch for members in regions_of(level, grid) for patch in members]
        assert sorted(covered) == list(range(grid[0] * grid[1]))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("level", ["pooled", "image"])
def test_a_coarser_region_is_the_mean_of_its_valid_members(grid: Grid, level: str) -> None:
    patch_BRD, mask_BR = made_up(grid)
    regions_BPD, valid_BP = RegionPyramid(patch_BRD, mask_BR, grid).at(level)
    members = expected_members(grid) if level == "pooled" else [list(range(grid[0] * grid[1]))]
    assert regions_BPD.shape == (3, len(members), 4)
    for b in range(3):
        for p, patches in enumerate(members):
            seen = [patch_BRD[b, r] for r in patches if mask_BR[b, r]]
            assert bool(valid_BP[b, p]) == bool(seen)
            expected = torch.stack(seen).mean(dim=0) if seen else torch.zeros(4)
            torch.testing.assert_close(regions_BPD[b, p], expected)


@pytest.mark.parametrize("level", ["pooled", "image"])
def test_what_is_masked_leaks_into_no_mean_and_no_gradient(level: str) -> None:
    patch_BRD, mask_BR = made_up((5, 3))
    poisoned_BRD = patch_BRD.masked_fill(~mask_BR[..., None], torch.nan).requires_grad_()
    regions, valid = RegionPyramid(poisoned_BRD, mask_BR, (5, 3)).at(level)
    expected, _ = RegionPyramid(patch_BRD, mask_BR, (5, 3)).at(level)
    assert torch.equal(regions, expected)
    (regions * valid[..., None]).sum().backward()
    assert poisoned_BRD.grad is not None
    assert poisoned_BRD.grad.isfinite().all()
    assert (poisoned_BRD.grad[~mask_BR] == 0).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_rho_is_repeated_towards_patches_and_maximal_towards_blocks(grid: Grid) -> None:
    pyramid = RegionPyramid(*made_up(grid), grid)
    members = expected_members(grid)
    n = grid[0] * grid[1]
    fine_BR, coarse_BP = torch.rand(3, n), torch.rand(3, len(members))
    repeated_BR = pyramid.move(coarse_BP, "pooled", "patch")
    highest_BP = pyramid.move(fine_BR, "patch", "pooled")
    for p, patches in enumerate(members):
        for r in patches:
            assert torch.equal(repeated_BR[:, r], coarse_BP[:, p])
        assert torch.equal(highest_BP[:, p], torch.stack([fine_BR[:, r] for r in patches]).max(dim=0).values)
    assert torch.equal(pyramid.move(fine_BR, "patch", "image"), fine_BR.max(dim=1, keepdim=True).values)
    assert torch.equal(pyramid.move(coarse_BP, "pooled", "image"), coarse_BP.max(dim=1, keepdim=True).values)
    for level, width in (("patch", n), ("pooled", len(members))):
        assert torch.equal(pyramid.move(torch.rand(3, 1), "image", level), torch.ones(3, width))
    assert pyramid.move(fine_BR, "patch", "patch") is fine_BR


@pytest.mark.parametrize(("source", "target"), [("pooled", "patch"), ("patch", "pooled"), ("patch", "image")])
def test_gradients_pass_every_move(source: str, target: str) -> None:
    pyramid = RegionPyramid(*made_up((3, 3)), (3, 3))
    rho = torch.rand(3, len(regions_of(source, (3, 3))), requires_grad=True)
    pyramid.move(rho, source, target).sum().backward()
    # a sum counts a value once for every region it reaches
    expected = {"patch": [4.0, 2.0, 2.0, 1.0], "pooled": 4.0, "image": 1.0}[target]
    assert rho.grad is not None
    if target == "patch":
        torch.testing.assert_close(rho.grad, torch.tensor(expected).expand(3, 4))
    else:
        assert (rho.grad.sum(dim=1) == expected).all()


def sentences() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sub-words of two proxies, of 2 + 3 + 1 and of 4 with two of padding, as (patch_BRD, mask_BR, sentence_BPR)."""
    of_BR = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, -1, -1]])
    patch_BRD = torch.randn(2, 6, 3, dtype=torch.float64).masked_fill((of_BR < 0)[..., None], torch.nan)
    return patch_BRD, of_BR >= 0, of_BR[:, None] == torch.arange(3)[:, None]


def test_a_sentence_is_the_mean_of_its_sub_words() -> None:
    patch_BRD, mask_BR, sentence_BPR = sentences()
    regions_BPD, valid_BP = RegionPyramid(patch_BRD, mask_BR, (1, 6), sentence_BPR).at("pooled")
    assert valid_BP.tolist() == [[True, True, True], [True, False, False]]
    for b, p, members in ((0, 0, slice(0, 2)), (0, 1, slice(2, 5)), (0, 2, slice(5, 6)), (1, 0, slice(0, 4))):
        torch.testing.assert_close(regions_BPD[b, p], patch_BRD[b, members].mean(dim=0))
    assert not regions_BPD[1, 1:].any()


def test_rho_moves_between_sentences_and_their_sub_words() -> None:
    patch_BRD, mask_BR, sentence_BPR = sentences()
    pyramid = RegionPyramid(patch_BRD, mask_BR, (1, 6), sentence_BPR)
    rho_BP = torch.tensor([[0.2, 1.0, 0.4], [1.0, 0.3, 0.3]])
    finer_BR = pyramid.move(rho_BP, "pooled", "patch")
    assert finer_BR[0].tolist() == rho_BP[0, [0, 0, 1, 1, 1, 2]].tolist()
    assert finer_BR[1, :4].tolist() == [1.0] * 4
    rho_BR = torch.tensor([[0.1, 0.7, 0.2, 1.0, 0.3, 0.5], [0.4, 1.0, 0.2, 0.1, 0.9, 0.9]], requires_grad=True)
    coarser_BP = pyramid.move(rho_BR, "patch", "pooled")
    assert coarser_BP.detach().tolist() == [pytest.approx([0.7, 1.0, 0.5]), pytest.approx([1.0, 1e-4, 1e-4])]
    coarser_BP.log().sum().backward()  # of sentences that are not there too
    assert rho_BR.grad.isfinite().all()
