"""What a prediction of a corpus is asked for, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What is to be predicted. `source` is a corpus as `clamp.corpus.readers` reads it, `out` ends in .jsonl, .csv,
    .parquet or .conll; `images` is the images' folder."""

    source: Path
    out: Path
    images: Path
    regions: bool = False
    batch_size: int = 32
    skip_without_image: bool = False  # else a tweet whose image is absent or unreadable is predicted from its words

    @property
    def folder(self) -> Path:
        """Where what is done lies until all is."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    @property
    def errors(self) -> Path:
        """Where the rows that could not be predicted are named."""
        return self.out.with_name(f"{self.out.name}.errors.jsonl")

    def part(self, window: int) -> Path:
        """A window's results."""
        return self.folder / f"part-{window:07d}.jsonl"

    def part_errors(self, window: int) -> Path:
        """A window's rows that could not be predicted; there before the results, and only where there are any."""
        return self.folder / f"part-{window:07d}.errors.jsonl"
