"""One table as Markdown, LaTeX (booktabs) and CSV, all three from the same frame of display strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from repro.records.files import write_atomically

BLOCK = "block"  # the frame's first column: rows of one block stay together and are never compared across blocks
NOTE = "note"  # a column of sentences: a list below the block in Markdown, left out of LaTeX


@dataclass(frozen=True)
class Table:
    """A table of display strings, with what it is (`about`), what it says (`findings`), and notes (`footer`).

    `about` holds for any results; `findings` are made from these.
    """

    name: str
    title: str
    findings: tuple[str, ...]
    frame: pd.DataFrame
    footer: tuple[str, ...]
    about: str = ""


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write NAME.md, NAME.tex and NAME.csv; each file is replaced in one step."""
    texts = {
        ".md": as_markdown(table),
        ".tex": as_latex(table),
        ".csv": table.frame.to_csv(index=False, lineterminator="\n"),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{table.name}{suffix}")
        write_atomically(paths[-1], text)
    return paths


def as_markdown(table: Table) -> str:
    """What it is and says; each block under its own heading; its notes; the footer."""
    return f"# {table.title}\n\n{markdown_body(table, '##')}\n"


def markdown_body(table: Table, heading: str) -> str:
    """All of it but the title, blocks under headings of that level."""
    parts = [table.about, *table.findings] if table.about else list(table.findings)
    for block, shown, notes in shown_blocks(table):
        parts += [f"{heading} {block}", shown.to_markdown(index=False, disable_numparse=True)]
        if notes:
            parts.append("\n".join(f"- {note}" for note in notes))
    parts.append("\n".join(f"- {line}" for line in table.footer))
    return "\n\n".join(parts)


def shown_blocks(table: Table) -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
    """Each block's title, its rows without columns that are empty there, and its notes."""
    for block, rows in table.frame.groupby(BLOCK, sort=False):
        shown = rows.drop(columns=[BLOCK, NOTE], errors="ignore")
        noted = rows[rows[NOTE] != ""] if NOTE in rows else rows.iloc[:0]
        yield str(block), shown.loc[:, (shown != "").any()], [f"{r.iloc[1]}: {r[NOTE]}" for _, r in noted.iterrows()]


def as_latex(table: Table) -> str:
    """A `table*` for booktabs and graphicx: blocks set apart by rules, the footer under the rows."""
    frame = table.frame.drop(columns=[BLOCK, NOTE], errors="ignore")
    lines = frame.to_latex(index=False, escape=True, column_format="l" + "r" * (frame.shape[1] - 1)).splitlines()
    body = lines.index("\\midrule") + 1
    rows = lines[body : body + len(frame)]
    blocks = table.frame[BLOCK].tolist()
    set_apart: list[str] = []
    for i, row in enumerate(rows):
        if i == 0 or blocks[i] != blocks[i - 1]:
            rule = ["\\midrule"] if i else []
            set_apart += [*rule, f"\\multicolumn{{{frame.shape[1]}}}{{l}}{{\\textit{{{_escaped(blocks[i])}}}}} \\\\"]
        set_apart.append(row)
    tabular = "\n".join([*lines[:body], *set_apart, *lines[body + len(frame) :]])
    caption = _escaped(" ".join(filter(None, [f"{table.title}.", table.about, *table.findings])))
    text = "\n".join(
        [
            "\\begin{table*}",
            "\\centering",
            f"\\caption{{{caption}}}",
            f"\\label{{tab:{table.name}}}",
            "\\resizebox{\\textwidth}{!}{%",
            f"{tabular}%",
            "}",
            *(f"\\par\\footnotesize {_escaped(line)}" for line in table.footer),
            "\\end{table*}",
        ]
    )
    return _ascii(text) + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("`", ""))


def _ascii(text: str) -> str:
    for sign, command in {"<": "$<$", "±": "$\\pm$", "†": "$^\\dagger$", "‡": "$^\\ddagger$", "§": "$^\\S$"}.items():
        text = text.replace(sign, command)
    return text
