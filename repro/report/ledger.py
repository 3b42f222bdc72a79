"""The claims ledger: what is claimed, how that is tested here, and how the runs judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from repro.evidence import stats, verdicts
from repro.evidence.cells import POOLED, REAL, Place
from repro.evidence.claim_values import COLUMNS, BySeeds, measured
from repro.evidence.comparisons import Comparison, adjusted, p_over_seeds
from repro.evidence.evidence import Evidence
from repro.evidence.family import Claim, family
from repro.evidence.stats import LEAST_SEEDS, Interval, holm, t_interval
from repro.evidence.verdicts import Verdict
from repro.plan.variants import VARIANTS
from repro.report.against_paper import judge, published_f1
from repro.report.wording import NOT_RECORDED, NOT_RUN, seeds

_OF_THE_PAPER: dict[stats.Verdict, Verdict] = {
    "reproduced": "supported",
    "higher": "supported",
    "lower": "not supported",
    "inconclusive": "undecided",
    "not run": "not run",
}
_MEASURES = {
    "f1": "F1",
    "tweets_until": "tweets seen until dev F1 0.9",
    "pointing": "pointing accuracy",
    "distractor_mass": "attention on distractors",
    "fall_distractors": "fall of F1 with 8 distractors",
    "fall_other_image": "fall of F1 with another tweet's image",
    "negative_cosines": "share of negative cosines between tasks' gradients",
    "cosine_gap": "cosine of words and their own image, minus that of words and another's",
    "published_f1": "measured minus reported, prediction interval",
}


@dataclass(frozen=True)
class Entry:
    """One claim at one place: effect and 95 % intervals in the metric's unit, positive in the claim's favour.

    `missing` is why there is no effect.
    """

    claim: Claim
    sentence: str
    test: str
    verdict: Verdict
    n: int = 0
    effect: float | None = None
    over_tweets: Interval | None = None
    over_seeds: Interval | None = None
    over_both: Interval | None = None
    detectable: float | None = None
    tweets_needed: int | None = None
    missing: str = NOT_RUN


@lru_cache(maxsize=2)
def ledger(evidence: Evidence) -> dict[Place, list[Entry]]:
    """Every claim of the family at every place where it is judged; p values are adjusted over all of them (Holm)."""
    asked = [(place, claim) for place in COLUMNS for claim in family() if is_judged_at(claim, place)]
    found = {(place, claim.id): measured(evidence, claim, place) for place, claim in asked if _is_tested(claim)}
    compared = {of: one for of, one in found.items() if isinstance(one, Comparison)}
    by_seeds = {of: one for of, one in found.items() if isinstance(one, BySeeds)}
    raw = {of: one.p for of, one in by_seeds.items() if one.p is not None}
    over_seeds = holm([*p_over_seeds(list(compared.values())), *raw.values()])
    p = dict(zip(raw, over_seeds[len(over_seeds) - len(raw) :], strict=True))
    compared = dict(zip(compared, adjusted(list(compared.values()), list(raw.values())), strict=True))
    entries: dict[Place, list[Entry]] = {place: [] for place in COLUMNS}
    for place, claim in asked:
        of = (place, claim.id)
        if not _is_tested(claim):
            entries[place].append(_as_reported(evidence, claim, place[1]))
        elif of in compared:
            entries[place].append(_of_tweets(claim, compared[of]))
        elif of in by_seeds:
            entries[place].append(_of_seeds(claim, by_seeds[of], p.get(of)))
        else:
            entries[place].append(replace(_open(claim), missing=_why_nothing(evidence, claim, place)))
    return entries


def is_judged_at(claim: Claim, place: Place) -> bool:
    """The paper's figures are of its own setting alone."""
    profile, column = place
    return column in claim.data and (claim.metric != "published_f1" or profile == "paper")


def _is_tested(claim: Claim) -> bool:
    return claim.metric != "published_f1"


def _open(claim: Claim) -> Entry:
    """Of which nothing is known."""
    return Entry(claim, claim.sentence, _test(claim), "not run")


def _test(claim: Claim) -> str:
    """In words: which value is taken from which, positive in the claim's favour."""
    ours, what = VARIANTS[claim.ours].label, _MEASURES[claim.metric]
    if claim.metric == "published_f1":
        return what
    if claim.other is None:
        return f"{what}: {ours}"
    sides = (ours, VARIANTS[claim.other].label)
    return "{}: {}, minus {}".format(what, *(sides if claim.sign > 0 else sides[::-1]))


def _of_tweets(claim: Claim, compared: Comparison) -> Entry:
    judged = verdicts.judge(compared, claim.smallest, claim.margin)
    over_tweets, over_both = compared.bootstrap, compared.crossed
    return replace(
        _open(claim),
        verdict=judged.verdict,
        n=compared.seeds,
        effect=compared.difference,
        over_tweets=(over_tweets.low, over_tweets.high) if over_tweets else None,
        over_seeds=t_interval(compared.by_seed) if compared.seeds > 1 else None,
        over_both=over_both.interval if over_both else None,
        detectable=judged.detectable,
        tweets_needed=judged.tweets_needed,
    )


def _of_seeds(claim: Claim, found: BySeeds, p: float | None) -> Entry:
    judged = verdicts.judge_seeds(found.values, p, found.inner, claim.margin)
    verdict: Verdict = "undecided" if judged.verdict == "not run" else judged.verdict  # every pair of them was mute
    missing = "neither gets there" if not found.values else NOT_RUN
    return replace(
        _open(claim), verdict=verdict, n=found.n, effect=found.effect, over_seeds=found.interval, missing=missing
    )


def _why_nothing(evidence: Evidence, claim: Claim, place: Place) -> str:
    profile, dataset = place
    blocks = [evidence.everything((profile, one)) for one in (REAL if dataset == POOLED else (dataset,))]
    ran = all(name in block for block in blocks for name in (claim.ours, claim.other) if name is not None)
    return NOT_RECORDED if ran else NOT_RUN


def _as_reported(evidence: Evidence, claim: Claim, dataset: str) -> Entry:
    values, against, _ = judged = judge(evidence, dataset)
    difference, half = against.difference, against.half_width
    return replace(
        _open(claim),
        sentence=f"CLAMP reaches {published_f1(evidence, dataset)} F1",
        test="; ".join(filter(None, [_test(claim), judged.note])),
        verdict=_OF_THE_PAPER[against.verdict],
        n=len(values),
        effect=difference,
        over_seeds=None if difference is None or half is None else (difference - half, difference + half),
    )


def entry_of(entries: Sequence[Entry], claim_id: str) -> Entry | None:
    """The claim of this id, where it is judged."""
    return next((entry for entry in entries if entry.claim.id == claim_id), None)


def answer(entry: Entry | None) -> str:
    """What the ledger says of a question that is one of its claims."""
    if entry is None or entry.verdict == "not run":
        return NOT_RUN if entry is None else entry.missing
    if entry.verdict == "undecided":
        return "not shown either way" if entry.n >= LEAST_SEEDS else f"undecided, of {seeds(entry.n)}"
    return {"supported": "yes", "not supported": "no, the other way round"}.get(entry.verdict, entry.verdict)
