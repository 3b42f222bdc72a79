"""Where a model that a command names is; free of torch, so that a wrong name is told at once."""

from __future__ import annotations

import re
from pathlib import Path

from clamp.config import ConfigError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name: nothing else is looked for on the hub


def model_folder(name: str) -> str:
    """The folder of a model, be it that of its run, or a name on the hub as it is; ConfigError for what is neither."""
    folder = Path(name)
    if folder.is_dir():
        within = folder / "model"
        return str(within) if not (folder / "config.json").is_file() and within.is_dir() else name
    if name.startswith("wheel:") or (_HUB_NAME.fullmatch(name) and not folder.parent.is_dir()):
        return name
    raise ConfigError(f"{name}: no such folder, nor the name of a model on the hub (owner/name)")
