"""Dev trials grouped: which system had how many, what each point reached, and what was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from repro.evidence.cells import Place
from repro.plan.chosen import Choices, choice_for
from repro.plan.grid import GRIDS, TRIED, Point, system_of, tried_on
from repro.records.run import RunRecord

System = tuple[str, str, str]  # profile, the data set whose dev split decides, and a system with trials of its own


@dataclass(frozen=True)
class Trials:
    """Dev F1 in 0..1 of each seed, by system and point, and what was chosen."""

    dev_f1: Mapping[System, Mapping[int, Sequence[float]]] = field(default_factory=dict)
    chosen: Choices = field(default_factory=dict)

    def number(self, place: Place, variant: str) -> int:
        """How many trials decided the settings that a variant runs with there, were they its own or another's."""
        profile, dataset = place
        points = self.dev_f1.get((profile, tried_on(profile, dataset), system_of(variant)), {})
        return sum(map(len, points.values()))

    def had_its_own(self, place: Place, variant: str) -> bool:
        """Whether a variant runs with settings for which there were as many trials as any system there had."""
        number = self.number(place, variant)
        return number > 0 and number == max(self.number(place, other) for other in TRIED)

    def changes(self, place: Place, variant: str) -> dict[str, Any]:
        """The config fields that trials chose for it."""
        choice = choice_for(self.chosen, *place, variant)
        return choice.changes if choice else {}


def trials_of(records: Sequence[RunRecord], chosen: Choices) -> Trials:
    """The trials that these records hold; one of a point that the grid no longer has does not count."""
    dev_f1: dict[System, dict[int, list[float]]] = {}
    for record in sorted(records, key=lambda record: (record.trial or 0, record.seed)):
        system = (record.profile, record.experiment, record.variant)
        if record.trial is not None and _is_in_grid(record):
            dev_f1.setdefault(system, {}).setdefault(record.trial, []).append(record.f1("dev"))
    return Trials(dev_f1, chosen)


def _is_in_grid(record: RunRecord) -> bool:
    grid = GRIDS.get(record.profile)
    if grid is None or record.experiment not in grid.datasets or record.variant not in TRIED:
        return False
    points = grid.of(record.variant)
    return record.trial is not None and record.trial < len(points) and _has(record.config, points[record.trial])


def _has(config: Mapping[str, Any], point: Point) -> bool:
    """Whether a recorded config has what a point sets."""
    for name, value in point.items():
        found: Any = config
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found != value:
            return False
    return True
