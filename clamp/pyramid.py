"""The region pyramid: an image's regions at three levels of detail, and how attention moves between them.

`patch` is what the encoder yields, patches or sub-words; `pooled` the mean of 2 x 2 patches, or of the sub-words of a
sentence (of pairs, where the regions form a sequence without sentences); `image` the mean of all. A pooled region is
valid if any of its members is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from clamp.config import Level
from clamp.contrastive import masked_mean

RHO_FLOOR = 1e-4  # so that the logarithm of rho stays finite
Grid = tuple[int, int]  # rows and columns of the patch level; one row is a sequence


@lru_cache(maxsize=256)
def pooled_members(grid: Grid) -> tuple[tuple[int, ...], ...]:
    """The patches (row-major) of every pooled region; blocks at an odd edge have fewer."""
    rows, columns = grid
    down, across = (1, 2) if rows == 1 else (2, 2)
    return tuple(
        tuple(
            row * columns + column
            for row in range(top, min(top + down, rows))
            for column in range(left, min(left + across, columns))
        )
        for top in range(0, rows, down)
        for left in range(0, columns, across)
    )


@dataclass(frozen=True)
class _Pooling:
    """A grid's pooling as constant tensors, P pooled regions of at most M patches each."""

    belongs_PR: Tensor  # 1 where the patch is a member
    parent_R: Tensor  # the pooled region of every patch
    members_PM: Tensor  # the patches of every pooled region; a smaller one names its first again


@lru_cache(maxsize=256)
def pooling_constants(grid: Grid, dtype: torch.dtype, device: torch.device) -> _Pooling:
    """Of a grid, made once; float entries have `dtype`."""
    members = pooled_members(grid)
    widest = max(map(len, members))
    members_PM = torch.tensor([[*patches, *patches[:1] * (widest - len(patches))] for patches in members])
    belongs_PR = torch.zeros(len(members), grid[0] * grid[1], dtype=dtype).scatter_(1, members_PM, 1.0)
    return _Pooling(belongs_PR.to(device), belongs_PR.argmax(dim=0).to(device), members_PM.to(device))


def regions_of(level: Level, grid: Grid) -> tuple[tuple[int, ...], ...]:
    """The patches that every region of a level covers."""
    patches = range(grid[0] * grid[1])
    if level == "patch":
        return tuple((patch,) for patch in patches)
    return pooled_members(grid) if level == "pooled" else (tuple(patches),)


class RegionPyramid:
    """One batch's regions at every level, made when first asked for. `patch_BRD` with its mask_BR and grid.

    Where the regions are a proxy's sub-words, `sentence_BPR` (bool) says which sentence each stands in; the grid then
    tells nothing.
    """

    def __init__(self, patch_BRD: Tensor, mask_BR: Tensor, grid: Grid, sentence_BPR: Tensor | None = None) -> None:
        self._regions: dict[Level, tuple[Tensor, Tensor]] = {"patch": (patch_BRD, mask_BR)}
        self._sentence_BPR = sentence_BPR
        self._pooling = pooling_constants(grid, patch_BRD.dtype, patch_BRD.device)

    def at(self, level: Level) -> tuple[Tensor, Tensor]:
        """(regions_BRD, mask_BR) of a level."""
        if level not in self._regions:
            self._regions[level] = self._pooled() if level == "pooled" else self._whole()
        return self._regions[level]

    def _whole(self) -> tuple[Tensor, Tensor]:
        patch_BRD, mask_BR = self._regions["patch"]
        return masked_mean(patch_BRD, mask_BR)[:, None], mask_BR.any(dim=1, keepdim=True)

    def _pooled(self) -> tuple[Tensor, Tensor]:
        patch_BRD, mask_BR = self._regions["patch"]
        patch_BRD = patch_BRD.masked_fill(~mask_BR[..., None], 0.0)
        if self._sentence_BPR is not None:
            total_BPD = self._sentence_BPR.to(patch_BRD.dtype) @ patch_BRD
            count_BP = self._sentence_BPR.sum(dim=2)
        else:
            belongs_PR = self._pooling.belongs_PR
            total_BPD = belongs_PR @ patch_BRD
            count_BP = mask_BR.to(patch_BRD.dtype) @ belongs_PR.T
        return total_BPD / count_BP.clamp(min=1.0)[..., None], count_BP > 0

    def move(self, rho_BR: Tensor, source: Level, target: Level) -> Tensor:
        """rho at another level: repeated towards finer regions, the maximum towards coarser ones, 1 after `image`."""
        if source == target:
            return rho_BR
        if source == "image":
            return rho_BR.new_ones(rho_BR.shape[0], self.at(target)[1].shape[1])
        if target == "image":
            return rho_BR.amax(dim=1, keepdim=True)
        if self._sentence_BPR is not None:
            if source == "pooled":  # of padding, the first sentence's; it is masked where it is read
                return rho_BR.gather(1, self._sentence_BPR.to(torch.uint8).argmax(dim=1))
            return rho_BR[:, None].masked_fill(~self._sentence_BPR, 0.0).amax(dim=2).clamp(min=RHO_FLOOR)
        if source == "pooled":
            return rho_BR.index_select(1, self._pooling.parent_R)
        return rho_BR[:, self._pooling.members_PM].amax(dim=2)
