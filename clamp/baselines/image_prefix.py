"""The image's regions put before the words, and one transformer layer that reads both."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from clamp.config import ModelConfig
from clamp.data.collate import Batch
from clamp.fusion import CrossAttentionStage, StageOutput, dropout_seeds, split_heads
from clamp.model import Output, Tagger


class ImagePrefix(Tagger):
    """Self-attention over the sequence of all regions and all words, told apart by a learned segment embedding.

    After MMBT (Kiela et al., Supervised Multimodal Bitransformers for Classifying Images and Text, arXiv 1909.02950),
    which projects pooled image features into BERT's input space as a first segment. Simplified: the regions meet the
    words above the text encoder, in one further layer, so that any encoder and any number of regions fit; they are
    not pooled; tags replace the class. Only the words ask in that layer, for nothing reads what it would make of the
    regions.
    """

    uses_image = True

    def __init__(
        self, config: ModelConfig, *, tokenizer: PreTrainedTokenizerFast | None = None, pretrained: bool = True
    ) -> None:
        super().__init__(config, tokenizer=tokenizer, pretrained=pretrained)
        self.dropout = config.dropout
        self.region_norm = nn.LayerNorm(config.width)  # on the words' scale: both compete in one softmax
        self.segment = nn.Embedding(2, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        self.stage = CrossAttentionStage(config, gate=False, focus=False)

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        text_BTD = self.encode_text(batch)
        regions_BRD, mask_BR, grid = self.encode_image(batch)
        image_D, words_D = self.segment.weight
        x_BTD = text_BTD + words_D
        sequence_BND = torch.cat([self.region_norm(regions_BRD) + image_D, x_BTD], dim=1)
        mask_BN = torch.cat([mask_BR, batch.word_mask_BT], dim=1)
        k_BHNd, v_BHNd = (split_heads(part, self.stage.heads) for part in self.key_value(sequence_BND).chunk(2, dim=-1))
        (seeds,) = dropout_seeds(self.dropout if self.training else 0.0, 1, text_BTD.device)
        x_BTD, context_BTD, _, attention_BTN = self.stage(
            x_BTD, batch.word_mask_BT, k_BHNd, v_BHNd, mask_BN, None,
            need_mass=False, need_attention=need_attention, seeds=seeds,
        )  # fmt: skip
        # what falls to the regions; the rest of a word's attention is on words
        attention_BTR = None if attention_BTN is None else attention_BTN[..., : mask_BR.shape[1]]
        stage = StageOutput(x_BTD, context_BTD, "patch", attention_BTR=attention_BTR)
        return Output(self.tag_head(x_BTD), text_BTD, [stage], regions_BRD, mask_BR, grid)
