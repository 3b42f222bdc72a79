"""The family of tests: every claim that is judged, read from the committed file that fixes it before the runs."""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from repro.plan.variants import VARIANTS
from repro.records.files import StoreError
from repro.records.part import Part

FILE = Path(__file__).parent / "family.toml"

Metric = Literal[
    "f1",
    "tweets_until",
    "pointing",
    "distractor_mass",
    "fall_distractors",
    "fall_other_image",
    "negative_cosines",
    "cosine_gap",
    "published_f1",
]
Column = Literal["synthetic", "twitter2015", "twitter2017", "pooled"]  # of the board; "pooled": both real data sets
_OF_ONE_SYSTEM = ("fall_other_image", "cosine_gap", "published_f1")
_POOLED = ("f1", "fall_other_image")  # what there are counts of each tweet for

_Text = Annotated[str, Field(min_length=1)]
_Positive = Annotated[float, Field(gt=0)]


class Claim(Part):
    """One claim: which systems it compares, by what, where, and which differences would matter.

    `smallest` (effect of interest) and `margin` (of equivalence) are in the metric's unit.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    group: _Text
    sentence: _Text
    short: _Text
    ours: str
    other: str | None = None
    metric: Metric
    data: Annotated[tuple[Column, ...], Field(min_length=1)]
    direction: Literal["higher", "lower"]
    smallest: _Positive
    margin: _Positive

    @model_validator(mode="after")
    def _is_sound(self) -> Claim:
        unknown = [name for name in (self.ours, self.other) if name is not None and name not in VARIANTS]
        if unknown:
            raise ValueError(f"no variant {unknown[0]!r} in repro/plan/variants.py")
        if (self.other is None) != (self.metric in _OF_ONE_SYSTEM):
            raise ValueError(f"{self.metric} compares {'no' if self.metric in _OF_ONE_SYSTEM else 'two'} systems")
        if "pooled" in self.data and self.metric not in _POOLED:
            raise ValueError(f"{self.metric} cannot be pooled over data sets")
        if self.ours == self.other:
            raise ValueError("a system compared with itself")
        return self

    @property
    def sign(self) -> int:
        """By which a value minus the other's is positive in the claim's favour."""
        return 1 if self.direction == "higher" else -1


@cache
def family() -> tuple[Claim, ...]:
    """The claims of the committed file, in its order."""
    return read_family(FILE)


def read_family(file: Path) -> tuple[Claim, ...]:
    """Raises StoreError, one line that names the file, the claim and the fault."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{file}: not TOML: {error}") from None
    listed = values.get("claim")
    if list(values) != ["claim"] or not isinstance(listed, list):
        raise StoreError(f"{file}: not a list of [[claim]] and nothing else")
    claims = tuple(_claim(file, number, value) for number, value in enumerate(listed, 1))
    for field in ("id", "sentence"):
        twice = [name for name, times in Counter(getattr(claim, field) for claim in claims).items() if times > 1]
        if twice:
            raise StoreError(f"{file}: claim {twice[0]!r}: {field} given twice")
    return claims


def _claim(file: Path, number: int, value: Any) -> Claim:
    try:
        return Claim.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        named = (
            repr(value["id"]) if isinstance(value, dict) and isinstance(value.get("id"), str) else f"number {number}"
        )
        said = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
        raise StoreError(f"{file}: claim {named}: {said}") from None
