"""The project's HTML templates. Whatever a template is given is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader([Path(__file__).parent, Path(__file__).parent / "explorer"]),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_ENVIRONMENT.filters["plain"] = lambda text: text.replace("`", "")


def render(template: str, **values: Any) -> str:
    """A template of this folder or of the explorer, filled in; what it includes lies in either too."""
    return _ENVIRONMENT.get_template(template).render(**values)
