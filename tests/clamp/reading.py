"""What a perfect reader finds in a generated tweet: aspects in its words, figures and their badges in its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from clamp.data.schema import POLARITIES, Aspect, Polarity, Tweet
from clamp.data.sprites import COLOURS, SHAPES, Look, badges, sprites
from clamp.data.synthetic import IMAGE_SIZE, LINK_WORDS, POLARITY_WORDS, UNTOLD_WORDS

MEANING: dict[str, Polarity | None] = {word: p for p, words in POLARITY_WORDS.items() for word in words}
MEANING |= dict.fromkeys(UNTOLD_WORDS)
COLOUR_CODE = {word: code for code, word in enumerate(COLOURS)}
SHAPE_CODE = {word: code for code, word in enumerate(SHAPES)}


def told_in_words(words: tuple[str, ...]) -> list[tuple[int, Polarity | None]]:
    """Where each aspect starts, and its polarity if the words tell it: the rule of the docs, from the words alone."""
    found = []
    for start, (first, second) in enumerate(pairwise(words)):
        if first in COLOURS and second in SHAPES:
            after = words[start + 2 :]
            if after and after[0] in LINK_WORDS:
                word = after[1] if after[1] in MEANING else after[2]
            else:
                word = words[start - 1]
            found.append((start, MEANING[word]))
    return found


def _windows(tweet: Tweet) -> tuple[np.ndarray, np.ndarray]:
    """What lies where a figure may be, (offsets, cells, size, size, 3), and the usual level of the ground."""
    cell_size = IMAGE_SIZE // tweet.cells
    play = cell_size // 8
    size = cell_size - play
    assert isinstance(tweet.image, np.ndarray)
    pixels = tweet.image.astype(np.float32)
    grid = np.arange(tweet.cells) * cell_size
    tops, lefts = np.repeat(grid, tweet.cells), np.tile(grid, tweet.cells)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (size, size), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    offsets = [(down, right) for down in range(play + 1) for right in range(play + 1)]
    return np.stack([windows[tops + down, lefts + right] for down, right in offsets]), np.median(pixels)


def seen_in_pixels(tweet: Tweet, colour: str, shape: str, look: Look = "usual") -> tuple[int, Polarity]:
    """The cell and the mouth of the drawing of this entity that fits the picture best, at any offset in any cell."""
    candidates, ground = _windows(tweet)
    paint, remainder = (table[COLOUR_CODE[colour], SHAPE_CODE[shape]] for table in sprites(candidates.shape[2], look))
    drawn = paint + remainder * ground
    misfit = np.stack([((candidates - mouth) ** 2).sum(axis=(2, 3, 4)) for mouth in drawn])
    mouth, _, cell = np.unravel_index(misfit.argmin(), misfit.shape)
    return int(cell), POLARITIES[mouth]


@dataclass(frozen=True)
class Seen:
    """A figure as its cell shows it: `badge` is the name of the badge's colour."""

    cell: int
    shape: str
    mouth: Polarity
    badge: str


def figure_of_colour(tweet: Tweet, colour: str, look: Look = "usual") -> Seen:
    """Of a tweet that needs two looks: the figure of this colour, whatever its shape, found in pixels as above."""
    candidates, ground = _windows(tweet)
    size = candidates.shape[2]
    paint, remainder = (table[COLOUR_CODE[colour]] for table in sprites(size, look))
    fills, corners = badges(size, look)
    beside_badge = np.ones((len(SHAPES), 1, size, size, 3), dtype=np.float32)
    for shape, corner in enumerate(corners):
        beside_badge[shape, 0][corner] = 0.0
    beside_badge /= beside_badge[:, :, :, :, :1].sum(axis=(2, 3), keepdims=True)
    drawn = (paint + remainder * ground - ground).reshape(len(SHAPES) * len(POLARITIES), -1)
    weight = np.broadcast_to(beside_badge, paint.shape).reshape(len(drawn), -1)
    seen = (candidates - ground).reshape(-1, drawn.shape[1])
    misfit = seen**2 @ weight.T - 2.0 * seen @ (weight * drawn).T + (weight * drawn**2).sum(axis=1)
    place, figure = divmod(int(misfit.argmin()), len(drawn))
    offset, cell = divmod(place, tweet.cells**2)
    shape, mouth = divmod(figure, len(POLARITIES))
    level = candidates[offset, cell][corners[shape]].mean(axis=(0, 1))
    badge = list(COLOURS)[((fills - level) ** 2).sum(axis=1).argmin()]
    return Seen(cell, list(SHAPES)[shape], POLARITIES[mouth], badge)


def entity_of(tweet: Tweet, aspect: Aspect) -> tuple[str, str]:
    colour, shape = tweet.words[aspect.start : aspect.end]
    return colour, shape


def gold(tweets: list[Tweet]) -> list[list[tuple[int, int, str]]]:
    return [[(a.start, a.end, a.polarity) for a in tweet.aspects] for tweet in tweets]


def same(first: Tweet, second: Tweet) -> bool:
    return replace(first, image=None) == replace(second, image=None) and np.array_equal(first.image, second.image)


def changed_cells(first: Tweet, second: Tweet) -> set[int]:
    """The cells in which two images differ."""
    assert isinstance(first.image, np.ndarray)
    assert isinstance(second.image, np.ndarray)
    side = IMAGE_SIZE // first.cells
    rows, columns = np.nonzero((first.image != second.image).any(axis=2))
    return set((rows // side * first.cells + columns // side).tolist())
