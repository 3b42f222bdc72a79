"""`clamp convert`: what one form says the next one says too, and what a form has no place for is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clamp.__main__ import main
from clamp.data.annotations import read_annotations

CONLL = "IMGID:a\nso\tO\nproud\tO\nof\tO\nAda\tB-POS\nLovelace\tI-POS\n\nIMGID:b\nnothing\tO\n\n"


def test_a_way_around_the_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(CONLL)
    for before, after in (("a.txt", "b.json"), ("b.json", "c.conll"), ("c.conll", "d.json")):
        assert main(["convert", str(tmp_path / before), str(tmp_path / after)]) == 0
    assert "2 tweets, 1 aspects" in capsys.readouterr().err
    tweets = read_annotations(tmp_path / "d.json")
    assert tweets == read_annotations(tmp_path / "a.txt")
    assert main(["convert", str(tmp_path / "d.json"), str(tmp_path / "e.tsv")]) == 0
    told = capsys.readouterr().err
    assert "1 tweets without aspects left out: a .tsv has no place for them" in told
    assert read_annotations(tmp_path / "e.tsv") == tweets[:1]


def test_labels_are_mapped_dropped_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(CONLL.replace("B-POS", "B-gut").replace("I-POS", "I-gut"))
    command = ["convert", str(tmp_path / "a.txt"), str(tmp_path / "b.json")]
    assert main(command) == 2
    assert "unknown label 'gut'; known are POS, NEU and NEG, " in capsys.readouterr().err
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "labels.json").write_text(json.dumps({"gut": "drop"}))
    assert main([*command, "--labels", str(tmp_path / "labels.json")]) == 0
    assert "1 aspects left out because of their labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "reason"), [("b.csv", "must end in one of .json, .txt, .conll, .tsv"), ("a.txt", "would overwrite")]
)
def test_what_cannot_be_written(tmp_path: Path, out: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(CONLL)
    assert main(["convert", str(tmp_path / "a.txt"), str(tmp_path / out)]) == 2
    assert reason in capsys.readouterr().err
