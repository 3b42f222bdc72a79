"""How soon each system learns the generated tweets: tweets seen until dev F1 0.9, and whether CLAMP is there sooner."""

from __future__ import annotations

import pandas as pd

from repro.evidence.cells import GENERATED, Block, Cell
from repro.evidence.evidence import Evidence
from repro.evidence.learning_speed import (
    THRESHOLD,
    Seen,
    differences,
    log_rank,
    median,
    median_interval,
    seen_until,
    sign_test,
)
from repro.evidence.stats import LEAST_SEEDS, SIGNIFICANCE, holm
from repro.plan.variants import GROUPS, SUITE, VARIANTS
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_RUN, p_value, seeds, tweets

_REFERENCES = {"full": SUITE, "full_two_looks": GROUPS["two_looks"]}  # CLAMP, and what is set against it
_COLUMNS = ("tweets seen", "95 % interval", "never", "minus CLAMP", "p sign", "p log-rank")


def learning_speed(evidence: Evidence) -> Table:
    """A row a system, on generated tweets as they are and on those that need two looks."""
    block = evidence.everything(GENERATED)
    rows, findings = [], []
    for reference, systems in _REFERENCES.items():
        title = place_title(GENERATED) + (", two looks" if reference != "full" else "")
        p = _adjusted(block, reference, systems)
        for variant in systems:
            rows.append({BLOCK: title, **_row(evidence, block, variant, reference, p.get(variant))})
        findings.append(f"{title}: {_finding(block, reference, systems, p)}")
    return Table(
        name="learning_speed",
        title=f"How soon it is learned: tweets seen until dev F1 {THRESHOLD:g} (generated tweets)",
        about="What a part is worth need not show in the end, when every system has seen enough: a part may also let "
        "the same be learned from fewer tweets.",
        findings=tuple(findings),
        frame=pd.DataFrame(rows),
        footer=(
            "Tweets seen: a tweet that is seen in three epochs counts three times. Dev F1 is known where epochs end, "
            "and taken to go straight from one end to the next, from 0 before the first. Median over seeds with its "
            "interval by order statistics, which needs six seeds. Never: seeds that were not there when training "
            "ended, which is all that is known of them (right-censored).",
            "Minus CLAMP: median of the differences of the same seed; infinite where one of the two never is there. A "
            f"pair of which neither is says nothing. From {LEAST_SEEDS} shared seeds on: the sign test of these "
            "differences, and the log-rank test of both systems' seeds, unpaired. Each is Holm-adjusted over its block "
            "of this table.",
            SELECTION,
            *provenance_footer([{v: block[v] for s in _REFERENCES.values() for v in s if v in block}], evidence.marks),
        ),
    )


def _seen(cell: Cell) -> dict[int, Seen]:
    return {record.seed: seen_until(record) for record in cell.records}


def _shared(block: Block, variant: str, reference: str) -> tuple[list[Seen], list[Seen]]:
    """The variant's and the reference's, of the seeds that both have."""
    if variant == reference or variant not in block or reference not in block:
        return [], []
    ours, other = _seen(block[variant]), _seen(block[reference])
    common = [seed for seed in ours if seed in other]
    return [ours[seed] for seed in common], [other[seed] for seed in common]


def _adjusted(block: Block, reference: str, systems: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Variant -> p of the sign test and of the log-rank test, of those with seeds enough."""
    pairs = {v: pair for v in systems if len((pair := _shared(block, v, reference))[0]) >= LEAST_SEEDS}
    sign = holm([sign_test(differences(*pair)) for pair in pairs.values()])
    rank = holm([log_rank(*pair) for pair in pairs.values()])
    return dict(zip(pairs, zip(sign, rank, strict=True), strict=True))


def _row(
    evidence: Evidence, block: Block, variant: str, reference: str, p: tuple[float, float] | None
) -> dict[str, str]:
    cell = block.get(variant)
    if cell is None:
        return {"system": VARIANTS[variant].label, "n": "0", **dict.fromkeys(_COLUMNS, NOT_RUN)}
    values = times(cell)
    interval = median_interval(values)
    apart = differences(*_shared(block, variant, reference))
    return {
        "system": cell.label + evidence.marks.of(cell, {reference: block.get(reference, cell)}),
        "n": str(cell.n),
        "tweets seen": _count(median(values)),
        "95 % interval": "-" if interval is None else f"{_count(interval[0])} to {_count(interval[1])}",
        "never": str(sum(value == float("inf") for value in values)),
        "minus CLAMP": tweets(median(apart)) if apart else "-",
        "p sign": p_value(p[0] if p else None),
        "p log-rank": p_value(p[1] if p else None),
    }


def times(cell: Cell) -> list[float]:
    """Tweets seen by each seed, infinite for one that never was there."""
    return [seen.tweets if seen.reached else float("inf") for seen in _seen(cell).values()]


def _count(value: float) -> str:
    return "never" if value == float("inf") else f"{100 * round(value / 100):,}"


def _finding(block: Block, reference: str, systems: tuple[str, ...], p: dict[str, tuple[float, float]]) -> str:
    if reference not in block:
        return f"{NOT_RUN}."
    values = times(block[reference])
    there = [value for value in values if value < float("inf")]
    start = f"CLAMP is there in {len(there)} of {seeds(len(values))}"
    start += f", after {_count(median(values))} tweets in the median. " if median(values) < float("inf") else ". "
    shown = {v: median(differences(*_shared(block, v, reference))) for v, (_, rank) in p.items() if rank < SIGNIFICANCE}
    later = [VARIANTS[v].label for v, apart in shown.items() if apart > 0]
    sooner = [VARIANTS[v].label for v, apart in shown.items() if apart < 0]
    return (
        f"{start}Shown to be there later, by the log-rank test: {'; '.join(later) or 'none'}. Shown to be there "
        f"sooner: {'; '.join(sooner) or 'none'}."
    )
