"""`python -m repro efficiency`: what the systems cost on this machine."""

from __future__ import annotations

import argparse

from clamp.config import ConfigError
from clamp.system.command_line import positive
from repro.commands import report

_DESCRIPTION = "Measure what the systems cost at the paper's size on this machine, in about half an hour."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser("efficiency", help=_DESCRIPTION, description=_DESCRIPTION)
    command.add_argument(
        "--device", choices=["cpu", "cuda"], help="only this one (default: the CPU, and the GPU where there is one)"
    )
    command.add_argument(
        "--minutes",
        type=positive,
        metavar="N",
        help="begin nothing after this long, and measure the shorter (default: as long as it takes)",
    )
    command.add_argument("--quick", action="store_true", help="a rehearsal at a tiny size, in seconds: no result")
    report.add_out(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code."""
    from repro.efficiency import measure  # seconds of imports

    devices = measure.devices()
    if options.device is not None and options.device not in devices:
        raise ConfigError(f"--device {options.device}: there is none here")
    chosen = [options.device] if options.device else devices
    code = measure.run(options.out, chosen, options.quick, options.arguments, options.minutes)
    report.write(options.out)
    return code
