"""What every table is made from, and the comparisons that more than one of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from repro.evidence.cells import DATASET_TITLES, GENERATED, PLACES, Block, Place, blocks
from repro.evidence.comparisons import Comparison, compare
from repro.evidence.marks import Marks
from repro.evidence.measurements import Costs, Operators
from repro.evidence.stats import RESAMPLES
from repro.evidence.trials import Trials
from repro.plan.profiles import PROFILES
from repro.plan.variants import GROUPS, SUITE
from repro.records.evaluation import EvaluationRecord
from repro.records.run import RunRecord

_FOLDER = Path(__file__).parent

MAIN_PAIRS = [("full", name) for name in GROUPS["baselines"]]  # CLAMP against every baseline


@dataclass(frozen=True, eq=False)  # one is itself alone, so that what is made of it can be kept
class Evidence:
    """Cells by place, published figures, trials on dev, how rows are marked, and the number of resamples.

    `swept` are the systems on generated tweets of other difficulty, which only the sweep's table and figure show,
    `two_looks` those on generated tweets that need two looks;
    `efficiency` and `operators` are the reports of what was measured of costs and of the kernels, by kind of device.
    Comparisons are adjusted over those of the table that shows them: the same two systems can have another p in another
    table, which holds other comparisons.
    """

    grouped: dict[Place, Block]
    reported: pd.DataFrame
    trials: Trials
    marks: Marks
    resamples: int = RESAMPLES
    swept: Block = field(default_factory=dict)
    two_looks: Block = field(default_factory=dict)
    efficiency: Costs = field(default_factory=dict)
    operators: Operators = field(default_factory=dict)

    def block(self, place: Place) -> Block:
        return self.grouped.get(place, {})

    def everything(self, place: Place) -> Block:
        """With the cells of the sweep and of two looks, which are the generated tweets'."""
        return {**self.block(place), **(self.swept | self.two_looks if place == GENERATED else {})}

    @property
    def runs(self) -> int:
        return sum(cell.n for place in PLACES for cell in self.everything(place).values())

    def profiles_of(self, dataset: str) -> dict[str, Block]:
        """The block of each profile that there is for this data set."""
        return {name: self.block((name, dataset)) for name, made in PROFILES.items() if dataset in made.seeds}

    @cached_property
    def against_full(self) -> dict[Place, dict[str, Comparison]]:
        """Place -> variant -> that variant minus CLAMP, adjusted over the place, which has an ablation table."""
        by_place = {}
        for place, block in self.grouped.items():
            others = [v for v in SUITE if v != "full" and v in block and "full" in block]
            compared = compare([(block[v], block["full"]) for v in others], self.resamples)
            by_place[place] = dict(zip(others, compared, strict=True))
        return by_place

    @cached_property
    def main(self) -> dict[str, dict[tuple[str, str, str], Comparison]]:
        """Data set -> (profile, one, other) -> the first minus the other, adjusted over the data set's main table."""
        by_dataset = {}
        for dataset in DATASET_TITLES:
            pairs = {
                (profile, one, other): (block[one], block[other])
                for profile, block in self.profiles_of(dataset).items()
                for one, other in MAIN_PAIRS
                if one in block and other in block
            }
            by_dataset[dataset] = dict(zip(pairs, compare(list(pairs.values()), self.resamples), strict=True))
        return by_dataset


def gather(
    records: Sequence[RunRecord],
    evaluations: Sequence[EvaluationRecord],
    todays_hashes: tuple[str, str],
    resamples: int = RESAMPLES,
    efficiency: Costs | None = None,
    operators: Operators | None = None,
    trials: Trials | None = None,
) -> Evidence:
    """What tables are made from. Rows of records made by sources other than `todays_hashes` are marked."""
    reported = pd.read_csv(_FOLDER / "reported.csv", dtype=str, keep_default_na=False)
    trials = trials or Trials()
    swept, two_looks = (
        blocks(records, evaluations, GROUPS[group]).get(GENERATED, {}) for group in ("sweep", "two_looks")
    )
    return Evidence(
        blocks(records, evaluations),
        reported,
        trials,
        Marks(todays_hashes, trials),
        resamples,
        swept,
        two_looks,
        efficiency or {},
        operators or {},
    )
