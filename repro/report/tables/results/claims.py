"""The claims ledger as a table: every claim at every place, with its effect, its intervals and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repro.evidence.cells import POOLED, REAL, Place
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS, SIGNIFICANCE, Interval
from repro.evidence.verdicts import VERDICTS
from repro.report.ledger import Entry, ledger
from repro.report.provenance_notes import SELECTION, TESTS, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_RUN, percent, signed, tweets


def claims(evidence: Evidence) -> Table:
    """The ledger as a table; a place where nothing was run keeps its rows, and says so."""
    entries = ledger(evidence)
    rows = [
        {BLOCK: place_title(place) + _signs(evidence, place), **_row(entry)}
        for place, of_place in entries.items()
        for entry in of_place
    ]
    return Table(
        name="claims",
        title="The paper's claims and ours, and what the runs say of them",
        about="Each claim is tied to one test that could have gone against it; all of them, with their margins, stand "
        "in `repro/evidence/family.toml`, which was written before the runs. Profiles other than `paper` test the "
        "claim for this implementation at a smaller size, not the paper's own figures.",
        findings=tuple(_finding(place, of_place) for place, of_place in entries.items()),
        frame=pd.DataFrame(rows),
        footer=(
            "Effect and 95 % intervals in points (hundredths of a share or a cosine; tweets where tweets are counted), "
            f"positive in the claim's favour. Supported: the tests over tweets, over seeds and over both are below "
            f"{SIGNIFICANCE}, in the claim's direction; not supported: in the other. No difference that matters: the "
            "90 % intervals of all three lie within the claim's margin (two one-sided tests), a point of F1 or what "
            "the family says. Beyond these data: the tweets decide nothing, could not detect a difference as small as "
            "the margin, and are a larger part of the error than the seeds; in brackets the difference that they could "
            "detect four times in five, and how many tweets would detect the smallest that is of interest. Undecided: "
            f"anything else, and whatever has fewer than {LEAST_SEEDS} seeds.",
            "Over both: seeds and tweets as crossed random effects of a mixed model; the bootstrap over tweets holds "
            "the seeds fixed, the t interval over seeds the tweets. What has no value for each tweet is tested over "
            "seeds alone: by t tests, and tweets seen by the log-rank test, with the median of the paired differences "
            "and its interval by order statistics.",
            f"{TESTS} Here all claims are adjusted together, over all places; main results and ablations are adjusted "
            "over their own tests, and can say otherwise of the same two systems.",
            SELECTION,
            *provenance_footer([*evidence.grouped.values(), *filter(None, [evidence.two_looks])], evidence.marks),
        ),
    )


def _signs(evidence: Evidence, place: Place) -> str:
    """The marks of the cells there: a claim is about several."""
    profile, dataset = place
    blocks = [evidence.block((profile, one)) for one in (REAL if dataset == POOLED else (dataset,))]
    signs = "".join(evidence.marks.of(cell, block) for block in blocks for cell in block.values())
    return "".join(sign for sign in "†‡" if sign in signs)


def _row(entry: Entry) -> dict[str, str]:
    return {
        "claim": entry.sentence,
        "test": entry.test,
        "n": str(entry.n),
        "effect": entry.missing if entry.effect is None else amount(entry, entry.effect),
        "over tweets": _between(entry, entry.over_tweets),
        "over seeds": _between(entry, entry.over_seeds),
        "over both": _between(entry, entry.over_both),
        "verdict": verdict_in_words(entry),
    }


def amount(entry: Entry, value: float) -> str:
    """An effect in the metric's unit: tweets, or points."""
    return tweets(value) if entry.claim.metric == "tweets_until" else signed(value)


def _between(entry: Entry, interval: Interval | None) -> str:
    return "-" if interval is None else " to ".join(amount(entry, end) for end in interval)


def verdict_in_words(entry: Entry) -> str:
    """With what it would take, where the data are too few."""
    if entry.detectable is None:
        return entry.verdict
    return f"{entry.verdict} ({percent(entry.detectable)}; {entry.tweets_needed:,} tweets)"


def _finding(place: Place, entries: Sequence[Entry]) -> str:
    if all(entry.verdict == "not run" for entry in entries):
        return f"{place_title(place)}: {NOT_RUN}."
    parts = []
    for verdict in VERDICTS:
        judged = [entry.sentence for entry in entries if entry.verdict == verdict]
        parts.append(f"{verdict}: {'; '.join(judged) or 'none'}")
    return f"{place_title(place)}: {'. '.join(part[0].upper() + part[1:] for part in parts)}."
