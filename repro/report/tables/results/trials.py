"""The dev trials: every system's points, what each reached on dev, and which was taken."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from repro.evidence.cells import Place
from repro.evidence.evidence import Evidence
from repro.plan.grid import GRIDS, SEEDS, TRIED, Point
from repro.plan.variants import VARIANTS
from repro.report.table import BLOCK, Table
from repro.report.table_rows import TextRow, place_title
from repro.report.wording import NOT_RUN, mean_and_sd

_PLACES: list[Place] = [(profile, dataset) for profile, grid in GRIDS.items() for dataset in grid.datasets]


def trials(evidence: Evidence) -> Table:
    """A row for every point of every system, whether or not it was tried."""
    return Table(
        name="trials",
        title="Trials on dev by which settings were chosen (joint F1 on dev, percent)",
        about="Every system has the same number of trials. Main runs take the best mean over seeds, the earlier "
        "setting on ties; ablations take what CLAMP takes, and under profile offline Twitter-2017 takes "
        "what Twitter-2015 chose.",
        findings=tuple(_finding(evidence, place) for place in _PLACES),
        frame=pd.DataFrame([row for place in _PLACES for row in _rows(evidence, place)]),
        footer=(
            f"Dev F1: mean ± standard deviation over n seeds, of {SEEDS} planned. Test decides nothing, and no trial "
            "is in another table.",
            "Settings: what differs from the profile's; `repro/plan/grid.py` declares them, and "
            "`repro/plan/chosen.json` holds what was taken.",
        ),
    )


def _rows(evidence: Evidence, place: Place) -> Iterator[TextRow]:
    profile, dataset = place
    for system in TRIED:
        choice = evidence.trials.chosen.get((profile, dataset, system))
        tried = evidence.trials.dev_f1.get((profile, dataset, system), {})
        for number, point in enumerate(GRIDS[profile].of(system)):
            scores = tried.get(number, ())
            yield {
                BLOCK: place_title(place),
                "system": VARIANTS[system].label,
                "settings": settings_in_words(point),
                "n": str(len(scores)),
                "dev F1": mean_and_sd(scores) if scores else NOT_RUN,
                "taken": "yes" if choice is not None and choice.changes == point else "-",
            }


def settings_in_words(point: Point) -> str:
    """The fields that a point changes."""
    fields = [f"{name.rpartition('.')[2]} {_value(value)}" for name, value in point.items()]
    return ", ".join(fields) or "the profile's"


def _value(value: object) -> str:
    return json.dumps(value).replace('"', "") if isinstance(value, dict) else f"{value:g}"


def _finding(evidence: Evidence, place: Place) -> str:
    numbers = {system: evidence.trials.number(place, system) for system in TRIED}
    title, counts = place_title(place), sorted(set(numbers.values()))
    if counts == [0]:
        return f"{title}: {NOT_RUN}; every system runs with the profile's settings."
    if len(counts) == 1:
        return f"{title}: every one of {len(TRIED)} systems had {counts[0]} trials."
    listed = ", ".join(f"{VARIANTS[system].label} {number}" for system, number in numbers.items())
    return f"{title}: not the same number for every system: {listed}."
