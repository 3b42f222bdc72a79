"""Dev trials as runs: which there are for a budget, and what their dev F1 chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from clamp.config import ConfigError
from repro.plan.chosen import Choice
from repro.plan.grid import GRIDS, SEEDS, TRIED
from repro.plan.profiles import PROFILES, Run, base_config, known, picked, variant_config

DevF1 = Mapping[int, Sequence[float]]  # point -> dev F1 in 0..1 of each seed


def plan_trials(
    profile: str, *, only: Sequence[str] = (), budget: int | None = None, config_file: Path | None = None
) -> list[Run]:
    """The trials of a profile, the first points of every system first: the same number for each, whatever the budget.

    `only` picks systems or groups, of which those that have trials of their own count; `budget` is the most runs.
    Raises ConfigError for an unknown name, or a budget that is not enough for one point of each.
    """
    grid = GRIDS[known(profile, PROFILES, "profile")]
    systems = [name for name in TRIED if not only or name in picked(only)]
    if not systems:
        raise ConfigError(f"nothing to try: {', '.join(only)} follows another system; those tried: {', '.join(TRIED)}")
    of_one_point = len(systems) * SEEDS * len(grid.datasets)
    points = len(grid.points) if budget is None else min(len(grid.points), budget // of_one_point)
    if not points:
        raise ConfigError(f"--budget {budget}: one point of every system takes {of_one_point} runs")
    runs = []
    for point in range(points):
        for dataset in grid.datasets:
            base, from_file = base_config(profile, dataset, config_file)
            for system in systems:
                changes = {**from_file, **grid.of(system)[point]}
                runs += [
                    Run(profile, dataset, system, seed, variant_config(base, system, seed, changes), point)
                    for seed in range(SEEDS)
                ]
    return runs


def best_point(dev_f1: DevF1) -> int:
    """The point with the best mean dev F1, the earlier one on ties."""
    return max(sorted(dev_f1), key=lambda point: fmean(dev_f1[point]))


def choose(profile: str, dataset: str, system: str, dev_f1: DevF1) -> Choice:
    """What the trials of one system choose; every point has all its seeds."""
    taken = best_point(dev_f1)
    return Choice(
        profile=profile,
        dataset=dataset,
        variant=system,
        changes=dict(GRIDS[profile].of(system)[taken]),
        dev_f1=round(fmean(dev_f1[taken]), 6),
        trials=sum(map(len, dev_f1.values())),
        seeds=len(dev_f1[taken]),
    )
