"""What the command lines `clamp` and `python -m repro` have in common."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from clamp.config import ConfigError
from clamp.data.schema import DataError

_GO_ON = "what is done stays; give the same command again to go on where it stopped"


class Parser(argparse.ArgumentParser):
    """One whose errors are one line, and say where the options are explained."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def positive(text: str) -> int:
    """The value of an option that counts something; argparse.ArgumentTypeError for what is no whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def positive_number(text: str) -> float:
    """The value of an option above 0; argparse.ArgumentTypeError for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def device(text: str) -> str:
    """cpu, cuda, or cuda:N; argparse.ArgumentTypeError for what is none of them."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not cpu, cuda or cuda:N")
    return text


def add_device(command: argparse.ArgumentParser) -> None:
    """The option on where a command computes."""
    command.add_argument(
        "--device", type=device, metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU where there is one)"
    )


def use_device(options: argparse.Namespace) -> None:
    """Have the process see the device that was asked for and no other; call it before torch is used.

    ConfigError where a GPU was asked for and there is none.
    """
    if options.device is None:
        return
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    if ":" in options.device:
        os.environ["CUDA_VISIBLE_DEVICES"] = options.device.partition(":")[2]
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"--device {options.device}: torch finds no such GPU")


def gpu_share(text: str) -> float:
    """The value of an option that is a share of one GPU; argparse.ArgumentTypeError for what is none."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return share


class Terminated(BaseException):
    """SIGTERM, which ends a command as Ctrl-C does: it is what schedulers and containers send before they kill."""


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows tidies up
    raise Terminated


def exit_code(command: Callable[[], int], *expected: type[Exception]) -> int:
    """What a command returns; or after one line that says why, 2 for unusable input, 130 and 143 where it was stopped.

    130 is an interruption (Ctrl-C), 143 SIGTERM. Unusable input is a ConfigError, a DataError, an OSError or one of the
    `expected`; any other error is a defect.
    """
    unusable: tuple[type[Exception], ...] = (ConfigError, DataError, *expected)
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        return command()
    except unusable as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)  # a name in a file may hold a line break
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; " + _GO_ON, file=sys.stderr)
        return 130
    except Terminated:
        print("\nterminated; " + _GO_ON, file=sys.stderr)
        return 143
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)
