"""The words alone."""

from __future__ import annotations

from clamp.data.collate import Batch
from clamp.model import Output, Tagger


class TextOnly(Tagger):
    """A sequence tagger over the words alone: what there is to gain from the image starts here."""

    def forward(self, batch: Batch, *, need_attention: bool = False) -> Output:
        text_BTD = self.encode_text(batch)
        return Output(self.tag_head(text_BTD), text_BTD)
