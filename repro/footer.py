"""What stands below a table: which rows are marked and why, and what made the records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from repro.cells import Block, Cell, Record
from repro.experiments import PROFILES
from repro.stats import LEAST_SEEDS, RESAMPLES
from repro.variants import VARIANTS

_SOFTWARE = ("torch", "triton", "transformers", "tokenizers", "numpy")
SELECTION = (
    "Selection, ours: the epoch with the best joint F1 on the data set's own dev split, the earlier one on ties; "
    "scores on test are of that epoch, and test decides nothing."
)

TESTS = (
    f"Tests need {LEAST_SEEDS} seeds that both systems have: a paired bootstrap over tweets ({RESAMPLES:,} resamples, "
    "F1 averaged over seeds in each, conditional on these seeds) and a paired t test over seeds, both Holm-adjusted "
    "over all tests of this table; in another table the same two systems can have another p."
)


@dataclass(frozen=True)
class Marks:
    """The signs that set a cell's row apart, and the footnotes that explain those in use."""

    todays_hashes: tuple[str, str]  # of the sources at hand: on a CPU, on a GPU

    def __str__(self) -> str:
        return "{} on a CPU, {} on a GPU".format(*self.todays_hashes)

    def of(self, cell: Cell, block: Block) -> str:
        """A dagger for records of other sources; a double dagger for settings unlike the block's first system's.

        What either of the two systems is made to change is left out of that, but has to be the same in all its seeds.
        """
        reference = next(iter(block.values()))
        apart = {*_made_to_change(cell), *_made_to_change(reference)}
        shared, own = _settings(reference.records[0], apart), _settings(cell.records[0])
        foreign = any(record["provenance"]["source_hash"] not in self.todays_hashes for record in cell.records)
        mixed = any(_settings(r, apart) != shared or _settings(r) != own for r in cell.records)
        return ("†" if foreign else "") + ("‡" if mixed else "")

    def footnotes(self, shown: Sequence[Block]) -> list[str]:
        signs = "".join(self.of(cell, block) for block in shown for cell in block.values())
        notes = []
        if "†" in signs:
            notes.append(f"† has runs made by other sources than today's ({self}).")
        if "‡" in signs:
            notes.append(
                "‡ has runs with other training, data or model settings than its block, beside what makes it another "
                "system, or than its other seeds."
            )
        return notes


def provenance_footer(shown: Sequence[Block], marks: Marks) -> list[str]:
    """Footnotes of the signs in use, then what made the records: machine, sources, data and software."""
    made_by = [r["provenance"] for block in shown for cell in block.values() for r in cell.records]
    if not made_by:
        return [f"No run yet; sources at hand: {marks}."]
    versions = [
        [f"Python {p['python']}", *(f"{name} {p['packages'][name]}" for name in _SOFTWARE if name in p["packages"])]
        for p in made_by
    ]
    facts = {
        "Hardware": [p["hardware"] for p in made_by],
        "Sources (hash)": [p["source_hash"] for p in made_by],
        "Data (hash of the manifest)": [_data_hash(p["data"]) for p in made_by],
        "Software": [", ".join(version) for version in versions],
    }
    evaluated = [e["evaluation_hash"] for block in shown for cell in block.values() for e in cell.evaluations]
    if evaluated:
        facts["Sources of evaluation (hash)"] = evaluated
    runs = [f"{len(made_by)} runs; n in each row is the number of seeds that it averages."]
    return [*marks.footnotes(shown), *runs, *(f"{k}: {'; '.join(sorted(set(v)))}." for k, v in facts.items())]


def _made_to_change(cell: Cell) -> set[str]:
    """The fields, or parents of fields, in which a system differs from others by design."""
    tuned = PROFILES[cell.records[0]["profile"]].tuned.get(cell.variant, {})
    return {"data.visual", "data.proxy_fields", *VARIANTS[cell.variant].overrides, *tuned}


def _settings(record: Record, apart: Collection[str] = ()) -> dict[str, Any]:
    """A record's config by dotted field, but for the seed and what is or lies in one of `apart`."""
    left_out = {"train.seed", *apart}
    within = tuple(f"{name}." for name in left_out)
    return {k: v for k, v in _dotted(record["config"], "").items() if k not in left_out and not k.startswith(within)}


def _dotted(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    parts = [_dotted(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v} for k, v in values.items()]
    return {name: value for part in parts for name, value in part.items()}


def _data_hash(manifest: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
