"""Generated tweets whose every aspect has a known polarity, a known image cell, and a known teller: words or picture.

An entity is a colour word and a shape word, and in the image that coloured shape with a mouth: smile POS, flat NEU,
frown NEG. The words tell an aspect's polarity, or say only that it can be seen: then a mouth is the sole evidence. With
one look that is the aspect's own mouth; with two it is the mouth of another figure, which the aspect's own figure names
by a badge in that figure's colour. A caption names the figures, not their mouths. docs/synthetic.md has the grammar and
the bounds that follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from clamp.config import ConfigError
from clamp.data.schema import POLARITIES, Aspect, Polarity, Tweet
from clamp.data.sprites import COLOURS, SHAPES, Look, badges, sprites

IMAGE_SIZE = 64  # pixels a side
MAX_ASPECTS = 3
WORD_RANGE = (8, 20)

Redraw = Literal["nothing", "mouths", "badges"]

POLARITY_WORDS: dict[Polarity, tuple[str, ...]] = {
    "POS": ("lovely", "superb", "brilliant", "wonderful", "excellent", "delightful"),
    "NEU": ("ordinary", "average", "usual", "standard", "typical", "regular"),
    "NEG": ("awful", "dreadful", "terrible", "horrid", "nasty", "rotten"),
}
# Kept apart from the neutral words: were they shared, no reader could know whether to look at the picture.
UNTOLD_WORDS = ("pictured", "shown", "visible", "photographed", "posted", "displayed")
LINK_WORDS = ("is", "was", "looks", "seems")

# "S" is the word on polarity, "A" the aspect, "V" a link word. An aspect before a link word is described after it, any
# other by the word just before it: this rule is what makes the text unambiguous.
CLAUSES = (
    ("S", "A"),
    ("a", "S", "A"),
    ("the", "S", "A"),
    ("what", "a", "S", "A"),
    ("A", "V", "S"),
    ("the", "A", "V", "S"),
    ("the", "A", "V", "so", "S"),
    ("my", "A", "V", "S"),
)
# Other ways to say the same with the same words, by the same rule: for tests on what training never showed.
UNSEEN_CLAUSES = (
    ("wow", "the", "S", "A"),
    ("my", "so", "S", "A"),
    ("what", "the", "S", "A"),
    ("every", "A", "V", "S"),
    ("a", "A", "V", "again", "S"),
    ("no", "A", "V", "S"),
)
_JOINTS = ("and", "but", "while", "then", ",")

# "C" and "K" are a colour and a shape that belong to no aspect; they never stand next to each other.
_FILLERS = (
    ("today",), ("honestly",), ("folks",), ("again",), ("wow",), ("!",),
    ("this", "morning"), ("at", "home"), ("in", "town"), ("right", "now"),
    ("near", "the", "river"), ("after", "the", "match"), ("on", "my", "way"),
    ("under", "C", "skies"), ("C", "shoes"), ("every", "K"), ("no", "K", "here"),
)  # fmt: skip
_SLOTS = frozenset("SAVCK")

VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *COLOURS,
            *SHAPES,
            *(word for words in POLARITY_WORDS.values() for word in words),
            *UNTOLD_WORDS,
            *LINK_WORDS,
            *_JOINTS,
            *(word for phrase in (*CLAUSES, *_FILLERS) for word in phrase if word not in _SLOTS),
        ]
    )
)
"""Every word that can occur, in a fixed order."""

_COLOUR_WORDS, _SHAPE_WORDS = tuple(COLOURS), tuple(SHAPES)
_T = TypeVar("_T")


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _fillers(rng: np.random.Generator, length: int) -> list[list[str]]:
    """Phrases of `length` words in all."""
    phrases = []
    while length:
        phrase = _pick(rng, _FILLERS)
        if len(phrase) > length:
            continue
        spoken = [
            _pick(rng, _COLOUR_WORDS) if word == "C" else _pick(rng, _SHAPE_WORDS) if word == "K" else word
            for word in phrase
        ]
        phrases.append(spoken)
        length -= len(phrase)
    return phrases


def _write(
    rng: np.random.Generator,
    entities: Sequence[tuple[str, str]],
    words_on: Sequence[Sequence[str]],
    known_clauses: Sequence[Sequence[str]],
) -> tuple[list[str], list[int]]:
    """The words of a tweet on these entities, each with its choice of polarity words, and where each entity starts."""
    clauses: list[list[str]] = []
    offsets = []
    for number, (entity, options) in enumerate(zip(entities, words_on, strict=True)):
        clause = [_pick(rng, _JOINTS)] if number else []
        for slot in _pick(rng, known_clauses):
            if slot == "A":
                offsets.append(len(clause))
                clause += entity
            else:
                clause.append(_pick(rng, options) if slot == "S" else _pick(rng, LINK_WORDS) if slot == "V" else slot)
        clauses.append(clause)

    core = sum(map(len, clauses))
    length = int(rng.integers(max(core, WORD_RANGE[0]), WORD_RANGE[1] + 1))
    gaps: list[list[str]] = [[] for _ in range(len(clauses) + 1)]
    for phrase in _fillers(rng, length - core):
        _pick(rng, gaps).extend(phrase)

    words, starts = list(gaps[0]), []
    for clause, offset, gap in zip(clauses, offsets, gaps[1:], strict=True):
        starts.append(len(words) + offset)
        words += clause + gap
    return words, starts


@dataclass(frozen=True)
class _Figure:
    """What an image shows in a cell: indices of its colour, shape and mouth, and of the colour of its badge if any."""

    cell: int
    colour: int
    shape: int
    mouth: int
    badge: int | None


def _paint(rng: np.random.Generator, cells: int, noise: float, look: Look, shown: Sequence[_Figure]) -> np.ndarray:
    """An image of these figures on a grey ground, (64, 64, 3) uint8."""
    cell_size = IMAGE_SIZE // cells
    play = cell_size // 8  # pixels by which a figure may be off
    size = cell_size - play
    paint, remainder = sprites(size, look)
    badge_paint, badge_corners = badges(size, look)
    image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), rng.uniform(90.0, 165.0), dtype=np.float32)
    for figure in shown:
        top = figure.cell // cells * cell_size + int(rng.integers(play + 1))
        left = figure.cell % cells * cell_size + int(rng.integers(play + 1))
        window = image[top : top + size, left : left + size]
        window *= remainder[figure.colour, figure.shape, figure.mouth]
        window += paint[figure.colour, figure.shape, figure.mouth]
        if figure.badge is not None:
            window[badge_corners[figure.shape]] = badge_paint[figure.badge]
    # Drawn at any level, so that the same seed shows the same scenes whatever the noise.
    image += np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(image, out=image), 0.0, 255.0, out=image).astype(np.uint8)


def _caption(entities: Sequence[tuple[str, str]], places: Sequence[int]) -> str:
    """What a captioner would say: colour and shape of every figure, in reading order, and nothing of their mouths.

    The order of the cells, so that it does not tell which of them the tweet mentions.
    """
    return " , ".join(f"{colour} {shape}" for _, (colour, shape) in sorted(zip(places, entities, strict=True)))


@dataclass(frozen=True)
class _Settings:
    """The arguments of `generate_synthetic` that every tweet is made by."""

    image_told_share: float
    distractors: int
    cells: int
    noise: float
    looks: int
    clauses: Sequence[Sequence[str]]
    look: Look
    redraw: Redraw


def _appearances(rng: np.random.Generator, visible: int, looks: int) -> tuple[list[int], list[int]]:
    """Colours and shapes of the visible figures: no two the same, with two looks no two of one colour."""
    if looks == 2:  # a badge has nothing but a colour to name a figure by
        colours, shapes = rng.permutation(len(COLOURS))[:visible], rng.integers(len(SHAPES), size=visible)
    else:
        colours, shapes = np.divmod(rng.permutation(len(COLOURS) * len(SHAPES))[:visible], len(SHAPES))
    return colours.tolist(), shapes.tolist()


def _named(rng: np.random.Generator, visible: int) -> list[int]:
    """Which figure the badge of each names: the next on a random cycle through them all."""
    cycle = rng.permutation(visible)
    named = np.empty_like(cycle)
    named[cycle] = np.roll(cycle, -1)
    named_by_figure: list[int] = named.tolist()
    return named_by_figure


def _tweet(rng: np.random.Generator, name: str, settings: _Settings) -> Tweet:
    count = int(rng.integers(1, MAX_ASPECTS + 1))
    visible = count + settings.distractors
    colours, shapes = _appearances(rng, visible, settings.looks)
    places = rng.permutation(settings.cells**2)[:visible].tolist()
    mouths = rng.integers(len(POLARITIES), size=visible).tolist()
    labels = rng.integers(len(POLARITIES), size=count).tolist()
    by_image = (rng.random(count) < settings.image_told_share).tolist()
    named = _named(rng, visible) if settings.looks == 2 else None

    # After all draws, so that the rest of the scene and every word stay what they were.
    told = [i for i in range(count) if by_image[i]]
    tellers = named or list(range(visible))  # of each figure: whose mouth it takes
    for i in told:
        mouths[tellers[i]] = labels[i]
    if settings.redraw == "mouths":
        mouths = [_other(mouth) for mouth in mouths]
    if settings.redraw == "badges":  # the cycle the other way round
        named = tellers = [tellers.index(i) for i in range(visible)]
    for i in told:
        labels[i] = mouths[tellers[i]]

    entities = [(_COLOUR_WORDS[colour], _SHAPE_WORDS[shape]) for colour, shape in zip(colours, shapes, strict=True)]
    polarities = [POLARITIES[label] for label in labels]
    words_on = [UNTOLD_WORDS if by_image[i] else POLARITY_WORDS[polarities[i]] for i in range(count)]
    words, starts = _write(rng, entities[:count], words_on, settings.clauses)
    badge_colours = [None] * visible if named is None else [colours[other] for other in named]
    figures = map(_Figure, places, colours, shapes, mouths, badge_colours)
    return Tweet(
        id=name,
        words=tuple(words),
        aspects=tuple(
            Aspect(
                starts[i],
                starts[i] + 2,
                polarities[i],
                region=places[i],
                told_by="image" if by_image[i] else "text",
                second_region=None if named is None else places[named[i]],
            )
            for i in range(count)
        ),
        image=_paint(rng, settings.cells, settings.noise, settings.look, list(figures)),
        proxy=(_caption(entities, places),),
        distractors=tuple(places[j] for j in range(count, visible) if j not in {tellers[i] for i in told}),
        cells=settings.cells,
    )


def _other(polarity: int) -> int:
    """Another polarity than this one, by index; every one of them in turn."""
    return (polarity + 1) % len(POLARITIES)


def _check(settings: _Settings) -> None:
    """ConfigError where there is no room, or no way to name a figure."""
    cells, distractors, nameable = settings.cells, settings.distractors, len(COLOURS) - MAX_ASPECTS
    reason = None
    if MAX_ASPECTS + distractors > cells * cells:
        shown = f"{MAX_ASPECTS} aspects and {distractors} distractors"
        reason = f"distractors: {shown} do not fit into {cells} x {cells} cells"
    elif settings.looks not in (1, 2):
        reason = f"looks: {settings.looks} is neither 1 nor 2"
    elif settings.looks == 2 and not 1 <= distractors <= nameable:
        reason = f"distractors: {distractors}, where two looks need 1 to {nameable}: figures of {len(COLOURS)} colours"
    elif settings.redraw == "badges" and settings.looks != 2:
        reason = "redraw: with one look there are no badges"
    if reason is not None:
        raise ConfigError(f"synthetic data: {reason}")


def generate_synthetic(
    n: int,
    seed: int | np.random.SeedSequence,
    *,
    image_told_share: float = 0.5,
    distractors: int = 2,
    cells: int = 4,
    noise: float = 16.0,
    looks: int = 1,
    clauses: Sequence[Sequence[str]] = CLAUSES,
    look: Look = "usual",
    redraw: Redraw = "nothing",
    id_prefix: str = "synthetic-",
) -> list[Tweet]:
    """`n` tweets of 8 to 20 words with 1 to 3 aspects, and images (64, 64, 3) uint8 of cells x cells cells.

    Each aspect is told by the image with probability `image_told_share`, else by the words, and then no mouth knows
    anything of its polarity. `distractors` is how many entities an image shows beyond those that the tweet mentions,
    `noise` the standard deviation of pixel noise in grey levels. With 1 of `looks` an aspect that the image tells has
    the polarity of its own figure's mouth; with 2 every figure wears a badge in the colour of another one, no two the
    same, and the mouth that counts is that of the figure which the aspect's own figure names. The same arguments give
    the same bytes, and a longer set starts with the shorter one. ConfigError if the entities do not fit into the image,
    or colours do not suffice to name them.

    For tests of what training never showed: other `clauses`, and the entities' other `look`. For counterfactuals, the
    same tweets with something redrawn, nothing else changed, and the annotation of what the image tells to match:
    "mouths" has every mouth show another polarity, "badges" has them name figures along the cycle the other way round
    (which of two figures is the same way).
    """
    rng = np.random.default_rng(seed)
    settings = _Settings(image_told_share, distractors, cells, noise, looks, clauses, look, redraw)
    _check(settings)
    return [_tweet(rng, f"{id_prefix}{number:05d}", settings) for number in range(n)]
