"""The difficulty sweep: F1 and pointing against distractors and image-told share, CLAMP against its ablations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from clamp.config import SyntheticConfig
from repro.evidence import chance
from repro.evidence.by_seed import BySeed, difference
from repro.evidence.cells import GENERATED, Block, Cell
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import joint_f1, pointing_at_best
from repro.plan.variants import SWEPT_POINTS, SWEPT_SYSTEMS, VARIANTS, swept_name
from repro.records.run import RunRecord
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.wording import NOT_RUN, mean_and_sd, percent, seeds, signed

KNOBS = {"distractors": "Distractors", "image_told_share": "Share of aspects that the image tells"}


def values_of(knob: str) -> list[float]:
    """Every point of a knob, the default among them."""
    return sorted([*SWEPT_POINTS[knob], getattr(SyntheticConfig(), knob)])


def words_alone(knob: str, value: float) -> float:
    """F1 (0 to 1) to expect of words alone with one knob turned to `value`."""
    return chance.words_alone(value if knob == "image_told_share" else SyntheticConfig().image_told_share)


@dataclass(frozen=True)
class Point:
    """A system at one point; `records` are of the seeds that all its points have."""

    cell: Cell
    records: tuple[RunRecord, ...]

    def f1(self) -> BySeed:
        return {record.seed: joint_f1(record) for record in self.records}

    def pointing(self) -> list[float]:
        """At the stage that points best on dev; empty where nothing could be pointed at."""
        shares = [pointing_at_best(record) for record in self.records]
        return [share for share in shares if share is not None]


def points(evidence: Evidence, knob: str) -> dict[str, dict[float, Point]]:
    """System -> value -> the point there; nothing of a system of which no swept point was run.

    The default's cell often has more seeds than the others: only those that all points of a system have are compared.
    """
    of_systems: dict[str, dict[float, Point]] = {}
    for system in SWEPT_SYSTEMS:
        swept = {value: evidence.swept.get(swept_name(system, knob, value)) for value in SWEPT_POINTS[knob]}
        if not any(swept.values()):
            continue
        swept[getattr(SyntheticConfig(), knob)] = evidence.block(GENERATED).get(system)
        cells = {value: swept[value] for value in sorted(swept)}
        shared = set.intersection(*(set(cell.by_seed()) for cell in cells.values() if cell))
        of_systems[system] = {
            value: Point(cell, tuple(record for record in cell.records if record.seed in shared))
            for value, cell in cells.items()
            if cell and shared
        }
    return of_systems


def seeds_of_points(evidence: Evidence) -> str:
    """How many seeds the points of all knobs and systems have."""
    numbers = [
        len(p.records) for knob in KNOBS for of_system in points(evidence, knob).values() for p in of_system.values()
    ]
    if not numbers:
        return NOT_RUN
    fewest, most = min(numbers), max(numbers)
    return f"{seeds(most)} a point" if fewest == most else f"{fewest} to {most} seeds a point"


def differences(of_knob: dict[str, dict[float, Point]], system: str) -> dict[float, list[float]]:
    """Value -> the system's F1 minus CLAMP's there, of each seed that both have."""
    ours = of_knob.get("full", {})
    apart = {
        value: difference(point.f1(), ours[value].f1() if value in ours else {})
        for value, point in of_knob.get(system, {}).items()
    }
    return {value: of_seeds for value, of_seeds in apart.items() if of_seeds}


def sweep(evidence: Evidence) -> Table:
    """A row for each system at each point."""
    rows, findings = [], []
    for knob, title in KNOBS.items():
        of_knob = points(evidence, knob)
        rows += [
            {BLOCK: title, "value": f"{value:g}", **_row(evidence, of_knob, system, value)}
            for value in values_of(knob)
            for system in SWEPT_SYSTEMS
        ]
        findings += _findings(knob, of_knob)
    default = SyntheticConfig()
    return Table(
        name="sweep",
        title="Difficulty sweep: where does each part matter? (generated tweets, joint test F1 and pointing, percent)",
        about="One knob of the generated data is turned at a time and every system is trained anew: how many figures "
        "the image shows that the tweet does not mention, and which share of the aspects only the image tells.",
        findings=tuple(findings),
        frame=pd.DataFrame(rows),
        footer=(
            f"The points {default.distractors} distractors and share {default.image_told_share:g} are the default "
            "data: there the runs of the other tables stand, of the seeds that the other points have. The knob that is "
            "not turned keeps its default.",
            "Differences are over the seeds that both systems have at a point. None is tested: they say how large an "
            "effect may be, not that there is one. Pointing: accuracy at the stage that points best on dev.",
            SELECTION,
            *provenance_footer(_shown(evidence), evidence.marks),
        ),
    )


def _shown(evidence: Evidence) -> list[Block]:
    """A block for each point, the default's once."""
    shown: dict[tuple[str, ...], Block] = {}
    for knob in KNOBS:
        for of_system in points(evidence, knob).values():
            for value, point in of_system.items():
                is_default = value == getattr(SyntheticConfig(), knob)
                block = shown.setdefault(("default",) if is_default else (knob, str(value)), {})
                block[point.cell.variant] = Cell(point.cell.variant, point.records)
    return list(shown.values())


