"""A few tweets with their images, and where each stage looks for each aspect."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clamp.config import SyntheticConfig
from clamp.data import Tweet
from clamp.data.synthetic import IMAGE_SIZE
from repro.evaluate.redrawn_images import first_test_tweets
from repro.evidence.cells import GENERATED
from repro.evidence.evidence import Evidence
from repro.report.figures.figure import ReportFigure
from repro.report.figures.style import COLUMN

# inches
_WIDTH, _EDGE = 2 * COLUMN, 0.08
_HEADER, _TITLE, _MAP, _BELOW = 0.4, 0.18, 1.08, 0.36
_IMAGE, _LABEL, _GAP = 1.9, 1.12, 0.14
_BAR = 0.62
OPACITY = 0.72  # of a map over its image
HEAT = "inferno"  # from dark to bright alone, for every kind of colour vision


def shown_tweets(evidence: Evidence) -> list[tuple[Tweet, dict[str, Any]]]:
    """The tweets that a rule chose; see `mapped_tweets`."""
    return [(tweet, one) for tweet, one in mapped_tweets(evidence) if one["why"]]


def mapped_tweets(evidence: Evidence) -> list[tuple[Tweet, dict[str, Any]]]:
    """Tweets generated again, with their maps; none where the generator no longer makes the same tweets."""
    cell = evidence.block(GENERATED).get("full")
    for evaluation in cell.evaluations if cell else ():
        within = evaluation.evaluation.mechanism
        maps = [tweet.model_dump() for tweet in within.attention or ()] if within else []
        if cell and maps:
            config = cell.by_seed()[evaluation.seed].config["data"]["synthetic"]
            tweets = first_test_tweets(SyntheticConfig(**config), max(one["index"] for one in maps) + 1)
            pairs = [(tweets[one["index"]], one) for one in maps]
            return pairs if all(list(tweet.words) == one["words"] for tweet, one in pairs) else []
    return []


def _suffices(evidence: Evidence) -> bool:
    return bool(shown_tweets(evidence))


def _draw(evidence: Evidence) -> Figure:
    """One part a tweet, one row of maps an aspect; everything is placed in inches from the top."""
    shown = shown_tweets(evidence)
    heights = [_HEADER + _TITLE + max(len(one["aspects"]) * (_MAP + _BELOW), _IMAGE + 0.12) for _, one in shown]
    page = _Page(sum(heights) + _BAR)
    for k, (tweet, one) in enumerate(shown):
        _draw_tweet(page, sum(heights[:k]), tweet, one)
    bar = page.axes(_WIDTH / 4, sum(heights) + 0.1, _WIDTH / 2, 0.1)
    page.figure.colorbar(
        ScalarMappable(cmap=seen_colours([tweet for tweet, _ in shown])),
        cax=bar,
        orientation="horizontal",
        label="attention, as a share of the map's highest",
    )
    return page.figure


def seen_colours(tweets: Sequence[Tweet]) -> ListedColormap:
    """The colours of the maps as they look over these images' mean grey, for maps let the image through."""
    grey = float(np.mean([tweet.image for tweet in tweets if isinstance(tweet.image, np.ndarray)])) / 255
    colours_KC = colormaps[HEAT](np.linspace(0, 1, 256))[:, :3]
    return ListedColormap(OPACITY * colours_KC + (1 - OPACITY) * grey)


