"""`python -m repro fetch`: a data set's annotations, visual proxies and images, brought here and checked."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

_DESCRIPTION = "Bring a data set here, every file checked. What is there already stays as it is."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subparsers."""
    command = commands.add_parser("fetch", help=_DESCRIPTION, description=_DESCRIPTION)
    names = ("twitter2015", "twitter2017")
    command.add_argument("dataset", nargs="+", choices=names, metavar="|".join(names), help="one of them, or both")
    command.add_argument(
        "--proxies", action="store_true", help="what tools said of the images too, as text: for --profile offline"
    )
    command.add_argument("--images", action="store_true", help="the images too, one by one from a public mirror")
    command.add_argument(
        "--archive",
        metavar="FILE_OR_URL",
        help="take the images from this zip or tar.gz, such as the authors' own, not from the mirror",
    )
    command.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("CLAMP_DATA") or Path("data"),
        metavar="DIR",
        help="where they go; what --data of `run` names (default: the environment's CLAMP_DATA, else data)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options say and return the exit code: 0 all is there, 1 but some images, 2 it could not be done."""
    from repro.fetch import data_set  # imports what nothing else here needs

    return data_set.run(
        options.dataset,
        options.data,
        with_proxies=options.proxies,
        with_images=options.images,
        from_archive=options.archive,
    )
