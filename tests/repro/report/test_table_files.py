"""Three formats say the same, the index names what git keeps, and a failed write leaves what was there."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_up import record, suite
from made_up_tables import index_of, tables, write_tables

from repro.records.files import StoreError
from repro.report.figures.contents import FIGURES
from repro.report.table import Table, as_latex, as_markdown, write_table
from repro.report.write import regenerate


def test_three_formats_say_the_same(made: Path, frame_of: dict[str, pd.DataFrame]):
    for name, frame in frame_of.items():
        markdown, latex = ((made / f"{name}{suffix}").read_text() for suffix in (".md", ".tex"))
        assert latex.count("\\multicolumn") == frame.block.nunique()
        rows = [line for line in latex.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
        assert len(rows) == len(frame) + 1
        assert len({line.count(" & ") for line in rows}) == 1
        for column in frame.columns[1:3]:
            for value in frame[column]:
                assert value in markdown
                assert re.sub(r"([&%$#_{}])", r"\\\1", value).replace("†", "$^\\dagger$") in latex


def test_latex_is_plain_ascii_but_for_names_and_uses_booktabs(made: Path):
    for path in made.glob("*.tex"):
        text = path.read_text()
        assert text.isascii()
        assert text.count("\\toprule") == text.count("\\bottomrule") == 1
        assert not re.search(r"(?<!\\)[%&_#]", re.sub(r" & |\{!\}\{%|\}%\n|\\label\{.*\}", "", text))


def test_the_index_names_every_file(made: Path):
    index = (made / "README.md").read_text()
    for path in made.iterdir():
        kept = path.suffix in (".md", ".csv") and path.name != "README.md"
        assert (f"({path.name})" in index) == kept  # what git does not keep cannot be followed in a clone
    assert not re.search(r"\([^)]*\.(tex|pdf|html)\)|\(report\.md\)", index)
    for written in ("`.tex`", "`.pdf`", "`report.md`", "`report.html`"):
        assert written in index
    assert "Read [main_synthetic.md](main_synthetic.md) first" in index
    assert "(learning_curves.png)" in index


def test_the_index_puts_first_what_was_run():
    text = index_of([record("full", profile="offline", dataset="twitter2017")])
    assert "Read [main_twitter2017.md](main_twitter2017.md) first" in text


def test_the_same_records_give_the_same_bytes_in_any_order(made: Path, tmp_path: Path):
    records = [*suite(), *suite("offline", "twitter2015", top=0.58)]
    for path in write_tables(records[::-1], tmp_path):
        assert path.read_bytes() == (made / path.name).read_bytes()


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "main_synthetic.md"
    target.write_text("what was there before")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StoreError, match="main_synthetic"):
        write_table(tables([])["main_synthetic"], tmp_path)
    assert target.read_text() == "what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["main_synthetic.md"]


def test_markdown_cells_and_latex_specials_survive():
    frame = pd.DataFrame({"block": ["a & b"], "method": ["50% of x_1"], "n": ["1"], "note": ["wide"]})
    table = Table("t", "Title", ("Found.",), frame, ("Foot.",))
    assert "- 50% of x_1: wide" in as_markdown(table)
    latex = as_latex(table)
    assert "50\\% of x\\_1 & 1 \\\\" in latex
    assert "\\textit{a \\& b}" in latex
    assert "wide" not in latex
    assert next(csv.reader(io.StringIO(frame.to_csv(index=False)))) == ["block", "method", "n", "note"]


def test_a_figure_without_evidence_does_not_outlive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(FIGURES[-1], name="absent", suffices=lambda _: False)
    monkeypatch.setattr("repro.report.write.FIGURES", (absent,))
    for name in ("absent.png", "absent.pdf", "mine.png"):
        (tmp_path / name).write_bytes(b"as it was")
    regenerate(tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("*.p*"))] == ["mine.png"]
