"""Settings from a JSON file, as changes to a config."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from clamp.config import Config, ConfigError


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; ConfigError names the file and the reason."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected an object of config fields")
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def read_overrides(file: Path, base: Config) -> dict[str, Any]:
    """The changes that a file makes to `base`, for `clamp.config.override`; the file may nest, dot, or mix both.

    Only sections of the config are descended into: a field that is itself an object, such as the architecture of an
    encoder, is replaced whole. Raises ConfigError as `read_object` does; whether there are such fields is not checked.
    """
    return _dotted(read_object(file), base)


def _dotted(values: dict[str, Any], node: Any, prefix: str = "") -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        child = getattr(node, key, None)
        if isinstance(value, dict) and dataclasses.is_dataclass(child):
            changes |= _dotted(value, child, f"{prefix}{key}.")
        else:
            changes[prefix + key] = value
    return changes
