"""`clamp sample`: generated tweets with their images as files, to try the other commands on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from clamp.config import ConfigError

_DESCRIPTION = """\
Write generated tweets, as the default suite trains on them, as files: train.json, dev.json and test.json for
`clamp train` and `clamp evaluate`, images/, and tweets.jsonl, the test tweets without labels, for `clamp predict`.

  clamp sample --out sample/
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "sample",
        help="write generated tweets as files, to try the other commands on",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    command.add_argument("--tweets", type=int, default=100, metavar="N", help="of each split (default: %(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    from PIL import Image

    from clamp.config import DataConfig, SyntheticConfig
    from clamp.data import SPLITS, load_splits

    if options.tweets < 1:
        raise ConfigError(f"--tweets {options.tweets}: at least one")
    if options.out.exists():
        raise ConfigError(f"{options.out}: exists already; give a folder that does not")
    sizes = dict.fromkeys(SPLITS, options.tweets)
    splits = load_splits(DataConfig(synthetic=SyntheticConfig(**sizes)), None)
    images = options.out / "images"
    images.mkdir(parents=True)
    for split in SPLITS:
        records = []
        for tweet in getattr(splits, split):
            name = f"{tweet.id}.png"
            Image.fromarray(tweet.image).save(images / name)
            aspects = [{"from": a.start, "to": a.end, "polarity": a.polarity} for a in tweet.aspects]
            records.append({"words": list(tweet.words), "image_id": name, "aspects": aspects})
        (options.out / f"{split}.json").write_text(json.dumps(records) + "\n", encoding="utf-8")
    lines = [json.dumps({"id": r["image_id"][:-4], "words": r["words"], "image": r["image_id"]}) for r in records]
    (options.out / "tweets.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{3 * options.tweets} generated tweets: {options.out}")
    return 0
