"""PAF: text reads the image in stages, each guided by where the one before it looked, and gated against noise.

Stage k, with X^0 the text, rho^0 = 1 and masked regions excluded:

    A^k  = softmax over r of ( Q^k K^k^T / sqrt(d) + beta_k log rho^{k-1}[r] )      per head
    C^k  = A^k V^k
    g^k  = sigmoid( W_g [X^{k-1} ; W_o C^k] )                                       the noise gate
    Y    = LayerNorm( X^{k-1} + dropout( g^k * W_o C^k ) )
    X^k  = LayerNorm( Y + dropout( FFN(Y) ) )
    rho^k = max( mass / max(max_r mass, 1e-6), 1e-4 )                               mass: attention a region received

Gradients flow through rho. A tweet without an image has C = 0 and falls back to its text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from clamp.config import Level, ModelConfig
from clamp.pyramid import RHO_FLOOR, RegionPyramid

_MASS_FLOOR = 1e-6


def focus_of(mass_BR: Tensor) -> Tensor:
    """rho: the mass relative to the region that received most, floored so that its logarithm stays finite."""
    return (mass_BR / mass_BR.amax(dim=1, keepdim=True).clamp(min=_MASS_FLOOR)).clamp(min=RHO_FLOOR)


@dataclass
class StageOutput:
    """What one stage leaves: X^k, the context C^k, the attention mass, and on request the attention itself."""

    x_BTD: Tensor
    context_BTD: Tensor
    level: Level
    mass_BR: Tensor | None = None
    attention_BTR: Tensor | None = None


def split_heads(x_BND: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, H, N, D / H), a view."""
    return x_BND.unflatten(-1, (heads, -1)).transpose(1, 2)


def dropout_seeds(dropout_p: float, stages: int, device: torch.device) -> list[tuple[Tensor, Tensor] | None]:
    """Each stage's seeds for the dropout after its attention and after its feed-forward layer, all from one draw."""
    if dropout_p == 0.0:
        return [None] * stages
    attention_K, ffn_K = torch.randint(0, 2**62, (2, stages), device=device)
    return list(zip(attention_K, ffn_K, strict=True))


