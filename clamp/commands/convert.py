"""`clamp convert`: annotated tweets from one form into another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from clamp.config import ConfigError
from clamp.corpus.convertible import read_any
from clamp.data.annotations import SUFFIXES
from clamp.data.labels import Labels
from clamp.data.write_annotations import write_annotations

_DESCRIPTION = """\
Write annotated tweets in another form, each told by its name: .json, .txt or .conll (CoNLL), .tsv (a row a target).

  clamp convert train.tsv train.json
"""

_DETAILS = """\
IN may also be a .txt of four lines a target or the test.tsv without an index, as TomBERT's release has them; .json,
.jsonl, .csv or .tsv of a record an aspect (tweet, aspect, polarity, image; the aspect stands once in the tweet, or $T$
in its place); or .jsonl of records as `clamp train --help` has them. What a form has no place for is said: in a .tsv
there are no tweets without aspects.

exit code: 0 converted; 2 IN cannot be read or OUT cannot hold it, and one line says why
"""


def add_labels(command: argparse.ArgumentParser) -> None:
    """The options on what labels mean, for every command that reads annotations."""
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help='JSON of what unusual labels mean: {"good": "POS", "bad": "NEG", "PER": "drop"}',
    )
    command.add_argument(
        "--drop-conflict", action="store_true", help="leave out aspects labelled as both positive and negative"
    )


def labels_of(options: argparse.Namespace) -> Labels:
    """What these options say."""
    return Labels.read(options.labels, options.drop_conflict)


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser(
        "convert",
        help="write annotated tweets in another form",
        description=_DESCRIPTION,
        epilog=_DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", type=Path, metavar="IN", help="annotated tweets")
    command.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    add_labels(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    if options.out.suffix not in SUFFIXES:
        raise ConfigError(f"{options.out}: the name of the output must end in one of {', '.join(SUFFIXES)}")
    if options.out.resolve() == options.source.resolve():
        raise ConfigError(f"{options.out}: the output would overwrite what it is made from")
    labels = labels_of(options)
    tweets = read_any(options.source, labels)
    untold = write_annotations(options.out, tweets)
    dropped = sum(tweet.dropped for tweet in tweets)
    for note in labels.notes:
        print(f"{options.source.name}: {note}", file=sys.stderr)
    if dropped:
        print(f"{dropped} aspects left out because of their labels", file=sys.stderr)
    if untold:
        print(f"{untold} tweets without aspects left out: a .tsv has no place for them", file=sys.stderr)
    print(
        f"{len(tweets) - untold} tweets, {sum(len(t.aspects) for t in tweets)} aspects: {options.out}", file=sys.stderr
    )
    return 0
