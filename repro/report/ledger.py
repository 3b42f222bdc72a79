"""The claims ledger: what the paper claims, how that is tested here, and how the runs judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from repro.evidence.by_seed import BySeed, difference, f1_lost_under, of_records
from repro.evidence.cells import PLACES, Block, Cell, Place
from repro.evidence.comparisons import Comparison, adjusted, p_over_seeds
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import distractor_mass_at_best, negative_share, pointing_at_best
from repro.evidence.stats import LEAST_SEEDS, SIGNIFICANCE, Verdict, holm, summarise, t_against_zero
from repro.plan.variants import GROUPS, VARIANTS
from repro.records.run import RunRecord
from repro.report.against_paper import TOLERANCE, judge, published_f1
from repro.report.wording import NOT_RECORDED, NOT_RUN, seeds

Judgement = Literal["supported", "not supported", "undecided", "not run"]
JUDGEMENTS: tuple[Judgement, ...] = ("supported", "not supported", "undecided", "not run")
BEATS_OTHERS = "CLAMP is more accurate than existing methods"
# what the paper claims, and the variant without it; the effect is CLAMP's F1 minus that variant's
PARTS = {
    "progressive attention fusion improves F1": "no_paf",
    "multi-task contrastive learning improves F1": "no_mcl",
    "local alignment adds to the global contrast": "global_only",
    "the global contrast adds to local alignment": "local_only",
    "adaptive multi-loss aggregation improves F1 over equal weights": "no_ama",
    "adaptive weights are better than fixed ones": "fixed_weights",
}
_OF_THE_PAPER: dict[Verdict, Judgement] = {
    "reproduced": "supported",
    "higher": "supported",
    "lower": "not supported",
    "inconclusive": "undecided",
    "not run": "not run",
}
MANY_DISTRACTORS = "distractors_8"
LESS_ATTENTION_ON_NOISE = "progressive attention fusion suppresses visual noise (attention)"
LESS_FALL_IN_NOISE = "progressive attention fusion suppresses visual noise (F1)"
LESS_INTERFERENCE = "adaptive multi-loss aggregation mitigates gradient interference"


@dataclass(frozen=True)
class Entry:
    """One claim at one place. The effect and its intervals are in points, positive in the claim's favour."""

    claim: str
    test: str
    judgement: Judgement
    n: int = 0
    effect: float | None = None
    over_tweets: tuple[float, float] | None = None
    over_seeds: tuple[float, float] | None = None
    missing: str = NOT_RUN  # why there is no effect


@dataclass(frozen=True)
class _Tests:
    """Every test of the ledger, adjusted over all of it.

    `f1` has CLAMP minus a variant, by place and variant; `inside` the p over seeds of claims about what happens inside,
    by place and claim.
    """

    f1: dict[tuple[Place, str], Comparison]
    inside: dict[tuple[Place, str], float]


def ledger(evidence: Evidence) -> dict[Place, list[Entry]]:
    """Every claim at every place where it can be tested."""
    tests = _tests(evidence)
    return {
        place: [
            _beats_baselines(tests, place),
            *(_part(tests, place, claim, variant) for claim, variant in PARTS.items()),
            *_mechanisms(evidence.block(place), tests, place),
            *([_as_reported(evidence, place[1])] if place[0] == "paper" else []),
        ]
        for place in PLACES
    }


def _tests(evidence: Evidence) -> _Tests:
    f1 = {(place, v): c for place in PLACES for v, c in _clamp_minus(evidence, place).items()}
    values = {
        (place, claim): measure(evidence.block(place))
        for place in PLACES
        for claim, _, measure in _testable_inside(place)
    }
    raw = {of: t_against_zero(of_seeds) for of, of_seeds in values.items() if len(of_seeds) >= LEAST_SEEDS}
    over_seeds = holm([*p_over_seeds(list(f1.values())), *raw.values()])
    return _Tests(
        dict(zip(f1, adjusted(list(f1.values()), list(raw.values())), strict=True)),
        dict(zip(raw, over_seeds[len(over_seeds) - len(raw) :], strict=True)),
    )


def _clamp_minus(evidence: Evidence, place: Place) -> dict[str, Comparison]:
    """The variants of which some claim speaks, as other tables adjust them."""
    against_full, main = evidence.against_full.get(place, {}), evidence.main[place[1]]
    parts = {v: against_full[v].turned() for v in PARTS.values() if v in against_full}
    baselines = {v: main[place[0], "full", v] for v in GROUPS["baselines"] if (place[0], "full", v) in main}
    return parts | baselines


# Claims about F1


def judgement_of(comparison: Comparison | None) -> Judgement:
    """Of "the first is better than the second".

    Without a difference shown: not supported where neither interval leaves room for one point of F1, else undecided.
    """
    if comparison is None or not comparison.by_seed:
        return "not run"
    standing = comparison.standing
    if standing == "ahead":
        return "supported"
    if standing == "behind":
        return "not supported"
    if comparison.bootstrap is None:
        return "undecided"
    over_seeds = summarise(comparison.by_seed).high
    highest = max(comparison.bootstrap.high, comparison.bootstrap.high if over_seeds is None else over_seeds)
    return "not supported" if highest < TOLERANCE else "undecided"


def _f1_entry(claim: str, test: str, comparison: Comparison | None) -> Entry:
    judgement = judgement_of(comparison)
    if comparison is None or not comparison.by_seed:
        return Entry(claim, test, judgement)
    tested, over_seeds = comparison.bootstrap, summarise(comparison.by_seed)
    return Entry(
        claim,
        test,
        judgement,
        comparison.seeds,
        comparison.difference,
        None if tested is None else (tested.low, tested.high),
        None if over_seeds.low is None or over_seeds.high is None else (over_seeds.low, over_seeds.high),
    )


