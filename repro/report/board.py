"""The board: claims down, data sets across, a verdict in each cell. What its figures and its HTML table are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from repro.evidence.cells import POOLED, REAL, Place
from repro.evidence.claim_values import COLUMNS
from repro.evidence.evidence import Evidence
from repro.evidence.family import Claim, family
from repro.evidence.verdicts import Verdict
from repro.report.ledger import Entry, entry_of, ledger

_COLUMN_TITLES = {
    "synthetic": "generated",
    "twitter2015": "Twitter-2015",
    "twitter2017": "Twitter-2017",
    POOLED: "both pooled",
}


@dataclass(frozen=True)
class Sign:
    """How a verdict looks: its sign, the cell's colour and that of the sign on it, and its name in style sheets."""

    sign: str
    back: str
    front: str
    name: str


# Okabe and Ito's hues, from dark to light in grey: what is shown stands out, and the sign says the same again.
SIGNS: dict[Verdict, Sign] = {
    "supported": Sign("✓", "#0072B2", "#FFFFFF", "supported"),
    "not supported": Sign("✗", "#D55E00", "#FFFFFF", "against"),
    "no difference that matters": Sign("=", "#F0C46A", "#000000", "same"),
    "beyond these data": Sign("»", "#D9E6EE", "#000000", "beyond"),
    "undecided": Sign("?", "#FFFFFF", "#000000", "open"),
    "not run": Sign("·", "#FFFFFF", "#8A8A8A", "none"),
}


@dataclass(frozen=True)
class Row:
    """A claim, and what is said of it in each of the board's columns; None where it is not asked."""

    claim: Claim
    cells: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Board:
    """Its columns, and the claims that are asked in any of them."""

    columns: tuple[Place, ...]
    rows: tuple[Row, ...]
    marks: tuple[str, ...]  # a dagger for each column with runs of other sources than today's

    def groups(self) -> Iterator[tuple[str, list[Row]]]:
        """The rows under their headings, in the family's order."""
        for group, rows in groupby(self.rows, key=lambda row: row.claim.group):
            yield group, list(rows)

    def titles(self) -> list[str]:
        """Of the columns; the profile is named where two of them have runs on the same data."""
        real = {profile for profile, dataset in self.columns if dataset != "synthetic"}
        return [
            _COLUMN_TITLES[dataset] + mark + (f", {profile}" if dataset != "synthetic" and len(real) > 1 else "")
            for (profile, dataset), mark in zip(self.columns, self.marks, strict=True)
        ]


def board_of(evidence: Evidence) -> Board:
    """Generated tweets, and real ones under each profile that has runs on them; `offline` where none has."""
    entries = ledger(evidence)
    real = {profile for profile, dataset in evidence.grouped if dataset != "synthetic"} or {"offline"}
    columns = tuple(place for place in COLUMNS if place[0] in {"synthetic", *real})
    rows = [Row(claim, tuple(entry_of(entries[at], claim.id) for at in columns)) for claim in family()]
    marks = tuple("†" if _is_of_other_sources(evidence, column) else "" for column in columns)
    return Board(columns, tuple(row for row in rows if any(row.cells)), marks)


def _is_of_other_sources(evidence: Evidence, column: Place) -> bool:
    profile, dataset = column
    places = [(profile, one) for one in REAL] if dataset == POOLED else [column]
    cells = [cell for place in places for cell in evidence.everything(place).values()]
    sources = {record.provenance.source_hash for cell in cells for record in cell.records}
    return not sources <= set(evidence.marks.todays_hashes)
