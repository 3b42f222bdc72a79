"""What a prediction of a corpus is asked for, and where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clamp.data.images import find_image
from clamp.data.twitter import image_folder


def image_folders(corpus: Path, given: Path | None) -> tuple[Path, ...]:
    """Where a corpus's images are sought: in the folder that was given, else beside the corpus, and then where training
    looks."""
    if given is not None:
        return (given,)
    beside = image_folder(corpus.parent)
    return (corpus.parent,) if beside is None else (corpus.parent, beside)


def first_image(folders: Sequence[Path], name: str) -> Path:
    """The file of that name in the first folder that has one; where none has, its path in the first."""
    for folder in folders:
        file = find_image(folder, name)
        try:
            if file.is_file():
                return file
        except OSError:  # a name that is too long
            break
    return folders[0] / name


@dataclass(frozen=True)
class Request:
    """What is to be predicted. `source` is a corpus as `clamp.corpus.readers` reads it, `out` ends in .jsonl, .csv,
    .parquet or .conll; `images` is the images' folder, `beside` another one to look in."""

    source: Path
    out: Path
    images: Path
    regions: bool = False
    batch_size: int = 32
    skip_without_image: bool = False  # else a tweet whose image is absent or unreadable is predicted from its words
    beside: Path | None = None

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """Where images are sought, in this order."""
        return (self.images,) if self.beside is None else (self.images, self.beside)

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
