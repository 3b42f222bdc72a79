"""The published figures: every one with a source, in range, and consistent unless its note says otherwise."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import repro

REPORTED = pd.read_csv(Path(repro.__file__).parent / "evidence" / "reported.csv", keep_default_na=False)
FIGURES = ["precision", "recall", "f1", "accuracy"]
HALF_UNIT = 0.05  # figures are printed to one decimal


def figures() -> pd.DataFrame:
    return REPORTED[FIGURES].apply(pd.to_numeric)


def test_the_schema_is_fixed():
    expected = ["task", "dataset", "method", "venue", *FIGURES, "source", "selection", "note"]
    assert list(REPORTED.columns) == expected
    assert set(REPORTED.task) == {"MABSA", "MATE", "MASC"}
    assert set(REPORTED.dataset) == {"twitter2015", "twitter2017"}
    assert not REPORTED.duplicated(["task", "dataset", "method"]).any()


def test_every_row_has_a_method_a_source_and_a_selection():
    for column in ("method", "source", "selection"):
        assert REPORTED[column].str.strip().ne("").all(), column
    assert set(REPORTED.selection) == {"dev", "best test F1", "unknown"}


def test_figures_are_percentages():
    values = figures()
    assert values.stack().dropna().between(40, 100).all()
    assert values[["f1", "accuracy"]].notna().any(axis=1).all()


def consistent(precision: float, recall: float, f1: float) -> bool:
    def harmonic(p: float, r: float) -> float:
        return 2 * p * r / (p + r)

    lowest, highest = (harmonic(precision + d, recall + d) for d in (-HALF_UNIT, HALF_UNIT))
    return lowest <= f1 + HALF_UNIT and f1 - HALF_UNIT <= highest


def test_f1_is_the_harmonic_mean_unless_the_note_says_so():
    complete = REPORTED[figures()[["precision", "recall", "f1"]].notna().all(axis=1)]
    assert len(complete) > 90
    for index, row in complete.iterrows():
        values = figures().loc[index]
        noted = "F1 inconsistent with P and R" in row.note
        assert consistent(values.precision, values.recall, values.f1) != noted, (row.task, row.dataset, row.method)


@pytest.mark.parametrize(
    ("task", "dataset", "method", "column", "figure"),
    [
        ("MABSA", "twitter2015", "CLAMP", "f1", 67.7),
        ("MABSA", "twitter2017", "CLAMP", "f1", 68.9),
        ("MABSA", "twitter2015", "RoBERTa (text only)", "f1", 63.5),
        ("MABSA", "twitter2015", "CMMT", "precision", 64.6),
        ("MATE", "twitter2017", "DQPSA", "f1", 94.3),
        ("MASC", "twitter2015", "JML", "accuracy", 78.7),
    ],
)
def test_figures_that_the_documentation_quotes(task: str, dataset: str, method: str, column: str, figure: float):
    row = REPORTED.query("task == @task and dataset == @dataset and method == @method")
    assert row[column].astype(float).tolist() == [figure]


def test_the_selection_rules_known_are_recorded():
    joint = REPORTED[REPORTED.task == "MABSA"].groupby("method").selection.unique()
    for method in ("VLP-MABSA", "JML", "M2DF (VLP)", "CMMT"):
        assert list(joint[method]) == ["dev"]
    assert list(joint["AoM"]) == ["best test F1"]
