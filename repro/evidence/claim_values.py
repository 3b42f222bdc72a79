"""What a claim of the family is judged by: its contrast of F1 with counts of each tweet, or its value for each seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from repro.evaluate.conditions import OTHERS_IMAGE
from repro.evidence import learning_speed
from repro.evidence.by_seed import BySeed, difference, f1_lost_under, of_evaluations, of_records
from repro.evidence.cells import PLACES, POOLED, REAL, Block, Cell, Place, counts
from repro.evidence.comparisons import Comparison, compare, of_counts, shared_records
from repro.evidence.evidence import Evidence
from repro.evidence.family import Claim
from repro.evidence.per_record import distractor_mass_at_best, negative_share, pointing_at_best
from repro.evidence.stats import EQUIVALENCE_CONFIDENCE, LEAST_SEEDS, Interval, t_against_zero, t_interval
from repro.records.evaluation import Evaluation
from repro.records.run import RunRecord

MANY_DISTRACTORS = "distractors_8"
COLUMNS: list[Place] = [  # where claims are judged
    place for at in PLACES for place in ([at, (at[0], POOLED)] if at[1] == REAL[-1] else [at])
]


@dataclass(frozen=True)
class BySeeds:
    """What has no tweets to resample: one value a seed, positive in the claim's favour; p and intervals over seeds.

    `n` is how many seeds there are: of a pair that says nothing there is no value.
    """

    values: tuple[float, ...]
    n: int
    effect: float | None
    interval: Interval | None
    inner: Interval | None
    p: float | None


def measured(evidence: Evidence, claim: Claim, place: Place) -> Comparison | BySeeds | None:
    """Of a claim at a place, positive in the claim's favour; None where a system was not run, or a value not kept.

    A comparison's p values are as some other table adjusts them, if at all. Not of the paper's own figures.
    """
    if claim.metric == "f1":
        found = _f1(evidence, claim, place)
        return found and (found if claim.sign > 0 else found.turned())
    if claim.metric == "fall_other_image":
        counted = _fall(evidence, claim, place)
        if counted is not None or place[1] == POOLED:
            return counted
    block = evidence.everything(place)
    if claim.metric == "tweets_until":
        return _sooner(block, claim)
    values = [claim.sign * value for value in _by_seed(block, claim)]
    return _by_t(values) if values else None


# Contrasts of F1


def _f1(evidence: Evidence, claim: Claim, place: Place) -> Comparison | None:
    profile, dataset = place
    if dataset == POOLED:
        return _pooled(evidence, claim, profile)
    assert claim.other is not None
    known = evidence.against_full.get(place, {})
    if claim.ours == "full" and claim.other in known:
        return known[claim.other].turned()
    cells = _cells(evidence.everything(place), claim)
    return compare([(cells[0], cells[1])], evidence.resamples)[0] if cells else None


def _cells(block: Block, claim: Claim) -> list[Cell]:
    """The claim's systems, ours first; empty where one of them was not run."""
    cells = [block.get(name) for name in (claim.ours, claim.other) if name is not None]
    return [cell for cell in cells if cell is not None] if None not in cells else []


def _pooled(evidence: Evidence, claim: Claim, profile: str) -> Comparison | None:
    """Over the seeds that both systems have on both data sets."""
    of_sets = [_cells(evidence.block((profile, dataset)), claim) for dataset in REAL]
    if not all(of_sets):
        return None
    shared = [shared_records(cells) for cells in of_sets]
    seeds = _in_all([{record.seed for record in records[0]} for records in shared])
    parts = [
        (weight, [counts(_of(records[side], seeds)) for records in shared]) for side, weight in ((0, 1.0), (1, -1.0))
    ]
    return of_counts(parts, evidence.resamples) if seeds else None


def _of(records: Sequence[RunRecord], seeds: Sequence[int]) -> list[RunRecord]:
    by_seed = {record.seed: record for record in records}
    return [by_seed[seed] for seed in seeds]


def _in_all(sets: Sequence[set[int]]) -> list[int]:
    return sorted(set.intersection(*sets))


