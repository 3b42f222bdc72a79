"""Coloured shapes with a mouth, and badges for them: what the entities of generated images look like."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from clamp.data.schema import POLARITIES, Polarity

Look = Literal["usual", "unseen"]

# Name -> fill. All are bright enough for a black mouth, so that one detector can read every mouth.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 70, 60),
    "orange": (255, 150, 0),
    "yellow": (250, 240, 50),
    "green": (60, 200, 60),
    "cyan": (60, 235, 235),
    "blue": (90, 130, 255),
    "purple": (180, 90, 255),
    "pink": (255, 160, 200),
}
_INK = (0, 0, 0)

# Name -> height of the mouth's centre in the unit square, y downwards: where the shape is wide enough for it.
SHAPES: dict[str, float] = {
    "ball": 0.55,
    "box": 0.55,
    "tent": 0.76,
    "cone": 0.26,
    "kite": 0.5,
    "cross": 0.5,
    "star": 0.52,
    "heart": 0.42,
}

# How far the middle of the mouth lies below its corners, in the order of POLARITIES, as a share of the sprite.
_MOUTH_SAG = dict(zip(POLARITIES, (0.26, 0.0, -0.26), strict=True))
_MOUTH_WIDTH: dict[Look, float] = {"usual": 0.5, "unseen": 0.56}
_MOUTH_STROKE: dict[Look, float] = {"usual": 0.11, "unseen": 0.09}
_SHADE = 0.8  # of the unseen look's colours: the nearest two stay further apart than a shade moves one
_THINNEST_STROKE = 1.2  # pixels; a thinner one fades on 8-pixel cells
_OVERSAMPLING = 8
_BADGE = 0.3  # side of a badge, as a share of the sprite
_HIGH_MOUTH = 0.45  # with its centre above this a mouth reaches into the upper corner


def _outline(shape: str) -> list[tuple[float, float]]:
    """The corners of a shape in the unit square, y downwards."""
    turn = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    match shape:
        case "ball":
            points = np.stack([0.5 + 0.5 * np.cos(turn), 0.5 + 0.5 * np.sin(turn)], axis=1)
        case "box":
            points = np.array([(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)])
        case "tent":
            points = np.array([(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)])
        case "cone":
            points = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)])
        case "kite":
            points = np.array([(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)])
        case "cross":
            low, high = 0.27, 0.73
            corners = [(low, 0), (high, 0), (high, low), (1, low), (1, high), (high, high)]
            corners += [(high, 1), (low, 1), (low, high), (0, high), (0, low), (low, low)]
            points = np.array(corners, dtype=float)
        case "star":
            spikes = np.arange(10) * np.pi / 5 - np.pi / 2
            radius = np.where(np.arange(10) % 2 == 0, 0.54, 0.27)
            points = np.stack([0.5 + radius * np.cos(spikes), 0.54 + radius * np.sin(spikes)], axis=1)
        case "heart":
            x = 16 * np.sin(turn) ** 3
            y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
            points = np.stack([0.5 + x / 32, 0.42 - y / 29], axis=1)
        case _:
            raise ValueError(f"no shape named {shape!r}")
    return [(float(x), float(y)) for x, y in points]


def _fill(colour: str, look: Look) -> tuple[int, ...]:
    return COLOURS[colour] if look == "usual" else tuple(round(_SHADE * level) for level in COLOURS[colour])


def _draw(size: int, colour: str, shape: str, polarity: Polarity, look: Look) -> np.ndarray:
    """One sprite, (size, size, 4) uint8 RGBA."""
    fill = _fill(colour, look)
    scale = size * _OVERSAMPLING
    canvas = Image.new("RGBA", (scale, scale), (*fill, 0))
    pen = ImageDraw.Draw(canvas)
    pen.polygon([(x * scale, y * scale) for x, y in _outline(shape)], fill=(*fill, 255))
    across = np.linspace(-1.0, 1.0, 17)
    x = (0.5 + 0.5 * _MOUTH_WIDTH[look] * across) * scale
    y = (SHAPES[shape] + _MOUTH_SAG[polarity] * (0.5 - across**2)) * scale
    stroke = max(_MOUTH_STROKE[look] * size, _THINNEST_STROKE) * _OVERSAMPLING
    pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(*_INK, 255), width=round(stroke), joint="curve")
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


@lru_cache(maxsize=8)
def sprites(size: int, look: Look = "usual") -> tuple[np.ndarray, np.ndarray]:
    """Every entity with every mouth, `size` pixels a side; the "unseen" look is darker, with a thinner, wider mouth.

    Returns the colours times their coverage, (colours, shapes, polarities, size, size, 3) float32 in 0..255, and what
    they leave of the background, (colours, shapes, polarities, size, size, 1) float32 in 0..1; axes in the order of
    COLOURS, SHAPES and POLARITIES.
    """
    drawn = [[[_draw(size, c, s, p, look) for p in POLARITIES] for s in SHAPES] for c in COLOURS]
    rgba = np.array(drawn, dtype=np.float32)
    coverage = rgba[..., 3:] / np.float32(255.0)
    paint, remainder = rgba[..., :3] * coverage, 1.0 - coverage
    paint.flags.writeable = remainder.flags.writeable = False  # the cache hands the same arrays to everybody
    return paint, remainder


@lru_cache(maxsize=8)
def badges(size: int, look: Look = "usual") -> tuple[np.ndarray, tuple[tuple[slice, slice], ...]]:
    """Badges on sprites of `size` pixels a side: plain squares at the right, in the corner that the mouth leaves free.

    Returns their colours, (colours, 3) float32 in 0..255, the same as the figures' own in that look, and by shape the
    rows and columns of a sprite that a badge covers; in the order of COLOURS and SHAPES.
    """
    fills = np.array([_fill(colour, look) for colour in COLOURS], dtype=np.float32)
    fills.flags.writeable = False
    side = round(_BADGE * size)
    upper, lower, right = slice(0, side), slice(size - side, size), slice(size - side, size)
    return fills, tuple((lower if mouth < _HIGH_MOUTH else upper, right) for mouth in SHAPES.values())
