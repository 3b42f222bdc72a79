"""Ten minutes of fuzzing, spread over everything that reads what others wrote; see fuzz_inputs.py."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).with_name("fuzz_inputs.py")
SECONDS = int(os.environ.get("CLAMP_FUZZ_SECONDS", "600"))  # of all targets together


def names() -> list[str]:
    """Of the targets, without importing atheris."""
    for node in ast.parse(FUZZER.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TARGETS":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError("no TARGETS")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install atheris")
@pytest.mark.parametrize("name", names())
def test_no_input_ends_in_anything_but_a_documented_error(name: str, tmp_path: Path) -> None:
    each = max(1, SECONDS // len(names()))
    options = [f"-max_total_time={each}", "-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=1"]
    done = subprocess.run(
        [sys.executable, str(FUZZER), name, str(tmp_path / "seeds"), *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(FUZZER.parents[1])},
        capture_output=True,
        text=True,
    )
    print(done.stderr[-600:])
    assert done.returncode == 0, done.stderr[-3000:]
