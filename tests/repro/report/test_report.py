"""The report: one file without a network, verdicts first, and words that follow the numbers."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from drawing import BY_NAME, write_figures
from made_up import evaluation, evidence_of, record, set_f1, with_bounds

from repro.report.page import TITLE, VERDICTS, as_html, as_markdown, write_report
from repro.report.tables.contents import make_tables

# Systems and their F1; all but text only fall as far without their image as they are above one half.
SYSTEMS = {"full": 0.9, "no_paf": 0.75, "no_mcl": 0.8, "single_cross_attention": 0.7, "text_only": 0.6}
SHOWN = ("learning_curves", "loss_weights", "ablations")
FIGURES = [BY_NAME[name] for name in ("board", "board_phone", *SHOWN)]
SWAPPED = SYSTEMS | {"full": 0.6, "text_only": 0.9}


class Page(HTMLParser):
    """The tags of a page: what has an id, what is linked or loaded, and text by enclosing tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.tables = 0
        self.feed(text)
        assert self.open == []  # every tag is closed

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        self.loaded += [values["src"] or ""] if "src" in values else []
        self.tables += tag == "table"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made_from(scores: dict[str, float]) -> tuple[list[Any], list[Any]]:
    records = [record(v, seed, f1=f1, tweets=400) for v, f1 in scores.items() for seed in range(3)]
    seen = [r for r in records if r["variant"] != "text_only"]
    return records, [evaluation(r, other_image=scores[r["variant"]] - 0.5 + 0.002 * r["seed"]) for r in seen]


def report(scores: dict[str, float]) -> str:
    records, evaluations = made_from(scores)
    evidence = evidence_of(records, evaluations)
    return as_markdown(evidence, make_tables(evidence), [])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    records, evaluations = made_from(SYSTEMS)
    evidence = evidence_of(records, evaluations)
    write_figures(evidence_of(records), out)
    write_report(evidence, make_tables(evidence), FIGURES, out)
    return out


def test_one_file_needs_no_other(written: Path):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert len(page.loaded) == 4  # the board too; a phone has it as a table
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert not re.search(r"<(script|link|iframe)|@import|url\(", text)


def test_figures_are_those_beside_it(written: Path):
    inside = [base64.b64decode(source.split(",")[1]) for source in Page((written / "report.html").read_text()).loaded]
    assert inside == [(written / f"{name}.png").read_bytes() for name in ("board", *SHOWN)]


def test_contents_lead_to_every_table_and_figure(written: Path):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    tables = make_tables(evidence_of(*made_from(SYSTEMS)))
    expected = [table.name for table in tables] + [
        f"figure_{n}" for n in ("learning_curves", "loss_weights", "ablations")
    ]
    assert [name for name in page.ids if name not in ("board", "verdicts", "run", "contents")] == expected
    assert page.tables == 2 + sum(table.frame.block.nunique() for table in tables)
    markdown = (written / "report.md").read_text()
    for name in expected:
        assert f'<a id="{name}"></a>' in markdown
        assert f"](#{name})" in markdown


def test_it_reads_on_phones_at_night_and_on_paper(written: Path):
    text = (written / "report.html").read_text()
    for needed in ('name="viewport"', "prefers-color-scheme: dark", "@media print", "overflow-x: auto"):
        assert needed in text


def test_the_board_comes_first_then_verdicts_then_tables(written: Path):
    for name, board, verdicts, first in (
        ("report.html", 'id="board"', 'id="verdicts"', 'class="wide"'),
        ("report.md", "](board.png)", "## Verdicts", "\n|"),
    ):
        text = (written / name).read_text()
        assert text.index(TITLE) < text.index(board) < text.index(verdicts) < text.index(first)
    tables = {table.name: table for table in make_tables(evidence_of(*made_from(SYSTEMS)))}
    head = (written / "report.md").read_text().split("## What was run")[0]
    for name in VERDICTS:
        for finding in tables[name].findings:
            assert f"- {finding}" in head


