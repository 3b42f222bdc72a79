"""A run's folder as bytes, to travel from one machine to another."""

from __future__ import annotations

from pathlib import Path

from clamp.system.files import LOCK
from repro.records.files import write_atomically
from repro.run import store

Parcel = dict[str, bytes]  # path within the folder -> content


def pack(folder: Path) -> Parcel:
    """Every file of a run's folder but its lock and what was being written; empty where there is no folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    kept = (path for path in files if path.name != LOCK and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def unpack(parcel: Parcel, job: store.Job) -> None:
    """Write a parcel into a run's folder, the result last: it is there if and only if the rest is.

    Each file appears whole or not at all. Raises StoreError.
    """
    for name in sorted(parcel, key=lambda name: name == job.result.name):
        write_atomically(job.folder / name, parcel[name])
