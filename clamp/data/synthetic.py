"""Generated tweets whose every aspect has a known polarity, a known image cell, and a known teller: words or picture.

An entity is a colour word and a shape word, and in the image that coloured shape with a mouth: smile POS, flat NEU,
frown NEG. The words tell an aspect's polarity, or say only that it can be seen: then its mouth is the sole evidence.
A caption names the figures, not their mouths. docs/synthetic.md has the grammar and the bounds that follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from clamp.config import ConfigError
from clamp.data.schema import POLARITIES, Aspect, Polarity, Tweet
from clamp.data.sprites import COLOURS, SHAPES, Look, sprites

IMAGE_SIZE = 64  # pixels a side
MAX_ASPECTS = 3
WORD_RANGE = (8, 20)

Redraw = Literal["nothing", "mentioned", "distractors"]

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


def _paint(
    rng: np.random.Generator, cells: int, noise: float, look: Look, shown: Sequence[tuple[int, int, int, int]]
) -> np.ndarray:
    """An image of (cell, colour, shape, mouth) entities on a grey ground, (64, 64, 3) uint8."""
    cell_size = IMAGE_SIZE // cells
    play = cell_size // 8  # pixels by which an entity may be off
    size = cell_size - play
    paint, remainder = sprites(size, look)
    image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), rng.uniform(90.0, 165.0), dtype=np.float32)
    for cell, colour, shape, mouth in shown:
        top = cell // cells * cell_size + int(rng.integers(play + 1))
        left = cell % cells * cell_size + int(rng.integers(play + 1))
        window = image[top : top + size, left : left + size]
        window *= remainder[colour, shape, mouth]
        window += paint[colour, shape, mouth]
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
    clauses: Sequence[Sequence[str]]
    look: Look
    redraw: Redraw


def _tweet(rng: np.random.Generator, name: str, settings: _Settings) -> Tweet:
    count = int(rng.integers(1, MAX_ASPECTS + 1))
    visible = count + settings.distractors
    codes = rng.permutation(len(COLOURS) * len(SHAPES))[:visible]
    colours, shapes = (codes // len(SHAPES)).tolist(), (codes % len(SHAPES)).tolist()
    places = rng.permutation(settings.cells**2)[:visible].tolist()
    mouths = rng.integers(len(POLARITIES), size=visible).tolist()
    labels = rng.integers(len(POLARITIES), size=count).tolist()
    by_image = (rng.random(count) < settings.image_told_share).tolist()

    # After all draws, so that the rest of the scene and every word stay what they were.
    for i in range(count):
        if by_image[i]:
            labels[i] = _other(labels[i]) if settings.redraw == "mentioned" else labels[i]
            mouths[i] = labels[i]
    if settings.redraw == "distractors":
        mouths[count:] = map(_other, mouths[count:])
    entities = [(_COLOUR_WORDS[colour], _SHAPE_WORDS[shape]) for colour, shape in zip(colours, shapes, strict=True)]
    polarities = [POLARITIES[label] for label in labels]
    words_on = [UNTOLD_WORDS if by_image[i] else POLARITY_WORDS[polarities[i]] for i in range(count)]
    words, starts = _write(rng, entities[:count], words_on, settings.clauses)
    told_by: list[Literal["text", "image"]] = ["image" if told else "text" for told in by_image]
    return Tweet(
        id=name,
        words=tuple(words),
        aspects=tuple(
            Aspect(starts[i], starts[i] + 2, polarities[i], region=places[i], told_by=told_by[i]) for i in range(count)
        ),
        image=_paint(
            rng, settings.cells, settings.noise, settings.look, list(zip(places, colours, shapes, mouths, strict=True))
        ),
        proxy=(_caption(entities, places),),
        distractors=tuple(places[count:]),
        cells=settings.cells,
    )


def _other(polarity: int) -> int:
    """Another polarity than this one, by index; every one of them in turn."""
    return (polarity + 1) % len(POLARITIES)


def generate_synthetic(
    n: int,
    seed: int | np.random.SeedSequence,
    *,
    image_told_share: float = 0.5,
    distractors: int = 2,
    cells: int = 4,
    noise: float = 16.0,
    clauses: Sequence[Sequence[str]] = CLAUSES,
    look: Look = "usual",
    redraw: Redraw = "nothing",
    id_prefix: str = "synthetic-",
) -> list[Tweet]:
    """`n` tweets of 8 to 20 words with 1 to 3 aspects, and images (64, 64, 3) uint8 of cells x cells cells.

    Each aspect is told by the image with probability `image_told_share`, else by the words; then the mouth in its cell
    is drawn without regard to its polarity. `distractors` is how many entities an image shows beyond those that the
    tweet mentions, `noise` the standard deviation of pixel noise in grey levels. The same arguments give the same
    bytes, and a longer set starts with the shorter one. ConfigError if the entities do not fit into the image.

    For tests of what training never showed: other `clauses`, and the entities' other `look`. For counterfactuals, the
    same tweets with some mouths redrawn as another polarity's and nothing else changed: "mentioned" those of aspects
    that the image tells, whose annotated polarity follows; "distractors" those of the entities not mentioned.
    """
    if MAX_ASPECTS + distractors > cells * cells:
        reason = f"{MAX_ASPECTS} aspects and {distractors} distractors do not fit into {cells} x {cells} cells"
        raise ConfigError(f"synthetic data: distractors: {reason}")
    rng = np.random.default_rng(seed)
    settings = _Settings(image_told_share, distractors, cells, noise, clauses, look, redraw)
    return [_tweet(rng, f"{id_prefix}{number:05d}", settings) for number in range(n)]
