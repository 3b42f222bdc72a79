"""What stands below a table: how its epochs were selected and its systems tested, and what made the records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from repro.evidence.cells import Block
from repro.evidence.marks import Marks
from repro.evidence.stats import LEAST_SEEDS, RESAMPLES

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


def provenance_footer(shown: Sequence[Block], marks: Marks) -> list[str]:
    """Footnotes of the signs in use, then what made the records: machine, sources, data and software."""
    made_by = [r.provenance for block in shown for cell in block.values() for r in cell.records]
    if not made_by:
        return [f"No run yet; sources at hand: {marks}."]
    versions = [
        [f"Python {p.python}", *(f"{name} {p.packages[name]}" for name in _SOFTWARE if name in p.packages)]
        for p in made_by
    ]
    facts = {
        "Hardware": [p.hardware for p in made_by],
        "Sources (hash)": [p.source_hash for p in made_by],
        "Data (hash of the manifest)": [_data_hash(p.data) for p in made_by],
        "Software": [", ".join(version) for version in versions],
    }
    evaluated = [e.evaluation_hash for block in shown for cell in block.values() for e in cell.evaluations]
    if evaluated:
        facts["Sources of evaluation (hash)"] = evaluated
    runs = [f"{len(made_by)} runs; n in each row is the number of seeds that it averages."]
    return [*marks.footnotes(shown), *runs, *(f"{k}: {'; '.join(sorted(set(v)))}." for k, v in facts.items())]


def _data_hash(manifest: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
