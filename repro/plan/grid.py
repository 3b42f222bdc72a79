"""The settings that every system is tried with on a dev split before its main runs: declared, few, as many for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repro.plan.variants import GROUPS, VARIANTS

Dataset = Literal["synthetic", "twitter2015", "twitter2017"]
Point = Mapping[str, Any]  # dotted config field -> what it is in place of the profile's own value

TRIED = ("full", "no_ama", "fixed_weights", *GROUPS["baselines"])  # the systems that have trials; all others follow one
SEEDS = 2  # of every point


@dataclass(frozen=True)
class Grid:
    """What is tried under one profile: every system has `points`, or as many of its `own`.

    `decides` says for each data set whose dev split decides its settings. The order of the points is that in which a
    budget buys them; of two that are equally good the earlier one is taken.
    """

    decides: Mapping[Dataset, Dataset]
    points: tuple[Point, ...]
    own: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The data sets that have trials."""
        return tuple(dict.fromkeys(self.decides.values()))

    def of(self, system: str) -> tuple[Point, ...]:
        """Its points."""
        return self.own.get(system, self.points)


def _rates(encoder: float, head: float) -> Point:
    return {"train.lr_encoder": encoder, "train.lr_head": head}


def _weights(tagging: float, others: float) -> Point:
    """Fixed weights, as the s that they are made of: exp(-s)/2."""
    return {"model.aggregation.initial": {"tagging": tagging, "aspect": others, "global": others, "local": others}}


_WEAK_PRIOR: Point = {"model.aggregation.prior_strength": 0.0625}
_AS_SET: Point = {}
_HALF, _DOUBLE = _rates(1.5e-3, 7.5e-4), _rates(6e-3, 3e-3)  # of synthetic_config's
_SLOW_HEAD: Point = {"train.lr_head": 3e-4}
_MIDDLE = _rates(3e-5, 3e-4)  # of the ranges that were published for fine-tuning encoders, and for layers above them

# AMA has its prior, fixed weights their weights, in place of a point that changes rates or epochs.
GRIDS: dict[str, Grid] = {
    "synthetic": Grid(
        {"synthetic": "synthetic"},
        (_AS_SET, _HALF, _DOUBLE, {"train.epochs": 10, "train.patience": 10}),
        {
            "full": (_AS_SET, _HALF, _DOUBLE, _WEAK_PRIOR),
            "fixed_weights": (_AS_SET, _HALF, _weights(-1.0, 1.0), _weights(-1.0, 2.0)),
        },
    ),
    "offline": Grid(
        {"twitter2015": "twitter2015", "twitter2017": "twitter2015"},
        (_AS_SET, _SLOW_HEAD, _rates(1e-4, 3e-4), {**_SLOW_HEAD, "train.epochs": 10}),
        {
            "full": (_AS_SET, _SLOW_HEAD, _rates(1e-4, 3e-4), {**_SLOW_HEAD, **_WEAK_PRIOR}),
            "fixed_weights": (
                _AS_SET, _SLOW_HEAD, {**_SLOW_HEAD, **_weights(-1.0, 1.0)}, {**_SLOW_HEAD, **_weights(-1.0, 2.0)},
            ),
        },
    ),
    "paper": Grid(
        {"twitter2015": "twitter2015", "twitter2017": "twitter2017"},
        (_MIDDLE, _rates(2e-5, 1e-4), _rates(2e-5, 1e-3), _rates(5e-5, 1e-4), _rates(5e-5, 1e-3)),
        {
            "full": (_MIDDLE, _rates(2e-5, 1e-4), _rates(2e-5, 1e-3), _rates(5e-5, 1e-4), {**_MIDDLE, **_WEAK_PRIOR}),
            "fixed_weights": (
                _MIDDLE, _rates(2e-5, 1e-4), _rates(2e-5, 1e-3),
                {**_MIDDLE, **_weights(-1.0, 1.0)}, {**_MIDDLE, **_weights(-1.0, 2.0)},
            ),
        },
    ),
}  # fmt: skip


def system_of(variant: str) -> str:
    """The tried system whose settings a variant takes: the one that it is a form of, CLAMP where it is of no other."""
    changed = VARIANTS[variant].overrides
    of_it = [name for name in TRIED if name != "full" and VARIANTS[name].overrides.items() <= changed.items()]
    return variant if variant in TRIED else next(iter(of_it), "full")


def tried_on(profile: str, dataset: str) -> str:
    """The data set whose dev split decides the settings of runs on `dataset`."""
    return {str(of): by for of, by in GRIDS[profile].decides.items()}[dataset]
