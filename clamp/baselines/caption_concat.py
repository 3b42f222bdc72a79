"""The image as text: its caption after the tweet."""

from __future__ import annotations

from clamp.baselines.text_only import TextOnly


class CaptionConcat(TextOnly):
    """A sequence tagger over the tweet as first segment and the caption of its image as second.

    After EF-CapTrBERT (Khan and Fu, Exploiting BERT for Multimodal Target Sentiment Classification through Input Space
    Translation, ACM MM 2021). Simplified: the caption is given, not generated here; the first segment is the tweet
    to be tagged, where theirs asks for one target's polarity at a time. A tweet without a caption is read alone, and
    encoders that know no second segment (RoBERTa) are left to their separators.

    `clamp.data.collate` puts the two together for this architecture. An encoded caption makes no regions, hence
    `uses_image` stays False: what reads the image is the captioner.
    """
