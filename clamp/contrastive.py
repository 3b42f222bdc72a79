"""MCL: contrast between text and image, globally over the batch and locally between aspects and what they attended to.

Both are symmetric InfoNCE (van den Oord et al., 2018; CLIP's form, Radford et al., 2021) over the batch. Global: pooled
text against pooled regions. Local: every gold aspect's words against the context that these words attended to, so in
training only. The text side is X^0, before fusion: X^K holds the context and would leak it into both sides. The
context is C^K as the heads leave it: W_o starts at zero, and behind it no attention would be taught at first.

"words" is the local contrast of MGCA (Wang et al., 2022): every word against its own context, within its tweet alone.
Words can win there by attending each to another place, whatever lies there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from clamp.config import ContrastConfig, Task
from kernels.dispatch import Impl

MAX_LOG_SCALE = math.log(100.0)


def masked_mean(x_BND: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean over the positions where mask_BN is True, (B, D); zero where there is none. What is masked leaks nowhere."""
    total_BD = x_BND.masked_fill(~mask_BN[..., None], 0.0).sum(dim=1)
    return total_BD / mask_BN.sum(dim=1, keepdim=True).clamp(min=1)


def _normalise(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Unit vectors; rows that are not valid are cut out before the division, so that no gradient passes them."""
    if valid is not None:
        x = x.masked_fill(~valid[..., None], 0.0)
    return F.normalize(x.float(), dim=-1, eps=1e-6)


def _span_means(spans_N3: Tensor, tweets: int, words: int, dtype: torch.dtype) -> Tensor:
    """(N, tweets x words): the matrix whose product with all words' vectors is each span's mean. No span is empty."""
    position_T = torch.arange(words, device=spans_N3.device)
    inside_NT = (position_T >= spans_N3[:, 1, None]) & (position_T < spans_N3[:, 2, None])
    of_tweet_NB = spans_N3[:, :1] == torch.arange(tweets, device=spans_N3.device)
    mean_NT = inside_NT.to(dtype) / inside_NT.sum(dim=1, keepdim=True)
    return (of_tweet_NB[:, :, None] * mean_NT[:, None]).flatten(1)


class ContrastScale(nn.Module):
    """The scale (inverse temperature) of one contrast: fixed, or learned within [1, 100]."""

    def __init__(self, value: float, learned: bool) -> None:
        super().__init__()
        self.value = value
        self.log_scale = nn.Parameter(torch.tensor(math.log(value))) if learned else None

    def forward(self) -> float | Tensor:
        return self.value if self.log_scale is None else self.log_scale.exp()

    @torch.no_grad()
    def project(self) -> None:
        """Back into [0, log 100]; call after every optimiser step."""
        if self.log_scale is not None:
            self.log_scale.clamp_(0.0, MAX_LOG_SCALE)


class MultiTaskContrast(nn.Module):
    """The contrastive losses that the config asks for, and the embeddings behind the global one."""

    def __init__(self, config: ContrastConfig, width: int, operators: Impl) -> None:
        super().__init__()
        self.local_contrast = config.local_contrast
        self.operators = operators
        if config.global_contrast:
            self.project_text = nn.Linear(width, config.width)
            self.project_image = nn.Linear(width, config.width)
            self.global_scale = ContrastScale(config.scale, config.learn_scale)
        self.global_contrast = config.global_contrast
        if config.local_contrast != "none":
            self.project_word = nn.Linear(width, config.width)
            self.project_context = nn.Linear(width, config.width)
            self.local_scale = ContrastScale(config.scale, config.learn_scale)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The losses this module can yield."""
        tasks: list[Task] = ["global"] if self.global_contrast else []
        return (*tasks, "local") if self.local_contrast != "none" else tuple(tasks)

    def embed(
        self, text_BTD: Tensor, word_mask_BT: Tensor, regions_BRD: Tensor, region_mask_BR: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors z_t, z_v (B, width) float32 of X^0 and of the regions; valid_B: tweets that have an image."""
        valid_B = region_mask_BR.any(dim=1) & word_mask_BT.any(dim=1)
        z_t = _normalise(self.project_text(masked_mean(text_BTD, word_mask_BT)), valid_B)
        z_v = _normalise(self.project_image(masked_mean(regions_BRD, region_mask_BR)), valid_B)
        return z_t, z_v, valid_B

    def forward(
        self,
        text_BTD: Tensor,
        word_mask_BT: Tensor,
        context_BTD: Tensor,
        regions_BRD: Tensor,
        region_mask_BR: Tensor,
        aspect_spans_N3: Tensor | None,
    ) -> dict[Task, Tensor]:
        """The losses of the tasks that have at least two rows to contrast.

        text_BTD is X^0; context_BTD is C^K of the last stage, before W_o, gate and residual; aspect_spans_N3 holds
        (tweet, start, end) int64 of the gold aspects, which only "aspects" reads (in training).
        """
        losses: dict[Task, Tensor] = {}
        has_image_B = region_mask_BR.any(dim=1)
        if self.global_contrast:
            z_t, z_v, valid_B = self.embed(text_BTD, word_mask_BT, regions_BRD, region_mask_BR)
            if int(valid_B.sum()) >= 2:
                losses["global"] = kernels.info_nce(
                    z_t, z_v, self.global_scale(), row_mask=valid_B, impl=self.operators
                )
        if self.local_contrast == "words":
            self._contrast_words(losses, text_BTD, context_BTD, word_mask_BT & has_image_B[:, None])
        elif self.local_contrast == "aspects" and aspect_spans_N3 is not None:
            self._contrast_aspects(losses, text_BTD, context_BTD, aspect_spans_N3, has_image_B)
        return losses

    def _contrast_words(
        self, losses: dict[Task, Tensor], text_BTD: Tensor, context_BTD: Tensor, mask_BT: Tensor
    ) -> None:
        grouped_B = mask_BT.sum(dim=1) >= 2
        if not bool(grouped_B.any()):
            return
        mask_BT = mask_BT & grouped_B[:, None]
        t_BTE = _normalise(self.project_word(text_BTD), mask_BT)
        o_BTE = _normalise(self.project_context(context_BTD), mask_BT)
        losses["local"] = kernels.grouped_info_nce(t_BTE, o_BTE, self.local_scale(), mask=mask_BT, impl=self.operators)

    def _contrast_aspects(
        self, losses: dict[Task, Tensor], text_BTD: Tensor, context_BTD: Tensor, spans_N3: Tensor, has_image_B: Tensor
    ) -> None:
        spans_N3 = spans_N3[has_image_B[spans_N3[:, 0]]]
        if len(spans_N3) < 2:
            return
        # the projections are linear: that of the words' mean is the mean of their projections
        mean_NK = _span_means(spans_N3, text_BTD.shape[0], text_BTD.shape[1], text_BTD.dtype)
        t_NE = _normalise(self.project_word(mean_NK @ text_BTD.flatten(0, 1)))
        o_NE = _normalise(self.project_context(mean_NK @ context_BTD.flatten(0, 1)))
        losses["local"] = kernels.info_nce(t_NE, o_NE, self.local_scale(), impl=self.operators)

    def project(self) -> None:
        """Bring learned scales back into their range; call after every optimiser step."""
        for module in self.children():
            if isinstance(module, ContrastScale):
                module.project()
