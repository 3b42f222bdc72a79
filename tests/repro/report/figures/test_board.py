"""The board says of every claim what the ledger says, by signs that need no colour, and draws its effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawing import BY_NAME, assert_whole, drawn, write_figures
from made_up import evidence_of, record
from matplotlib.colors import to_rgb
from PIL import Image

from repro.evidence.verdicts import VERDICTS
from repro.report.board import SIGNS, board_of
from repro.report.ledger import ledger


def runs(profile: str = "synthetic", dataset: str = "synthetic") -> list[dict[str, Any]]:
    systems = {"full": 0.9, "no_paf": 0.7, "no_mcl": 0.98, "no_gate": 0.9}
    return [
        record(v, seed, f1=f1, tweets=600, profile=profile, dataset=dataset)
        for v, f1 in systems.items()
        for seed in range(4)
    ]


RECORDS = [*runs(), *runs("offline", "twitter2015"), *runs("offline", "twitter2017")]


def test_cells_are_the_ledgers():
    evidence = evidence_of(RECORDS)
    board = board_of(evidence)
    assert board.titles() == ["generated", "Twitter-2015", "Twitter-2017", "both pooled"]
    entries = ledger(evidence)
    shown = {
        (place, e.claim.id): e for row in board.rows for place, e in zip(board.columns, row.cells, strict=True) if e
    }
    assert shown == {(place, e.claim.id): e for place in board.columns for e in entries[place]}
    assert sum(len(rows) for _, rows in board.groups()) == len(board.rows)


def test_the_paper_profile_has_columns_once_it_ran():
    assert ("paper", "pooled") not in board_of(evidence_of(RECORDS)).columns
    both = board_of(evidence_of([*RECORDS, *runs("paper", "twitter2015")]))
    assert both.titles()[1:] == [
        f"{title}, {profile}"
        for profile in ("offline", "paper")
        for title in ("Twitter-2015", "Twitter-2017", "both pooled")
    ]
    assert len(board_of(evidence_of([])).columns) == 4


def test_runs_of_other_sources_are_marked():
    old = [
        record(v, s, profile="offline", dataset="twitter2017", source_hash="f" * 16) for v in ("full",) for s in (0, 1)
    ]
    board = board_of(evidence_of([*runs(), *runs("offline", "twitter2015"), *old]))
    assert board.titles() == ["generated", "Twitter-2015", "Twitter-2017†", "both pooled†"]


def test_signs_differ_without_colour_and_can_be_read_on_their_cells():
    assert set(SIGNS) == set(VERDICTS)
    assert len({sign.sign for sign in SIGNS.values()}) == len(SIGNS)

    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for verdict, sign in SIGNS.items():
        light, dark = sorted((luminance(sign.back), luminance(sign.front)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= (3.0 if verdict != "not run" else 2.9), verdict


def test_the_figure_shows_sign_number_of_seeds_effect_and_both_intervals():
    evidence = evidence_of(RECORDS)
    board_axis, generated, *_ = drawn("board", evidence).axes
    texts = [text.get_text() for text in board_axis.texts]
    (entry,) = (e for e in ledger(evidence)["synthetic", "synthetic"] if e.claim.id == "paf")
    assert entry.verdict == "supported"
    assert entry.effect is not None
    assert entry.over_tweets is not None
    assert entry.over_seeds is not None
    assert texts.count(SIGNS["supported"].sign) == sum(
        e.verdict == "supported" for of_place in ledger(evidence).values() for e in of_place
    )
    assert "n 4" in texts
    drawn_at = [line.get_xdata() for line in generated.lines]
    for ends in (entry.over_tweets, entry.over_seeds, (entry.effect,)):
        assert any(len(x) == len(ends) and np.allclose(x, np.clip(np.array(ends) / 0.01, -60, 60)) for x in drawn_at)
    (shaded,) = generated.patches
    assert (shaded.get_x(), shaded.get_width()) == (-1, 2)  # the margin, in margins


@pytest.mark.parametrize("name", ["board", "board_phone"])
def test_nothing_is_cut_off(name: str, tmp_path: Any):
    paths = {path.name: path for path in write_figures(evidence_of(RECORDS), tmp_path)}
    path = paths[f"{name}.png"]
    with Image.open(path) as image:
        wide = image.size[0]
    assert_whole(path, (wide,))
    assert wide <= 720 or name == "board"  # for phones: letters as large as a phone's own at 390 pixels


def test_sentences_count_the_verdicts():
    evidence = evidence_of(RECORDS)
    said = list(BY_NAME["board"].sentences(evidence))
    entries = ledger(evidence)["synthetic", "synthetic"]
    supported = sum(entry.verdict == "supported" for entry in entries)
    assert said[0].startswith(f"Generated tweets, profile synthetic: of {len(entries)} claims {supported} supported, ")
    assert len(said) == 4