class CrossAttentionStage(nn.Module):
    """Cross-attention of words over regions with a gated residual and a feed-forward layer.

    The keys and values come from outside: stages that read the same regions project them together.
    """

    def __init__(self, config: ModelConfig, *, gate: bool, focus: bool) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dropout, self.operators = config.heads, config.dropout, config.operators
        self.query = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)  # without bias C = 0 leaves exactly nothing
        self.gate = nn.Linear(2 * width, width) if gate else None
        self.beta = nn.Parameter(torch.ones(())) if focus else None
        self.norm_attention = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, config.ffn_multiple * width)
        self.ffn_out = nn.Linear(config.ffn_multiple * width, width)
        self.norm_ffn = nn.LayerNorm(width)
        if config.identity_start:
            for parameter in (self.out.weight, self.ffn_out.weight, self.ffn_out.bias):
                nn.init.zeros_(parameter)

    def _add_and_norm(
        self, x_BTD: Tensor, residual_BTD: Tensor, gate_BTD: Tensor | None, norm: nn.LayerNorm, seed: Tensor | None
    ) -> Tensor:
        residual_BTD = residual_BTD.to(x_BTD.dtype)  # under autocast on CUDA the text comes from its norm in float32
        return kernels.gated_residual_norm(
            x_BTD, residual_BTD, gate_BTD, norm.weight, norm.bias, eps=norm.eps,
            dropout_p=0.0 if seed is None else self.dropout, seed=0 if seed is None else seed, impl=self.operators,
        )  # fmt: skip

    def forward(
        self,
        x_BTD: Tensor,
        word_mask_BT: Tensor,
        k_BHRd: Tensor,
        v_BHRd: Tensor,
        region_mask_BR: Tensor,
        rho_BR: Tensor | None,
        *,
        need_mass: bool,
        need_attention: bool = False,
        seeds: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """X^k (B,T,D), context C^k (B,T,D), mass (B,R) float32 or None, attention (B,T,R) or None.

        seeds: one element of `dropout_seeds`; None = no dropout.
        """
        attention_seed, ffn_seed = seeds or (None, None)
        q_BHTd = split_heads(self.query(x_BTD), self.heads)
        bias_BR = None if rho_BR is None or self.beta is None else self.beta * rho_BR.log()
        attended = kernels.cross_attention(
            q_BHTd, k_BHRd, v_BHRd, key_mask=region_mask_BR, key_bias=bias_BR,
            return_mass=need_mass, query_mask=word_mask_BT if need_mass else None, impl=self.operators,
        )  # fmt: skip
        c_BHTd, mass_BR = attended if isinstance(attended, tuple) else (attended, None)
        context_BTD = c_BHTd.transpose(1, 2).flatten(2)
        read_BTD = self.out(context_BTD)
        gate_BTD = None if self.gate is None else self.gate(torch.cat([x_BTD, read_BTD], dim=-1))
        y_BTD = self._add_and_norm(read_BTD, x_BTD, gate_BTD, self.norm_attention, attention_seed)
        ffn_BTD = self.ffn_out(F.gelu(self.ffn_in(y_BTD)))
        x_BTD = self._add_and_norm(ffn_BTD, y_BTD, None, self.norm_ffn, ffn_seed)
        attention_BTR = attention_map(q_BHTd, k_BHRd, region_mask_BR, bias_BR) if need_attention else None
        return x_BTD, context_BTD, mass_BR, attention_BTR


def attention_map(q_BHTd: Tensor, k_BHRd: Tensor, mask_BR: Tensor, bias_BR: Tensor | None) -> Tensor:
    """(B, T, R) head-averaged attention, to look at; zero for a tweet without an image."""
    logits_BHTR = q_BHTd @ k_BHRd.transpose(-1, -2) * q_BHTd.shape[-1] ** -0.5
    if bias_BR is not None:
        logits_BHTR = logits_BHTR + bias_BR[:, None, None]
    logits_BHTR = logits_BHTR.masked_fill(~mask_BR[:, None, None], torch.finfo(logits_BHTR.dtype).min)
    return logits_BHTR.softmax(dim=-1).mean(dim=1).masked_fill(~mask_BR[:, None], 0.0)


class ProgressiveFusion(nn.Module):
    """The stages, over pyramid levels that the config lists; "plain" is one ungated cross-attention over patches.

    One matrix product a level yields the keys and values of every stage on it: with the default levels (pooled, patch,
    patch) two products serve three stages. Products over different levels share neither factor and stay apart.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        progressive = config.fusion == "progressive"
        self.levels: tuple[Level, ...] = config.levels if progressive else ("patch",)
        self.focus = config.focus and progressive
        self.heads, self.dropout = config.heads, config.dropout
        self.stages = nn.ModuleList(
            # the first stage has no predecessor whose attention could guide it
            CrossAttentionStage(config, gate=config.gate and progressive, focus=self.focus and k > 0)
            for k in range(len(self.levels))
        )
        self.key_value = nn.ModuleDict(
            {
                level: nn.Linear(config.width, 2 * config.width * self.levels.count(level))
                for level in dict.fromkeys(self.levels)
            }
        )

    def forward(
        self, text_BTD: Tensor, word_mask_BT: Tensor, pyramid: RegionPyramid, *, need_attention: bool = False
    ) -> list[StageOutput]:
        """One StageOutput a stage; the last one's x_BTD is X^K."""
        outputs: list[StageOutput] = []
        x_BTD, rho_BR = text_BTD, None
        keys_and_values = self._keys_and_values(pyramid)
        seeds = dropout_seeds(self.dropout if self.training else 0.0, len(self.stages), text_BTD.device)
        for k, (stage, level) in enumerate(zip(self.stages, self.levels, strict=True)):
            if rho_BR is not None:
                rho_BR = pyramid.move(rho_BR, self.levels[k - 1], level)
            guides_next = self.focus and k + 1 < len(self.stages)
            x_BTD, context_BTD, mass_BR, attention_BTR = stage(
                x_BTD, word_mask_BT, *keys_and_values[k], pyramid.at(level)[1], rho_BR,
                seeds=seeds[k], need_mass=guides_next, need_attention=need_attention,
            )  # fmt: skip
            rho_BR = focus_of(mass_BR) if guides_next else None
            outputs.append(StageOutput(x_BTD, context_BTD, level, mass_BR, attention_BTR))
        return outputs

    def _keys_and_values(self, pyramid: RegionPyramid) -> list[tuple[Tensor, Tensor]]:
        """Each stage's keys and values (B, H, R, d)."""
        parts: dict[str, list[Tensor]] = {}
        for level in dict.fromkeys(self.levels):
            joint_BRN = self.key_value[level](pyramid.at(level)[0])
            parts_BRD = joint_BRN.chunk(2 * self.levels.count(level), dim=-1)
            parts[level] = [split_heads(part_BRD, self.heads) for part_BRD in parts_BRD]
        return [(parts[level].pop(0), parts[level].pop(0)) for level in self.levels]
