"""The claims ledger as a table: every claim at every place, with its effect, its intervals and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repro.evidence.cells import Place
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS, SIGNIFICANCE
from repro.report.ledger import JUDGEMENTS, Entry, ledger
from repro.report.provenance_notes import SELECTION, TESTS, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import place_title
from repro.report.wording import NOT_RUN, between, signed


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
        title="The paper's claims, and what the runs say of them",
        about="Each claim is tied to one test that could have gone against it. Profiles other than `paper` test the "
        "claim for this implementation at a smaller size, not the paper's own figures.",
        findings=tuple(_finding(place, of_place) for place, of_place in entries.items()),
        frame=pd.DataFrame(rows),
        footer=(
            "Effect and intervals in points, positive in the claim's favour. Supported: both the test over tweets and "
            f"the one over seeds are below {SIGNIFICANCE}, in the claim's direction; what happens inside is tested "
            "over seeds alone. Not supported: both say the opposite, or both intervals end below one point of F1. "
            f"Undecided: anything else, and whatever has fewer than {LEAST_SEEDS} seeds.",
            f"{TESTS} Here claims about F1 and about what happens inside are adjusted together, over all places; main "
            "results and ablations are adjusted over their own tests, and can say otherwise of the same two systems.",
            SELECTION,
            *provenance_footer(list(evidence.grouped.values()), evidence.marks),
        ),
    )


def _signs(evidence: Evidence, place: Place) -> str:
    """The marks of the cells there: a claim is about several."""
    block = evidence.block(place)
    signs = "".join(evidence.marks.of(cell, block) for cell in block.values())
    return "".join(sign for sign in "†‡" if sign in signs)


def _row(entry: Entry) -> dict[str, str]:
    return {
        "claim": entry.claim,
        "test": entry.test,
        "n": str(entry.n),
        "effect": entry.missing if entry.effect is None else signed(entry.effect),
        "95 % over tweets": "-" if entry.over_tweets is None else between(*entry.over_tweets),
        "95 % over seeds": "-" if entry.over_seeds is None else between(*entry.over_seeds),
        "verdict": entry.judgement,
    }


def _finding(place: Place, entries: Sequence[Entry]) -> str:
    if all(entry.judgement == "not run" for entry in entries):
        return f"{place_title(place)}: {NOT_RUN}."
    parts = []
    for judgement in JUDGEMENTS:
        judged = [entry.claim for entry in entries if entry.judgement == judgement]
        parts.append(f"{judgement}: {'; '.join(judged) or 'none'}")
    return f"{place_title(place)}: {'. '.join(part[0].upper() + part[1:] for part in parts)}."