def test_every_table_and_figure_says_what_it_is_and_what_it_shows(written: Path):
    for table in make_tables(evidence_of(*made_from(SYSTEMS))):
        assert table.about or table.name == "kernels"  # whose title says it
        assert table.findings
    text = (written / "report.md").read_text()
    for name in ("learning curves", "loss weights", "ablations"):
        section = text.split(f"## Figure: {name}")[1].split("<a id")[0]
        assert len([part for part in section.strip().split("\n\n") if part]) >= 3  # picture, caption, sentence


def test_words_follow_when_two_systems_swap_their_numbers():
    right, swapped = report(SYSTEMS), report(SWAPPED)
    assert "CLAMP is ahead of text only (+" in right
    assert "CLAMP is not ahead of text only but behind it (-" in swapped
    assert "is ahead of" not in swapped
    claims = [text.split("**[Main")[0].split("synthetic: ")[1] for text in (right, swapped)]
    lead = "multi-task contrastive learning improves F1"
    supported, against = (re.split(r"Supported: |Not supported: |No difference", text)[1:3] for text in claims)
    assert lead in supported[0]
    assert "CLAMP is more accurate than text only" in supported[0]
    assert lead not in supported[1]
    assert lead in against[1]
    assert "CLAMP is more accurate than text only" in against[1]
    assert "used by CLAMP: +4" in right
    assert "used by CLAMP: +1" in swapped


def test_nothing_run_claims_nothing():
    evidence = evidence_of([])
    text = as_markdown(evidence, make_tables(evidence), [])
    assert "is ahead of" not in text
    verdicts = text.split("## What was run")[0].lower()
    assert "supported:" not in verdicts
    assert "no difference that matters" not in verdicts
    assert text.count("not run") > 50


def test_the_same_records_give_the_same_bytes_in_any_order(written: Path, tmp_path: Path):
    records, evaluations = made_from(SYSTEMS)
    for name in ("board", *SHOWN):
        (tmp_path / f"{name}.png").write_bytes((written / f"{name}.png").read_bytes())
    evidence = evidence_of(records[::-1], evaluations[::-1])
    for path in write_report(evidence, make_tables(evidence), FIGURES, tmp_path):
        assert path.read_bytes() == (written / path.name).read_bytes()


def test_text_is_escaped_in_html(tmp_path: Path):
    evidence = evidence_of([])
    (table, *_) = make_tables(evidence)
    frame = table.frame.assign(claim="<b> & `code`")
    planted = type(table)(table.name, "<i>", ("p < 0.05",), frame, ("a & b",), "<u>")
    text = as_html(evidence, [planted], [], tmp_path)
    assert "<b>" not in text
    assert "&lt;i&gt;" in text
    assert "p &lt; 0.05" in text


def test_figures_say_what_the_records_do():
    records = [record(v, seed) for v, _ in SYSTEMS.items() for seed in range(3)]
    for r in records:
        for k, epoch in enumerate(r["result"]["curve"]):
            epoch["dev_f1"] = 0.5 + 0.3 * (k == 7)
        r["result"]["best_epoch"] = 8
        set_f1(r, 0.9 if r["variant"] == "no_mcl" else 0.7)
    evidence = evidence_of(records)
    (said,) = BY_NAME["learning_curves"].sentences(evidence)
    assert said.endswith("CLAMP is best on dev after epoch 8 of 12, at 80.0 ± 0.0 F1 (3 seeds).")
    (said,) = BY_NAME["ablations"].sentences(evidence)
    assert "of 5 systems the highest mean is that of no contrast (90.0 ± 0.0, 3 seeds)" in said
    (said,) = BY_NAME["loss_weights"].sentences(evidence)
    assert "In CLAMP, no s has a bound." in said
    lowest = {"tagging": -4.0, "aspect": 2.0, "global": 2.0, "local": 2.0}
    bounded = [with_bounds(r, **lowest) for r in records if r["variant"] == "full"]
    (said,) = BY_NAME["loss_weights"].sentences(evidence_of(bounded))
    assert "0 of 4 loss weights were held by their bound" in said
