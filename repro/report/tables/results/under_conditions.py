"""What domain shift and robustness share: F1 under other test tweets than a system's own, and what is lost."""

from __future__ import annotations

from functools import cache

from clamp.config import Config, DataConfig
from repro.evaluate.conditions import Group, conditions
from repro.evidence.cells import Block, Cell, Place
from repro.evidence.evidence import Evidence
from repro.report.table_rows import evaluated
from repro.report.wording import NOT_EVALUATED, NOT_RUN, mean_and_sd, of_fewer
from repro.run.other_data_set import OTHER_DATA_SET

FALL_NOTE = (
    "A fall is F1 on the unchanged test split minus F1 under the condition, by the same checkpoint: mean ± standard "
    "deviation over the n seeds that were evaluated, in points. Every system sees the same changed tweets. Blank: it "
    "does not apply."
)


@cache
def labels(group: Group) -> dict[str, str]:
    """Name -> what tables call it, of every condition there is in a group."""
    described = conditions(Config(data=DataConfig(name="twitter2015", visual="proxy")), None)
    every = described | conditions(Config(), None)
    of_group = {name: condition.label for name, condition in every.items() if condition.group == group}
    return of_group | ({OTHER_DATA_SET: "the other data set"} if group == "shift" else {})


def applicable(evidence: Evidence, place: Place, group: Group) -> dict[str, str]:
    """Name -> label of the conditions that some system was evaluated under there; all of them where none was."""
    cells = evidence.block(place).values()
    seen = {name for cell in cells for e in cell.evaluations for name in e.evaluation.conditions}
    return {name: label for name, label in labels(group).items() if name in seen or not seen}


def unchanged_f1(cell: Cell) -> str:
    """Joint F1 of the evaluated seeds on the unchanged test tweets."""
    return mean_and_sd([e.evaluation.clean.joint.f1 for e in cell.evaluations])


def averaged(cell: Cell, values: list[float]) -> str:
    """Mean and deviation, with the number of seeds where a condition has fewer than were evaluated."""
    return of_fewer(mean_and_sd(values), values, evaluated(cell))


def why_nothing(block: Block) -> str:
    """Why there is nothing to say of CLAMP there."""
    return NOT_EVALUATED if "full" in block else NOT_RUN
