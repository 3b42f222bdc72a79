"""DTCA: cross-attention whose two encoders are aligned by the cost of moving a tweet's words onto its regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from clamp.baselines.single_cross_attention import SingleCrossAttention
from clamp.config import ModelConfig, Task
from clamp.data.collate import Batch
from clamp.model import Output
from clamp.tagging import IGNORED, TAGS

_TINY = 1e-12  # of an empty row's divisor
_COSINE_EPS = 1e-6


@torch.no_grad()
def transport_plan(
    cost_BTR: Tensor, row_mask_BT: Tensor, column_mask_BR: Tensor, *, beta: float = 0.5, iterations: int = 50
) -> Tensor:
    """How (B, T, R) uniform mass on the valid rows is best moved onto uniform mass on the valid columns.

    The proximal point method IPOT (Xie et al., UAI 2019), one inner step each, which nears the exact plan for any
    `beta`. Where a side has nothing valid the plan is zero.
    """
    valid_BTR = row_mask_BT[:, :, None] & column_mask_BR[:, None, :]
    kernel_BTR = torch.exp(-cost_BTR / beta)
    rows_BT1 = row_mask_BT[:, :, None] / row_mask_BT.sum(dim=1).clamp(min=1)[:, None, None]
    columns_BR1 = column_mask_BR[:, :, None] / column_mask_BR.sum(dim=1).clamp(min=1)[:, None, None]
    plan_BTR = valid_BTR.to(cost_BTR.dtype)
    scale_BR1 = columns_BR1
    for _ in range(iterations):
        step_BTR = kernel_BTR * plan_BTR
        scale_BT1 = rows_BT1 / (step_BTR @ scale_BR1).clamp(min=_TINY)
        scale_BR1 = columns_BR1 / (step_BTR.transpose(1, 2) @ scale_BT1).clamp(min=_TINY)
        plan_BTR = scale_BT1 * step_BTR * scale_BR1.transpose(1, 2)
    return plan_BTR.masked_fill(~valid_BTR, 0.0)


def alignment_loss(text_BTD: Tensor, word_mask_BT: Tensor, regions_BRD: Tensor, region_mask_BR: Tensor) -> Tensor:
    """The mean over tweets of the Wasserstein distance between words and regions under the cosine distance."""
    t_BTD = F.normalize(text_BTD.float(), dim=-1, eps=_COSINE_EPS)
    r_BRD = F.normalize(regions_BRD.float(), dim=-1, eps=_COSINE_EPS)
    cost_BTR = 1.0 - t_BTD @ r_BRD.transpose(1, 2)
    plan_BTR = transport_plan(cost_BTR, word_mask_BT, region_mask_BR)
    return (plan_BTR * cost_BTR).sum(dim=(1, 2)).mean()


class Dtca(SingleCrossAttention):
    """One ungated cross-attention, with two auxiliary losses: tagging from the text alone, and word-region alignment.

    After Dual-Encoder Transformers with Cross-modal Alignment (Yu, Wang, Yu and Zhang, AACL-IJCNLP 2022), whose
    alignment is the Wasserstein distance between tokens and patches, by IPOT with the cosine distance as cost; the
    iterations and their step are those of the authors' code (windforfurture/DTCA). Simplified: words alone are
    aligned, not every sub-word; a feed-forward layer follows the attention, as in the other systems here; the losses
    are not weighted; the decoder is the config's.
    """

    gated = False

    def __init__(
        self, config: ModelConfig, *, tokenizer: PreTrainedTokenizerFast | None = None, pretrained: bool = True
    ) -> None:
        super().__init__(config, tokenizer=tokenizer, pretrained=pretrained)
        self.text_tag_head = nn.Linear(config.width, len(TAGS))

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("tagging", "text", "alignment")

    def losses(self, output: Output, batch: Batch) -> dict[Task, Tensor]:
        """Tagging from fused and from plain words always; alignment over the tweets that have an image, if any has."""
        assert output.regions_BRD is not None
        assert output.region_mask_BR is not None
        losses = super().losses(output, batch)
        logits_BTC = self.text_tag_head(output.text_BTD)
        losses["text"] = F.cross_entropy(
            logits_BTC.flatten(0, 1).float(), batch.tags_BT.flatten(), ignore_index=IGNORED
        )
        seen_B = output.region_mask_BR.any(dim=1)
        if bool(seen_B.any()):
            losses["alignment"] = alignment_loss(
                output.text_BTD[seen_B],
                batch.word_mask_BT[seen_B],
                output.regions_BRD[seen_B],
                output.region_mask_BR[seen_B],
            )
        return losses
