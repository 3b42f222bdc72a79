"""`run --quick`: a rehearsal is made of few tweets, apart from what counts, and says so."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from clamp.config import ConfigError
from repro.commands.run import _mark, _rehearse


def test_a_rehearsal_is_apart_from_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"profile": "synthetic", "config": None, "full": False, "only": [], "seeds": None}
    options = argparse.Namespace(**given, out=Path("paper_tables"), runs=Path("runs"))
    _rehearse(options)
    assert (options.only, options.seeds) == (["main"], 1)
    assert (options.out, options.runs) == (Path("rehearsal"), Path("rehearsal/runs"))
    assert json.loads(options.config.read_text())["data.synthetic"]["train"] < 1000
    options = argparse.Namespace(**given, out=Path("mine"), runs=Path("runs"))
    _rehearse(options)
    assert (options.out, options.runs, options.config.parent) == (Path("mine"), Path("mine/runs"), Path("mine"))
    for other in ({"profile": "paper"}, {"full": True}, {"config": Path("c.json")}):
        with pytest.raises(ConfigError, match="--quick rehearses the default profile"):
            _rehearse(argparse.Namespace(**(given | other)))


def test_every_table_and_page_of_a_rehearsal_says_so(tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("| a |\n")
    (tmp_path / "report.html").write_text("<html><body>\n<h1>Report</h1></body></html>")
    (tmp_path / "table.tex").write_text("\\begin{tabular}")
    _mark(tmp_path)
    assert (tmp_path / "table.tex").read_text().startswith("% A rehearsal: few tweets")
    assert (tmp_path / "table.md").read_text().startswith("**A rehearsal: few tweets, one seed")
    assert (tmp_path / "table.md").read_text().endswith("\n\n| a |\n")
    assert "<body>\n<p><strong>A rehearsal: " in (tmp_path / "report.html").read_text()
