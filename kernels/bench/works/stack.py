"""CLAMP's fusion stack in small: pooled, patch, patch regions, on whatever operators it is given.

The mathematics and the names of the parameters are those of the model that these operators were made for
(`clamp.fusion`, whose tests compare the two), without its switches: three stages, gate, focus, dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from kernels.bench.works import eager
from kernels.dispatch import Impl

LEVELS = ("pooled", "patch", "patch")
DROPOUT = 0.1
_FFN = 4


@dataclass(frozen=True)
class Operators:
    """attention(q, k, v, *, key_mask, key_bias, query_mask, return_mass) and norm(x, residual, gate, weight, bias, *,
    dropout_p, seed). Those that are not `seeded` ignore the seed: torch draws their masks.
    """

    attention: Callable[..., Any]
    norm: Callable[..., Tensor]
    seeded: bool


def fused(impl: Impl) -> Operators:
    return Operators(
        partial(kernels.cross_attention, impl=impl), partial(kernels.gated_residual_norm, impl=impl), seeded=True
    )


def _eager_norm(
    x: Tensor,
    residual: Tensor,
    gate_logits: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    dropout_p: float,
    seed: object,
) -> Tensor:
    return eager.gated_residual_norm(x, residual, gate_logits, weight, bias, dropout_p=dropout_p)


EAGER = Operators(eager.cross_attention, _eager_norm, seeded=False)


class Stage(nn.Module):
    """Cross-attention of words over regions, a gated residual and a feed-forward layer."""

    def __init__(self, width: int, heads: int, operators: Operators, focus: bool) -> None:
        super().__init__()
        self.heads, self.operators = heads, operators
        self.query = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(2 * width, width)
        self.beta = nn.Parameter(torch.ones(())) if focus else None
        self.norm_attention = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, _FFN * width)
        self.ffn_out = nn.Linear(_FFN * width, width)
        self.norm_ffn = nn.LayerNorm(width)

    def forward(
        self,
        x_BTD: Tensor,
        word_mask_BT: Tensor,
        k_BHRd: Tensor,
        v_BHRd: Tensor,
        region_mask_BR: Tensor,
        rho_BR: Tensor | None,
        need_mass: bool,
        seeds: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Tensor, Tensor | None]:
        """X^k, and the attention mass (B, R) where it is needed."""
        attended = self.operators.attention(
            split_heads(self.query(x_BTD), self.heads), k_BHRd, v_BHRd, key_mask=region_mask_BR,
            key_bias=None if rho_BR is None or self.beta is None else self.beta * rho_BR.log(),
            return_mass=need_mass, query_mask=word_mask_BT if need_mass else None,
        )  # fmt: skip
        c_BHTd, mass_BR = attended if need_mass else (attended, None)
        context_BTD = self.out(c_BHTd.transpose(1, 2).flatten(2))
        gate_BTD = self.gate(torch.cat([x_BTD, context_BTD], dim=-1))
        y_BTD = self._norm(context_BTD, x_BTD, gate_BTD, self.norm_attention, seeds[0])
        ffn_BTD = self.ffn_out(F.gelu(self.ffn_in(y_BTD)))
        return self._norm(ffn_BTD, y_BTD, None, self.norm_ffn, seeds[1]), mass_BR

    def _norm(
        self, x: Tensor, residual: Tensor, gate: Tensor | None, norm: nn.LayerNorm, seed: Tensor | None
    ) -> Tensor:
        dropout_p = DROPOUT if self.training else 0.0
        given_seed = 0 if seed is None else seed
        return self.operators.norm(x, residual, gate, norm.weight, norm.bias, dropout_p=dropout_p, seed=given_seed)


class Stack(nn.Module):
    """Three stages over a square grid of patches, each guided by where the one before it looked."""

    parent_R: Tensor  # the pooled region of every patch
    belongs_PR: Tensor  # 1 where a patch belongs to a pooled region

    def __init__(self, width: int, heads: int, side: int, operators: Operators) -> None:
        super().__init__()
        self.width, self.heads, self.seeded = width, heads, operators.seeded
        self.stages: Any = nn.ModuleList(Stage(width, heads, operators, focus=k > 0) for k in range(len(LEVELS)))
        key_value = {"pooled": nn.Linear(width, 2 * width), "patch": nn.Linear(width, 4 * width)}
        self.key_value: Any = nn.ModuleDict(key_value)
        row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
        parent_R = row // 2 * (-(-side // 2)) + column // 2
        self.register_buffer("parent_R", parent_R, persistent=False)
        self.register_buffer("belongs_PR", F.one_hot(parent_R).T.to(torch.get_default_dtype()), persistent=False)

    def forward(self, text_BTD: Tensor, word_mask_BT: Tensor, patch_BRD: Tensor, patch_mask_BR: Tensor) -> Tensor:
        """X^K (B, T, D) of text (B, T, D) and patches (B, side^2, D), with masks (True = valid)."""
        pooled_BPD, pooled_mask_BP = self._pool(patch_BRD, patch_mask_BR)
        masks = {"pooled": pooled_mask_BP, "patch": patch_mask_BR}
        parts = {
            "pooled": iter(self.key_value["pooled"](pooled_BPD).chunk(2, dim=-1)),
            "patch": iter(self.key_value["patch"](patch_BRD).chunk(4, dim=-1)),
        }
        x_BTD, rho_BR = text_BTD, None
        for k, (stage, level, seeds) in enumerate(zip(self.stages, LEVELS, self._seeds(text_BTD), strict=True)):
            if rho_BR is not None and level != LEVELS[k - 1]:
                # From pooled regions to their patches, as a product: CUDA sums the gradient of an index by atomics.
                rho_BR = rho_BR @ self.belongs_PR.to(rho_BR.dtype)
            guides_next = k + 1 < len(LEVELS)
            keys_BHRd, values_BHRd = (split_heads(next(parts[level]), self.heads) for _ in range(2))
            x_BTD, mass_BR = stage(
                x_BTD, word_mask_BT, keys_BHRd, values_BHRd, masks[level], rho_BR, guides_next, seeds
            )
            rho_BR = None if mass_BR is None else focus_of(mass_BR)
        return x_BTD

    def _seeds(self, text_BTD: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
        if not (self.seeded and self.training):
            return [(None, None)] * len(LEVELS)
        attention_K, ffn_K = torch.randint(0, 2**62, (2, len(LEVELS)), device=text_BTD.device)
        return list(zip(attention_K, ffn_K, strict=True))

    def _pool(self, patch_BRD: Tensor, mask_BR: Tensor) -> tuple[Tensor, Tensor]:
        total_BPD = self.belongs_PR @ patch_BRD.masked_fill(~mask_BR[..., None], 0.0)
        count_BP = mask_BR.to(patch_BRD.dtype) @ self.belongs_PR.T
        return total_BPD / count_BP.clamp(min=1.0)[..., None], count_BP > 0


def split_heads(x_BND: Tensor, heads: int) -> Tensor:
    return x_BND.unflatten(-1, (heads, -1)).transpose(1, 2)


def focus_of(mass_BR: Tensor) -> Tensor:
    return (mass_BR / mass_BR.amax(dim=1, keepdim=True).clamp(min=1e-6)).clamp(min=1e-4)


def products(stack: Stack, batch: int, words: int) -> Iterator[tuple[int, nn.Linear]]:
    """Every product of one forward pass with a layer's weights: how many rows it has, and the layer."""
    regions = {"pooled": stack.belongs_PR.shape[0], "patch": stack.belongs_PR.shape[1]}
    for level, layer in stack.key_value.items():
        yield batch * regions[level], layer
    for stage in stack.stages:
        for layer in (stage.query, stage.out, stage.gate, stage.ffn_in, stage.ffn_out):
            yield batch * words, layer
