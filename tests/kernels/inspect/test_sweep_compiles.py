"""The tiles that a GPU report sweeps compile for the GPU that they were thought of for, before one is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
from kernels.inspect.reports import SHARED_BYTES_LIMIT


@pytest.mark.slow
def test_every_alternative_compiles_fits_and_is_another() -> None:
    """In a process of its own: here Triton interprets."""
    script, root = Path(__file__).parents[1] / "compiled_sweep.py", Path(__file__).parents[3]
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(root)}
    said = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True).stdout
    for work, tiles in json.loads(said).items():
        configs = [str([(row["kernel"], row["config"]) for row in rows]) for rows in tiles.values()]
        assert len(set(configs)) == len(configs) > 4, work  # alternatives take effect, each another's
        for name, rows in tiles.items():
            for row in rows:
                assert "error" not in row, (work, name, row)
                assert row["shared_bytes"] <= SHARED_BYTES_LIMIT[90], (work, name, row["kernel"])
