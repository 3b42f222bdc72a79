"""The command line: `clamp predict`, or `python -m clamp predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from clamp.commands import convert, demo, evaluate, export, predict, sample, train
from clamp.system.command_line import Parser, exit_code

_COMMANDS = (predict, train, evaluate, demo, convert, export, sample)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="clamp", description="Aspects in tweets with images, and the sentiment towards each of them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; each command's --help says what they mean."""
    options = _parser().parse_args(argv)
    return exit_code(lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main())
