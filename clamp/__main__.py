"""The command line: `clamp predict`, or `python -m clamp predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from clamp.commands import evaluate, predict, sample, train
from clamp.config import ConfigError
from clamp.data.schema import DataError

_COMMANDS = (predict, train, evaluate, sample)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="clamp", description="Aspects in tweets with images, and the sentiment towards each of them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; each command's --help says what they mean."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except (ConfigError, DataError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)  # a name in a file may hold a line break
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; give the same command again to go on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
