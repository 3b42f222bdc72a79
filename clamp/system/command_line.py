"""What the command lines `clamp` and `python -m repro` have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from clamp.config import ConfigError
from clamp.data.schema import DataError


class Parser(argparse.ArgumentParser):
    """One whose errors are one line, and say where the options are explained."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def positive(text: str) -> int:
    """The value of an option that counts something; argparse.ArgumentTypeError for what is no whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def gpu_share(text: str) -> float:
    """The value of an option that is a share of one GPU; argparse.ArgumentTypeError for what is none."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return share


def exit_code(command: Callable[[], int], *expected: type[Exception]) -> int:
    """What a command returns; or after one line that says why, 2 for unusable input and 130 for an interruption.

    Unusable input is a ConfigError, a DataError, an OSError or one of the `expected`; any other error is a defect.
    """
    unusable: tuple[type[Exception], ...] = (ConfigError, DataError, *expected)
    try:
        return command()
    except unusable as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)  # a name in a file may hold a line break
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; give the same command again to go on where it stopped", file=sys.stderr)
        return 130
