"""A report's rows; of a section that is begun again, those that it has, and what it must not try another time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Key = tuple[object, ...]

OURS = "kernels"


class Poisoned(RuntimeError):
    """An error after which the process can do nothing more on its GPU."""


@dataclass(frozen=True)
class Earlier:
    """What earlier tries had rows about -> whether these were right, and (work, variant) -> why that ended a try."""

    done: Mapping[Key, bool] = field(default_factory=dict)
    culprits: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def has(self, row: Row) -> bool:
        """Whether a row about the same was made."""
        return _key(row) in self.done

    def was_right(self, row: Row) -> bool:
        """Whether it was made and did not say otherwise."""
        return self.done.get(_key(row), False)

    def fault(self, row: Row) -> str | None:
        """Why a row's variant is left out, if it is: a peer that ended a try altogether, ours in that work only."""
        for (work, variant), reason in self.culprits.items():
            if variant == row["variant"] and (variant != OURS or work == row["work"]):
                return f"left out, it ended the section's process: {reason}"
        return None

    def and_then(self, rows: Iterable[Row], culprit: Row, reason: str) -> Earlier:
        """After another try, that made these rows and ended in the culprit."""
        done = {**self.done, **{_key(row): row.get("right", True) for row in rows}}
        return Earlier(done, {**self.culprits, (culprit["work"], culprit["variant"]): reason})


def _key(row: Row) -> Key:
    return tuple(row.get(name) for name in ("work", "variant", "launch", "check", "dtype"))