def _part(tests: _Tests, place: Place, claim: str, variant: str) -> Entry:
    return _f1_entry(claim, f"F1 of CLAMP minus that of: {VARIANTS[variant].label}", tests.f1.get((place, variant)))


def _beats_baselines(tests: _Tests, place: Place) -> Entry:
    """The weakest of the comparisons with the baselines: all must be ahead, and one that is not decides."""
    baselines = GROUPS["baselines"]
    compared = {b: c for b in baselines if (c := tests.f1.get((place, b))) and c.by_seed}
    if not compared:
        return Entry(BEATS_OTHERS, "F1 of CLAMP minus that of each baseline", "not run")
    judged = {name: judgement_of(comparison) for name, comparison in compared.items()}
    order: Sequence[Judgement] = ("not supported", "undecided", "supported")
    worst = min(order.index(judgement) for judgement in judged.values())
    closest = min(compared, key=lambda name: (order.index(judged[name]), compared[name].difference))
    ahead = sum(judgement == "supported" for judgement in judged.values())
    entry = _f1_entry(
        BEATS_OTHERS,
        f"ahead of {ahead} of {len(baselines)} baselines ({len(compared)} run); against {VARIANTS[closest].label}",
        compared[closest],
    )
    judgement = "undecided" if order[worst] == "supported" and len(compared) < len(baselines) else order[worst]
    return Entry(entry.claim, entry.test, judgement, entry.n, entry.effect, entry.over_tweets, entry.over_seeds)


def _as_reported(evidence: Evidence, dataset: str) -> Entry:
    values, against, _ = judged = judge(evidence, dataset)
    claim = f"CLAMP reaches {published_f1(evidence, dataset)} F1"
    difference, half = against.difference, against.half_width
    over_seeds = None if difference is None or half is None else (difference - half, difference + half)
    test = "; ".join(filter(None, ["measured minus reported, prediction interval", judged.note]))
    return Entry(claim, test, _OF_THE_PAPER[against.verdict], len(values), difference, None, over_seeds)


# Claims about what happens inside


def _mechanisms(block: Block, tests: _Tests, place: Place) -> list[Entry]:
    """Tested over seeds alone, by t tests."""
    missing = NOT_RECORDED if all(variant in block for variant in _OF_MECHANISMS) else NOT_RUN
    return [
        _seed_entry(claim, test, measure(block), tests.inside.get((place, claim)), missing)
        for claim, test, measure in _testable_inside(place)
    ]


def _testable_inside(place: Place) -> list[tuple[str, str, Callable[[Block], list[float]]]]:
    return [(claim, test, measure) for claim, test, where, measure in _MECHANISMS if where in (None, place[0])]


def _seed_entry(claim: str, test: str, values: Sequence[float], p: float | None, missing: str) -> Entry:
    if not values:
        return Entry(claim, test, "not run", missing=missing)
    summary = summarise(values)
    interval = None if summary.low is None or summary.high is None else (summary.low, summary.high)
    judgement: Judgement = "undecided"
    if p is not None and p < SIGNIFICANCE:
        judgement = "supported" if summary.mean > 0 else "not supported"
    return Entry(claim, test, judgement, summary.n, summary.mean, None, interval)


def _paired(block: Block, one: str, other: str, value: Callable[[Cell], BySeed]) -> list[float]:
    """One cell's value minus the other's, for each seed that both have and that has it."""
    return difference(value(block[one]), value(block[other])) if one in block and other in block else []


def _of_each(value: Callable[[RunRecord], float | None]) -> Callable[[Cell], BySeed]:
    return lambda cell: of_records(cell, value)


_OF_MECHANISMS = ("full", "no_paf", "no_ama")
# claim, test, the only profile where it can be tested (None: any), its value for each seed
_MECHANISMS: list[tuple[str, str, str | None, Callable[[Block], list[float]]]] = [
    (
        "progressive attention fusion aligns words with regions",
        "pointing accuracy of CLAMP minus that without progressive fusion",
        "synthetic",
        lambda block: _paired(block, "full", "no_paf", _of_each(pointing_at_best)),
    ),
    (
        LESS_ATTENTION_ON_NOISE,
        "attention on distractors without progressive fusion, minus that of CLAMP",
        "synthetic",
        lambda block: _paired(block, "no_paf", "full", _of_each(distractor_mass_at_best)),
    ),
    (
        LESS_FALL_IN_NOISE,
        "fall of F1 with 8 distractors without progressive fusion, minus that of CLAMP",
        "synthetic",
        lambda block: _paired(block, "no_paf", "full", lambda cell: f1_lost_under(cell, MANY_DISTRACTORS)),
    ),
    (
        LESS_INTERFERENCE,
        "share of negative cosines between tasks' gradients with equal weights, minus that of CLAMP",
        None,
        lambda block: _paired(block, "no_ama", "full", _of_each(negative_share)),
    ),
]


def answer(entry: Entry | None) -> str:
    """What the claims ledger says of a question that is one of its claims."""
    if entry is None or entry.judgement == "not run":
        return NOT_RUN if entry is None else entry.missing
    if entry.judgement == "supported":
        return "yes"
    if entry.judgement == "not supported":
        return "no, the other way round"
    return "not shown either way" if entry.n >= LEAST_SEEDS else f"undecided, of {seeds(entry.n)}"
