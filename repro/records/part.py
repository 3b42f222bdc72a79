"""What every part of a record is: frozen, and unwilling to hold what it does not know."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

_DIGITS = 6  # significant ones; a table shows four at most
_MOST_BYTES = 2**24  # of one series, unpacked: a damaged or hostile record cannot fill the memory


class Part(BaseModel):
    """A part of a record. A field that it does not know is an error: nothing of a record is lost in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _packed(values: list[Any]) -> str:
    """The values' JSON, compressed, as ASCII: for series of hundreds of values, which nobody reads one by one."""
    rounded = [_rounded(value) if isinstance(value, float) else value for value in values]
    text = json.dumps(rounded, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(values: object) -> object:
    """ValueError for a string that is no packed series; anything else is left to the field's type."""
    if not isinstance(values, str):
        return values
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(base64.b64decode(values, validate=True), _MOST_BYTES)
        if not inflater.eof:
            raise ValueError("cut off, or larger than any series is")
        return json.loads(text)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"not a packed series: {error}") from None


Real = Annotated[float, PlainSerializer(_rounded)]
Series = Annotated[list[float], BeforeValidator(_unpacked), PlainSerializer(_packed)]
SparseSeries = Annotated[  # None where there was nothing to measure
    list[float | None], BeforeValidator(_unpacked), PlainSerializer(_packed)
]
Steps = Annotated[list[int], BeforeValidator(_unpacked), PlainSerializer(_packed)]
TweetCounts = Annotated[  # one (right, predicted, gold) a tweet
    list[tuple[int, int, int]], BeforeValidator(_unpacked), PlainSerializer(_packed)
]
