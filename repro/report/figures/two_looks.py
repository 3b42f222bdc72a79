"""Two looks: what the task is, where CLAMP's stages look, and who manages it."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from clamp.config import SyntheticConfig
from clamp.data import Aspect, Tweet
from clamp.data.synthetic import IMAGE_SIZE
from repro.evaluate.redrawn_images import first_test_tweets
from repro.evidence.cells import Cell
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.style import BLACK, BLUE, COLUMN, ORANGE, SHORT, VERMILION
from repro.report.tables.mechanism.two_looks import (
    mean_of,
    stages,
    systems,
    two_looks,
    without_badges,
    words_alone,
)

_TRIED = 100  # tweets, of which one is shown
_NAMES = {**SHORT, "full": "CLAMP (three stages)", "two_stages": "two stages", "four_stages": "four stages"}
_ELSEWHERE = "#CCCCCC"
_WORDS = {"POS": "a smile: positive", "NEG": "a frown: negative"}


def _suffices(evidence: Evidence) -> bool:
    return bool(systems(evidence))


def shown_tweet(evidence: Evidence) -> tuple[Tweet, Aspect]:
    """The first test tweet of one aspect, told by the image to be no neutral one, with its two figures apart."""
    config = next(iter(systems(evidence).values())).records[0].config["data"]["synthetic"]
    for tweet in first_test_tweets(SyntheticConfig(**config), _TRIED):
        aspect = tweet.aspects[0]
        is_plain = len(tweet.aspects) == 1 and aspect.told_by == "image" and aspect.polarity != "NEU"
        if is_plain and _apart(tweet, aspect) >= 2:
            return tweet, aspect
    raise ValueError(f"none of {_TRIED} test tweets has one such aspect alone")


def _apart(tweet: Tweet, aspect: Aspect) -> int:
    assert aspect.region is not None
    assert aspect.second_region is not None
    (row, column), (other_row, other_column) = (
        divmod(cell, tweet.cells) for cell in (aspect.region, aspect.second_region)
    )
    return max(abs(row - other_row), abs(column - other_column))


def _draw(evidence: Evidence) -> Figure:
    """Left the task, right where stages look and who manages it."""
    shown = systems(evidence)
    figure = Figure(figsize=(2 * COLUMN, 3.9), dpi=200, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.0, 1.1), height_ratios=(1.0, 1.3))
    _draw_task(figure.add_subplot(grid[:, 0]), *shown_tweet(evidence))
    _draw_looks(figure.add_subplot(grid[0, 1]), shown)
    _draw_scores(figure.add_subplot(grid[1, 1]), shown)
    return figure


def _draw_task(axis: Axes, tweet: Tweet, aspect: Aspect) -> None:
    """Words above the image, and arrows from the aspect to its figure and from there to the one that it names."""
    assert isinstance(tweet.image, np.ndarray)
    axis.imshow(tweet.image)
    axis.set_xlim(-0.5, IMAGE_SIZE - 0.5)
    axis.set_ylim(IMAGE_SIZE + 11.5, -22.5)
    axis.axis("off")
    axis.set_title("The task: one aspect of one tweet", loc="left", fontweight="bold")
    name = " ".join(tweet.words[aspect.start : aspect.end])
    before, after = (" ".join(part) for part in (tweet.words[: aspect.start], tweet.words[aspect.end :]))
    sentence = textwrap.fill(
        f"\N{LEFT DOUBLE QUOTATION MARK}{before} [{name}] {after}\N{RIGHT DOUBLE QUOTATION MARK}", 50
    )
    axis.text(0, -22, sentence, va="top", fontsize=7)
    own, named = (_centre(tweet, cell) for cell in (aspect.region, aspect.second_region))
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": BLACK, "linewidth": 0.8}
    axis.annotate(
        f"1  find the {name}", own, (IMAGE_SIZE / 2, -6), ha="center", va="center", fontsize=7, bbox=box,
        arrowprops=_arrow(),
    )  # fmt: skip
    axis.annotate("", named, own, arrowprops=_arrow(rad=0.25))
    middle = (own[0] + named[0]) / 2, (own[1] + named[1]) / 2
    axis.text(*middle, "2", ha="center", va="center", fontsize=7, bbox=box)
    below = (
        f"2  its badge names the figure of that colour;\n    what counts is the mouth there, {_WORDS[aspect.polarity]}"
    )
    axis.text(0, IMAGE_SIZE + 1.5, below, va="top", fontsize=7)


def _centre(tweet: Tweet, cell: int | None) -> tuple[float, float]:
    assert cell is not None
    side = IMAGE_SIZE // tweet.cells
    row, column = divmod(cell, tweet.cells)
    return column * side + side / 2 - 0.5, row * side + side / 2 - 0.5


def _arrow(rad: float = 0.0) -> dict[str, object]:
    """White within black, so that it stands out on any ground; `rad` bends it."""
    return {
        "arrowstyle": "-|>",
        "color": "white",
        "linewidth": 1.6,
        "shrinkA": 9 if rad else 0,
        "shrinkB": 9,
        "connectionstyle": f"arc3,rad={rad}",
        "path_effects": [Stroke(linewidth=3.2, foreground=BLACK), Normal()],
    }


def _draw_looks(axis: Axes, shown: dict[str, Cell]) -> None:
    """A bar a stage of CLAMP, and one for a plain cross-attention: own figure, named figure, elsewhere."""
    rows = [
        (f"stage {number}" if system == "full" else "no PAF", own, named)
        for system in ("full", "no_paf")
        if system in shown
        for number, of_seeds in enumerate(stages(shown[system]), 1)
        if (own := mean_of(of_seeds, lambda stage: stage.pointing)) is not None
        and (named := mean_of(of_seeds, lambda stage: stage.second_pointing)) is not None
    ]
    for row, (_, own, named) in enumerate(rows):
        left = 0.0
        for share, color, hatch in ((own, BLUE, ""), (named, ORANGE, "//"), (1 - own - named, _ELSEWHERE, "")):
            axis.barh(row, 100 * share, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.5)
            left += 100 * share
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.grid(axis="y", visible=False)
    axis.set_title("Where CLAMP looks most, stage by stage", loc="left", fontweight="bold", pad=16)
    axis.set_xlabel("aspects that only the image tells (%)")
    names = (("own figure", BLUE, ""), ("named figure", ORANGE, "//"), ("elsewhere", _ELSEWHERE, ""))
    handles = [Patch(facecolor=color, hatch=hatch, edgecolor="white", label=name) for name, color, hatch in names]
    axis.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=3, handlelength=1.2, borderpad=0,
        columnspacing=1.0, fontsize=7,
    )  # fmt: skip


def _draw_scores(axis: Axes, shown: dict[str, Cell]) -> None:
    """A bar a system with a dot a seed; lines at what words alone give, mouths without badges, and two looks."""
    for row, (system, cell) in enumerate(shown.items()):
        values = [100 * value for value in cell.test("joint", "f1")]
        axis.barh(row, np.mean(values), color=VERMILION if system == "full" else BLUE, alpha=0.75, height=0.7)
        axis.plot(values, [row] * len(values), "o", mfc="white", mec=BLACK, mew=0.5, markersize=3)
    lines = (("words\nalone", words_alone(shown), ":"), ("mouths,\nno badge", without_badges(shown), "-."),
             ("two\nlooks", 1.0, "--"))  # fmt: skip
    for name, expected, style in lines:
        axis.axvline(100 * expected, color=BLACK, linewidth=0.9, linestyle=style)
        axis.text(100 * expected, -0.75, name, ha="center", va="bottom", fontsize=6.5, linespacing=1.0)
    axis.set_yticks(range(len(shown)), [f"{_NAMES[system]} ({cell.n})" for system, cell in shown.items()], fontsize=7)
    axis.set_ylim(len(shown) - 0.4, -0.7)
    axis.set_xlim(0, 104)
    axis.grid(axis="y", visible=False)
    axis.set_title("Who manages it", loc="left", fontweight="bold", pad=20)
    axis.set_xlabel("test joint F1 (%), seeds in brackets")


def _sentences(evidence: Evidence) -> tuple[str, ...]:
    """Those of the table."""
    return two_looks(evidence).findings


FIGURE = ReportFigure(
    "two_looks",
    "A task that needs two looks. Left: a generated test tweet of which the image tells the polarity. Every figure "
    "wears a badge, a small square in the colour of another figure; the mouth that counts is the named figure's, not "
    "the aspect's own. Upper right: which figure has most of the attention of the aspect's words at each stage of "
    "CLAMP, and in a plain cross-attention (no PAF), mean over seeds. Lower right: test joint F1 of every system, mean "
    "(bar) and each seed (dot). Lines: F1 to expect of words alone, of words and all mouths but "
    "no badge (only what is above shows that badges are read), and of who looks twice",
    _suffices,
    _draw,
    _sentences,
)
