"""What CLAMP is compared with, on the same encoders, data and training loop: one file a system.

Auxiliary losses of a baseline weigh the same as its tagging loss; only CLAMP adapts its weights.
"""

from clamp.baselines.caption_concat import CaptionConcat
from clamp.baselines.cmmt import Cmmt
from clamp.baselines.dtca import Dtca
from clamp.baselines.image_prefix import ImagePrefix
from clamp.baselines.single_cross_attention import SingleCrossAttention
from clamp.baselines.text_only import TextOnly
from clamp.model import Clamp, Tagger

__all__ = ["ARCHITECTURES", "CaptionConcat", "Cmmt", "Dtca", "ImagePrefix", "SingleCrossAttention", "TextOnly"]

ARCHITECTURES: dict[str, type[Tagger]] = {
    "clamp": Clamp,
    "text_only": TextOnly,
    "image_prefix": ImagePrefix,
    "caption_concat": CaptionConcat,
    "single_cross_attention": SingleCrossAttention,
    "cmmt": Cmmt,
    "dtca": Dtca,
}
"""The name in `model.architecture` -> its class."""