class _Page:
    """A figure of this height whose parts are placed in inches from its upper left corner."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(_WIDTH, height), dpi=200)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return self.figure.add_axes((left / _WIDTH, bottom / self.height, width / _WIDTH, height / self.height))

    def text(self, left: float, top: float, text: str, size: float) -> None:
        self.figure.text(left / _WIDTH, 1 - top / self.height, text, fontsize=size, va="top", linespacing=1.25)


def _draw_tweet(page: _Page, top: float, tweet: Tweet, one: dict[str, Any]) -> None:
    why = one["why"][0].upper() + one["why"][1:]
    page.text(_EDGE, top + 0.06, textwrap.fill(f"{why}: “{' '.join(one['words'])}”", 108), 8)
    top += _HEADER
    _draw_image(page.axes(_EDGE, top + _TITLE, _IMAGE, _IMAGE), tweet, one)
    for row, aspect in enumerate(one["aspects"]):
        upper = top + _TITLE + row * (_MAP + _BELOW)
        left = _EDGE + _IMAGE + _GAP
        page.text(left, upper + 0.1, _description(row, aspect, one["words"]), 7)
        for k, stage in enumerate(one["stages"]):
            axis = page.axes(left + _LABEL + k * (_MAP + _GAP), upper, _MAP, _MAP)
            _draw_map(axis, tweet, aspect, np.reshape(stage["maps"][row], stage["grid"]))
            axis.set_xlabel(_below(stage, row, one), fontsize=6.5, labelpad=2)
            if row == 0:
                axis.set_title(f"stage {k + 1} ({stage['level']})", fontsize=7.5, pad=3)


def _below(stage: dict[str, Any], row: int, one: dict[str, Any]) -> str:
    on_cell = mass_on(stage, row, [one["aspects"][row]["region"]], one)
    on_others = mass_on(stage, row, one["distractors"], one)
    gate = "" if stage["gate"] is None else f"\ngate {stage['gate'][row]:.2f}"
    return f"cell {100 * on_cell:.0f} %, others {100 * on_others:.0f} %{gate}"


def _description(row: int, aspect: dict[str, Any], words: list[str]) -> str:
    predicted = aspect["predicted"] or "not found"
    sign = "right" if aspect["predicted"] == aspect["gold"] else "WRONG"
    return (
        f"{row + 1}: {' '.join(words[aspect['start'] : aspect['end']])}\ntold by the {aspect['told_by']}\n"
        f"gold {aspect['gold']}\npredicted {predicted}\n({sign})"
    )


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.set_xlim(-0.5, IMAGE_SIZE - 0.5)
    axis.set_ylim(IMAGE_SIZE - 0.5, -0.5)


def _box(axis: Axes, cell: int, cells: int, **style: Any) -> tuple[float, float]:
    """Outline a cell, white within black so that it stands out on any ground; its upper left corner."""
    side = IMAGE_SIZE // cells
    row, column = divmod(cell, cells)
    corner = (column * side - 0.5, row * side - 0.5)
    for color, width in (("black", 2.4), ("white", 1.2)):
        axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=width, **style))
    return corner


def _draw_image(axis: Axes, tweet: Tweet, one: dict[str, Any]) -> None:
    assert isinstance(tweet.image, np.ndarray)
    axis.imshow(tweet.image)
    _bare(axis)
    for cell in one["distractors"]:
        _box(axis, cell, one["cells"], linestyle=(0, (2, 2)))
    for number, aspect in enumerate(one["aspects"], 1):
        x, y = _box(axis, aspect["region"], one["cells"])
        background = {"facecolor": "white", "edgecolor": "black", "linewidth": 0.6, "pad": 1.2}
        axis.text(x + 2.0, y + 2.5, f"{number}", fontsize=7, ha="center", va="center", bbox=background)


def _draw_map(axis: Axes, tweet: Tweet, aspect: dict[str, Any], map_RC: np.ndarray) -> None:
    extent = (-0.5, IMAGE_SIZE - 0.5, IMAGE_SIZE - 0.5, -0.5)
    assert isinstance(tweet.image, np.ndarray)
    axis.imshow(tweet.image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    axis.imshow(map_RC / max(map_RC.max(), 1e-9), cmap=HEAT, vmin=0, vmax=1, alpha=OPACITY, extent=extent)
    _bare(axis)
    _box(axis, aspect["region"], tweet.cells)


def mass_on(stage: dict[str, Any], row: int, cells: list[int], one: dict[str, Any]) -> float:
    """The share of an aspect's attention that falls on these cells; a region counts by how much of it lies in them."""
    rows, columns = stage["grid"]
    inside = np.zeros((one["cells"], one["cells"]))
    inside.flat[cells] = 1.0
    fine = np.kron(inside, np.ones((rows, columns)))  # the finest grid that both cells and regions divide
    shares = fine.reshape(rows, one["cells"], columns, one["cells"]).mean(axis=(1, 3))
    return float((np.reshape(stage["maps"][row], (rows, columns)) * shares).sum())


def _sentences(evidence: Evidence) -> tuple[str, ...]:
    """How much attention falls on the right cells in these tweets, and what was predicted."""
    shown = [one for _, one in shown_tweets(evidence)]
    aspects = [(one, row, aspect) for one in shown for row, aspect in enumerate(one["aspects"])]
    told = [(one, row) for one, row, aspect in aspects if aspect["told_by"] == "image"]
    if not told:
        return ()
    right = sum(aspect["predicted"] == aspect["gold"] for _, _, aspect in aspects)
    by_stage = [
        [mass_on(one["stages"][k], row, [one["aspects"][row]["region"]], one) for one, row in told]
        for k in range(len(shown[0]["stages"]))
    ]
    listed = ", ".join(f"{100 * float(np.mean(shares)):.0f} % at stage {k}" for k, shares in enumerate(by_stage, 1))
    return (
        f"In these {len(shown)} tweets {right} of {len(aspects)} polarities are predicted right. Of the attention of "
        f"the {len(told)} aspects that the image tells, {listed} falls on their own cells; spread evenly it would be "
        f"{100 / shown[0]['cells'] ** 2:.0f} %. They are to look at: the tables of pointing and counterfactuals count.",
    )


FIGURE = ReportFigure(
    "attention_maps",
    "Where CLAMP (seed 0) looks in test tweets chosen by a rule: the first with one, two and three aspects of which "
    "the image tells one or more, and the first other with an aspect found and given a wrong polarity. Left: the image "
    "with each aspect's cell (solid, numbered) and the figures that the tweet does not mention (dashed). Right: for "
    "each aspect and stage the attention of its words over the image in grey (the bar shows its colours over the mean "
    "grey of these images); below each map the share that falls on the aspect's own cell and on unmentioned figures "
    "(others), and the mean opening of the noise gate",
    _suffices,
    _draw,
    _sentences,
)
