"""`python -m repro explore`: a page that shows where a trained CLAMP looks in one's own tweets."""

from __future__ import annotations

import argparse
from pathlib import Path

from clamp.inference.model_folder import model_folder
from repro.records.files import write_atomically

_DESCRIPTION = "Write one HTML page that shows which image regions a trained CLAMP looks at in your own tweets."
_EXAMPLE = """\
TWEETS is what `clamp predict` reads: .jsonl, .csv or .parquet, a tweet's words (or its text) and its image's file name:
  {"text": "So proud of Ada Lovelace today", "image": "ada.jpg"}
  {"words": ["So", "proud", "of", "Ada", "Lovelace", "today"], "image": "ada.jpg"}

Aspects and polarities on the page are predictions. It is one file that holds the images and needs no network: open it
in a browser, choose a tweet, point at an aspect.

example:
  python -m repro explore --model runs/synthetic-synthetic/full/seed0-KEY/model tweets.jsonl --images photos
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "explore",
        help=_DESCRIPTION,
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("tweets", type=Path, metavar="TWEETS", help="the file of tweets; 200 at most")
    command.add_argument("--model", type=Path, required=True, metavar="DIR", help="a trained CLAMP that reads images")
    command.add_argument(
        "--images", type=Path, metavar="DIR", help="the folder of the images (default: as for `clamp predict`)"
    )
    command.add_argument(
        "--text-only", type=Path, metavar="DIR", help="a trained text only, to show its labels beside CLAMP's"
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("explorer.html"),
        metavar="FILE",
        help="the page to write (default: %(default)s)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    from repro.report.explorer.own_tweets import own_page  # seconds of imports

    model = Path(model_folder(str(options.model)))
    text_only = options.text_only and Path(model_folder(str(options.text_only)))
    page = own_page(model, options.tweets, options.images, text_only)
    write_atomically(options.out, page)
    print(f"{options.out}: open it in a browser, choose a tweet and point at an aspect")
    return 0