def _fall(evidence: Evidence, claim: Claim, place: Place) -> Comparison | None:
    """F1 on the test tweets minus that with others' images, where evaluations kept the counts of each tweet."""
    profile, dataset = place
    kept = [_counts_with_others_images(evidence.block((profile, one)).get(claim.ours)) for one in _sets(dataset)]
    seeds = _in_all([set(of_seed) for of_seed in kept])
    if not seeds:
        return None
    unchanged = [np.array([of_seed[seed][0] for seed in seeds]) for of_seed in kept]
    changed = [np.array([of_seed[seed][1] for seed in seeds]) for of_seed in kept]
    return of_counts([(1.0, unchanged), (-1.0, changed)], evidence.resamples)


def _sets(dataset: str) -> tuple[str, ...]:
    return REAL if dataset == POOLED else (dataset,)


def _counts_with_others_images(cell: Cell | None) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Seed -> (N, 3) counts on the tweets as they are and with others' images, where they were kept."""
    records = cell.by_seed() if cell else {}
    found = {}
    for one in cell.evaluations if cell else ():
        changed = one.evaluation.conditions.get(OTHERS_IMAGE)
        unchanged = records[one.seed].result.per_tweet["test"]
        if changed is not None and changed.per_tweet is not None and len(changed.per_tweet) == len(unchanged):
            found[one.seed] = np.array(unchanged), np.array(changed.per_tweet)
    return found


# One value a seed


def _by_seed(block: Block, claim: Claim) -> list[float]:
    """Ours minus the other's, of each seed that both have; ours alone where the claim is about one system."""
    value = _VALUES[claim.metric]
    ours = value(block.get(claim.ours))
    return list(ours.values()) if claim.other is None else difference(ours, value(block.get(claim.other)))


def _by_t(values: Sequence[float]) -> BySeeds:
    several = len(values) > 1
    return BySeeds(
        tuple(values),
        len(values),
        float(np.mean(values)),
        t_interval(values) if several else None,
        t_interval(values, EQUIVALENCE_CONFIDENCE) if several else None,
        t_against_zero(values) if len(values) >= LEAST_SEEDS else None,
    )


def _sooner(block: Block, claim: Claim) -> BySeeds | None:
    """Tweets until the threshold: the median of paired differences, and the log-rank test, which is of all seeds."""
    cells = _cells(block, claim)
    if not cells:
        return None
    seen = [{record.seed: learning_speed.seen_until(record) for record in cell.records} for cell in cells]
    seeds = _in_all([set(one) for one in seen])
    ours, other = ([one[seed] for seed in seeds] for one in seen)
    values = [claim.sign * value for value in learning_speed.differences(ours, other)]
    all_say_something = len(values) == len(seeds)
    return BySeeds(
        tuple(values),
        len(seeds),
        learning_speed.median(values) if values else None,
        learning_speed.median_interval(values),
        learning_speed.median_interval(values, EQUIVALENCE_CONFIDENCE) if all_say_something else None,
        learning_speed.log_rank(ours, other) if len(seeds) >= LEAST_SEEDS else None,
    )


def _record(value: Callable[[RunRecord], float | None]) -> Callable[[Cell | None], BySeed]:
    return lambda cell: of_records(cell, value)


def _cosine_gap(evaluation: Evaluation) -> float | None:
    alignment = evaluation.mechanism and evaluation.mechanism.alignment
    return alignment.mean_matched - alignment.mean_mismatched if alignment else None


_VALUES: dict[str, Callable[[Cell | None], BySeed]] = {
    "pointing": _record(pointing_at_best),
    "distractor_mass": _record(distractor_mass_at_best),
    "negative_cosines": _record(negative_share),
    "fall_distractors": lambda cell: f1_lost_under(cell, MANY_DISTRACTORS),
    "fall_other_image": lambda cell: f1_lost_under(cell, OTHERS_IMAGE),
    "cosine_gap": lambda cell: of_evaluations(cell, _cosine_gap),
}
