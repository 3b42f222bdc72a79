"""Which rows are set apart, and why: records of other sources than today's, of other settings than their block,
or without the trials that others had.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from repro.evidence.cells import Block, Cell, Place
from repro.evidence.trials import Trials
from repro.plan.variants import VARIANTS
from repro.records.run import RunRecord


@dataclass(frozen=True)
class Marks:
    """The signs that set a cell's row apart, and the footnotes that explain those in use."""

    todays_hashes: tuple[str, str]  # of the sources at hand: on a CPU, on a GPU
    trials: Trials

    def __str__(self) -> str:
        return "{} on a CPU, {} on a GPU".format(*self.todays_hashes)

    def of(self, cell: Cell, block: Block) -> str:
        """A dagger for records of other sources; a double dagger for settings unlike the block's first system's; a
        section sign for settings that fewer dev trials chose than another system had there, or none.

        What either of the two systems is made to change is left out of that, but has to be the same in all its seeds.
        """
        reference = next(iter(block.values()))
        apart = {*self._made_to_change(cell), *self._made_to_change(reference)}
        shared, own = _settings(reference.records[0], apart), _settings(cell.records[0])
        foreign = any(record.provenance.source_hash not in self.todays_hashes for record in cell.records)
        mixed = any(_settings(r, apart) != shared or _settings(r) != own for r in cell.records)
        untried = not self.trials.had_its_own(_place(cell), cell.variant)
        return ("†" if foreign else "") + ("‡" if mixed else "") + ("§" if untried else "")

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
        if "§" in signs:
            notes.append(
                "§ did not have its trials: its settings were chosen by fewer runs on dev than another system's there, "
                "or by none (table `trials`)."
            )
        return notes

    def _made_to_change(self, cell: Cell) -> set[str]:
        """The fields, or parents of fields, in which a system differs from others by design."""
        chosen = self.trials.changes(_place(cell), cell.variant)
        return {"data.visual", "data.proxy_fields", *VARIANTS[cell.variant].overrides, *chosen}


def _place(cell: Cell) -> Place:
    return cell.records[0].profile, cell.records[0].experiment


def _settings(record: RunRecord, apart: Collection[str] = ()) -> dict[str, Any]:
    """A record's config by dotted field, but for the seed and what is or lies in one of `apart`."""
    left_out = {"train.seed", *apart}
    within = tuple(f"{name}." for name in left_out)
    return {k: v for k, v in _dotted(record.config, "").items() if k not in left_out and not k.startswith(within)}


def _dotted(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    parts = [_dotted(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v} for k, v in values.items()]
    return {name: value for part in parts for name, value in part.items()}
