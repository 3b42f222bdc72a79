"""Corpora of few tweets, as files, and what is on disk after one was predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from builders import tweets

COUNT = 20


def records(count: int = COUNT) -> list[dict[str, Any]]:
    return [
        {"id": f"t{number}", "text": " ".join(tweet.words), "image": f"{number}.png"}
        for number, tweet in enumerate(tweets(count))
    ]


def write_lines(file: Path, some: list[Any]) -> Path:
    file.write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in some))
    return file


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def left_behind(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if "unfinished" in file.name or file.suffix == ".tmp"}
