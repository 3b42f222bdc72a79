"""CMMT: an auxiliary task on either side, and a gate that lets the image in where the text is unsure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

import kernels
from clamp.config import ModelConfig, Task
from clamp.contrastive import masked_mean
from clamp.data.collate import Batch
from clamp.data.schema import POLARITIES
from clamp.fusion import StageOutput, attention_map, split_heads
from clamp.model import Output, Tagger
from clamp.tagging import TAG_INDEX, AspectHead


def polarity_shares(tags_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The shares (B, 3) float32 of POLARITIES among a tweet's aspects, and which tweets (B,) have any."""
    begins_3 = torch.tensor([TAG_INDEX[f"B-{polarity}"] for polarity in POLARITIES], device=tags_BT.device)
    counts_B3 = (tags_BT[..., None] == begins_3).sum(dim=1).float()
    total_B1 = counts_B3.sum(dim=1, keepdim=True)
    return counts_B3 / total_B1.clamp(min=1.0), total_B1[:, 0] > 0


class Cmmt(Tagger):
    """Cross-attention of words over regions, mixed with the words by how sure the aspect tagger is.

        g = sum over the aspect tags of p^2          1 where it is certain: the image is shut out
        Y = LayerNorm( g X^0 + (1 - g) C )
        Z = LayerNorm( Y + FFN(Y) )
        X = LayerNorm( X^0 + Z )

    After the Cross-Modal Multitask Transformer (Yang, Na and Yu, Information Processing & Management 59(5), 2022); the
    formula of the gate is that of the authors' code (yangli-hub/CMMT-Code). The textual task is aspect tagging.
    The visual one predicts, in the original, a detector's adjective-noun pairs from the mean region. Simplified: the
    mean region predicts the shares of the polarities among the tweet's aspects, which need no detector; X^0 and the
    regions get no self-attention layer of their own; the losses are not weighted; the decoder is the config's.
    """

    uses_image = True

    def __init__(
        self, config: ModelConfig, *, tokenizer: PreTrainedTokenizerFast | None = None, pretrained: bool = True
    ) -> None:
        super().__init__(config, tokenizer=tokenizer, pretrained=pretrained)
        width = config.width
        self.aspect_head = AspectHead(width)
        self.image_head = nn.Linear(width, len(POLARITIES))
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width, bias=False)  # without bias C = 0 leaves exactly nothing
        self.norm_mixed, self.norm_ffn, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.ffn_in = nn.Linear(width, config.ffn_multiple * width)
        self.ffn_out = nn.Linear(config.ffn_multiple * width, width)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("tagging", "aspect", "image")

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        text_BTD = self.encode_text(batch)
        regions_BRD, mask_BR, grid = self.encode_image(batch)
        heads = self.config.heads
        q_BHTd = split_heads(self.query(text_BTD), heads)
        k_BHRd, v_BHRd = (split_heads(part, heads) for part in self.key_value(regions_BRD).chunk(2, dim=-1))
        c_BHTd = kernels.cross_attention(q_BHTd, k_BHRd, v_BHRd, key_mask=mask_BR, impl=self.config.operators)
        assert isinstance(c_BHTd, Tensor)
        context_BTD = self.dropout(self.out(c_BHTd.transpose(1, 2).flatten(2)))
        gate_BT1 = self.aspect_head(text_BTD).softmax(dim=-1).square().sum(dim=-1, keepdim=True)
        mixed_BTD = self.norm_mixed(gate_BT1 * text_BTD + (1.0 - gate_BT1) * context_BTD)
        ffn_BTD = self.dropout(self.ffn_out(F.gelu(self.ffn_in(mixed_BTD))))
        x_BTD = self.norm_out(text_BTD + self.norm_ffn(mixed_BTD + ffn_BTD))
        attention_BTR = attention_map(q_BHTd, k_BHRd, mask_BR, None) if need_attention else None
        stage = StageOutput(x_BTD, context_BTD, "patch", attention_BTR=attention_BTR)
        return Output(self.tag_head(x_BTD), text_BTD, [stage], regions_BRD, mask_BR, grid)

    def losses(self, output: Output, batch: Batch) -> dict[Task, Tensor]:
        """Tagging and aspects always; the image's task where a tweet has both an image and an aspect."""
        assert output.regions_BRD is not None
        assert output.region_mask_BR is not None
        losses = super().losses(output, batch)
        losses["aspect"] = self.aspect_head.loss(output.text_BTD, batch.tags_BT)
        shares_B3, has_aspect_B = polarity_shares(batch.tags_BT)
        taught_B = has_aspect_B & output.region_mask_BR.any(dim=1)
        if bool(taught_B.any()):
            logits_B3 = self.image_head(masked_mean(output.regions_BRD, output.region_mask_BR))
            log_probs_B3 = logits_B3.float().log_softmax(dim=-1)
            losses["image"] = F.kl_div(log_probs_B3[taught_B], shares_B3[taught_B], reduction="batchmean")
        return losses
