"""One cross-attention of words over patches."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from transformers import PreTrainedTokenizerFast

from clamp.config import ModelConfig
from clamp.data.collate import Batch
from clamp.fusion import CrossAttentionStage, StageOutput, dropout_seeds, split_heads
from clamp.model import Output, Tagger


class SingleCrossAttention(Tagger):
    """One gated cross-attention of words over patches, trained on the tagging loss alone.

    After UMT (Yu et al., ACL 2020) and TomBERT (Yu and Jiang, IJCAI 2019). Simplified: one direction (words read the
    image), no CRF, no auxiliary span task, and TomBERT's target-specific input is replaced by joint tagging.
    """

    uses_image = True
    gated: ClassVar[bool] = True

    def __init__(
        self, config: ModelConfig, *, tokenizer: PreTrainedTokenizerFast | None = None, pretrained: bool = True
    ) -> None:
        super().__init__(config, tokenizer=tokenizer, pretrained=pretrained)
        self.dropout = config.dropout
        self.key_value = nn.Linear(config.width, 2 * config.width)
        self.stage = CrossAttentionStage(config, gate=self.gated, focus=False)

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        text_BTD = self.encode_text(batch)
        regions_BRD, mask_BR, grid = self.encode_image(batch)
        k_BHRd, v_BHRd = (split_heads(part, self.stage.heads) for part in self.key_value(regions_BRD).chunk(2, dim=-1))
        (seeds,) = dropout_seeds(self.dropout if self.training else 0.0, 1, text_BTD.device)
        x_BTD, context_BTD, _, attention_BTR = self.stage(
            text_BTD, batch.word_mask_BT, k_BHRd, v_BHRd, mask_BR, None,
            need_mass=False, need_attention=need_attention, seeds=seeds,
        )  # fmt: skip
        stage = StageOutput(x_BTD, context_BTD, "patch", attention_BTR=attention_BTR)
        return Output(self.tag_head(x_BTD), text_BTD, [stage], regions_BRD, mask_BR, grid)
