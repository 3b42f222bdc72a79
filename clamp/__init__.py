"""CLAMP: contrastive learning with adaptive multi-loss and progressive fusion, for joint aspect and sentiment tagging.

The public names are loaded at their first use, so that `import clamp.config` or `clamp.metrics` stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kernels import __version__

if TYPE_CHECKING:
    from clamp.baselines import CaptionConcat, Cmmt, Dtca, ImagePrefix, SingleCrossAttention, TextOnly
    from clamp.config import Config, ConfigError, ModelConfig
    from clamp.data import Aspect, DataError, Tweet
    from clamp.metrics import span_scores
    from clamp.model import Clamp
    from clamp.training.train import TrainingDiverged

_MODULE_OF = {
    "Aspect": "clamp.data",
    "CaptionConcat": "clamp.baselines",
    "Clamp": "clamp.model",
    "Cmmt": "clamp.baselines",
    "Config": "clamp.config",
    "ConfigError": "clamp.config",
    "DataError": "clamp.data",
    "Dtca": "clamp.baselines",
    "ImagePrefix": "clamp.baselines",
    "ModelConfig": "clamp.config",
    "SingleCrossAttention": "clamp.baselines",
    "TextOnly": "clamp.baselines",
    "TrainingDiverged": "clamp.training.train",
    "Tweet": "clamp.data",
    "span_scores": "clamp.metrics",
}

__all__ = [
    "Aspect",
    "CaptionConcat",
    "Clamp",
    "Cmmt",
    "Config",
    "ConfigError",
    "DataError",
    "Dtca",
    "ImagePrefix",
    "ModelConfig",
    "SingleCrossAttention",
    "TextOnly",
    "TrainingDiverged",
    "Tweet",
    "__version__",
    "span_scores",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
