"""What mkdocs calls to lay out the site as the repository is: the README as its home, docs/ below it, then the tables.

Links between these files are relative, so that they work in a clone and on the site alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE_DOCS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
    "CITATION.cff",
    "LICENSE",
)
TABLES = ("*.md", "*.csv", "*.png")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put what lies in docs/ below docs/ and add what lies beside it; the theme's own files stay where they are."""
    below_docs = {f"docs/{file.src_uri}": file for file in files if file.src_dir == config.docs_dir}
    moved = [File.generated(config, uri, abs_src_path=file.abs_src_path) for uri, file in below_docs.items()]
    for uri, file in zip(below_docs, moved, strict=True):
        file.inclusion = below_docs[uri].inclusion
    kept = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*kept, *moved, *_beside_docs(config)])


def _beside_docs(config: MkDocsConfig) -> Iterator[File]:
    paths = [ROOT / name for name in BESIDE_DOCS]
    paths += sorted(path for pattern in TABLES for path in (ROOT / "paper_tables").glob(pattern))
    for path in paths:
        if path == ROOT / "paper_tables" / "report.md":  # made by every run, not part of a clone
            continue
        yield File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
