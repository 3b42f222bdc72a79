"""What lies in a folder of annotated tweets of one's own, beside the annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from clamp.config import ConfigError, ProxyField
from clamp.data.files import read_json

PROXIES = "visual_proxy.json"
_FORM = TypeAdapter(dict[str, dict[str, Any]])


def has_proxies(data: Path) -> bool:
    """Whether the folder holds what was said of the images."""
    return (data / PROXIES).is_file()


def proxy_fields(data: Path) -> tuple[ProxyField, ...]:
    """The fields that every image has there: a proxy is made of all of them.

    DataError where the file cannot be read, ConfigError where no field is there throughout.
    """
    said = read_json(data / PROXIES, _FORM).values()
    found = tuple(field for field in get_args(ProxyField) if said and all(one.get(field) is not None for one in said))
    if not found:
        raise ConfigError(f"{data / PROXIES}: none of {', '.join(get_args(ProxyField))} is there for every image")
    return found