def _row(evidence: Evidence, of_knob: dict[str, dict[float, Point]], system: str, value: float) -> dict[str, str]:
    point = of_knob.get(system, {}).get(value)
    label = VARIANTS[system].label
    if point is None:
        return {"system": label, "n": "0", "F1": NOT_RUN, "minus CLAMP": NOT_RUN, "pointing": NOT_RUN}
    reference = of_knob.get("full", {}).get(value, point).cell
    apart = differences(of_knob, system).get(value, []) if system != "full" else []
    return {
        "system": label + evidence.marks.of(point.cell, {reference.variant: reference}),
        "n": str(len(point.records)),
        "F1": mean_and_sd(list(point.f1().values())),
        "minus CLAMP": signed(float(np.mean(apart))) if apart else "-",
        "pointing": mean_and_sd(point.pointing()) if point.pointing() else "-",
    }


def _findings(knob: str, of_knob: dict[str, dict[float, Point]]) -> list[str]:
    start = KNOBS[knob]
    if not of_knob:
        return [f"{start}: {NOT_RUN}."]
    sentences = [_own_course(knob, of_knob)]
    for system in SWEPT_SYSTEMS[1:]:
        means = {value: float(np.mean(of_seeds)) for value, of_seeds in differences(of_knob, system).items()}
        if not means:
            sentences.append(f"{start}, {VARIANTS[system].label}: {NOT_RUN}.")
            continue
        over = seeds(min(map(len, differences(of_knob, system).values())))
        course = ", ".join(f"{signed(mean)} at {value:g}" for value, mean in means.items())
        sentences.append(
            f"{start}, {VARIANTS[system].label}, F1 minus CLAMP's: {course} ({over}: described, not tested)."
            f"{_against_spread(knob, of_knob, system)}"
        )
    return sentences


def _own_course(knob: str, of_knob: dict[str, dict[float, Point]]) -> str:
    """CLAMP's F1 and pointing at each point, beside what words alone would give."""
    ours = of_knob.get("full")
    if not ours:
        return f"{KNOBS[knob]}, CLAMP's own F1: {NOT_RUN}."
    course = []
    for value, point in ours.items():
        pointing = f" (pointing {mean_and_sd(point.pointing())})" if point.pointing() else ""
        course.append(f"{mean_and_sd(list(point.f1().values()))}{pointing} at {value:g}")
    over = seeds(min(len(point.records) for point in ours.values()))
    expected = list(dict.fromkeys(percent(words_alone(knob, value)) for value in ours))
    return (
        f"{KNOBS[knob]}, CLAMP's own F1: {', '.join(course)} ({over}: described, not tested); to expect of words "
        f"alone: {', '.join(expected)}."
    )


def _against_spread(knob: str, of_knob: dict[str, dict[float, Point]], system: str) -> str:
    """Which differences of one seed are no wider than seeds differ where there are more of them, at the default."""
    default = getattr(SyntheticConfig(), knob)
    cells = [of_knob[name][default].cell for name in (system, "full") if default in of_knob.get(name, {})]
    f1s = [cell.test("joint", "f1") for cell in cells if cell.n > 1]
    apart = differences(of_knob, system)
    single = {value: of_seeds[0] for value, of_seeds in apart.items() if len(of_seeds) == 1}
    if not f1s or not single:
        return ""
    ranges = " and ".join(
        f"from {percent(min(f1))} to {percent(max(f1))} with {cell.label} ({seeds(cell.n)})"
        for cell, f1 in zip([cell for cell in cells if cell.n > 1], f1s, strict=True)
    )
    widest = max(max(f1) - min(f1) for f1 in f1s)
    within = [f"{value:g}" for value, one in single.items() if abs(one) <= widest]
    if not within:
        return ""
    covered = f"difference{'s' if len(within) > 1 else ''} at {', '.join(within)}"
    return f" Over seeds at {default:g} F1 ranges {ranges}: so wide a spread covers the one-seed {covered}."
