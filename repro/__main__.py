"""The command line: `python -m repro run | tune | status | report | explore | efficiency | fetch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from clamp.system.command_line import Parser, exit_code
from repro.commands import efficiency, explore, fetch, report, run, status, tune
from repro.records.files import StoreError
from repro.run.local_engine import EVALUATE, TRAIN

_COMMANDS = (run, tune, status, report, explore, efficiency, fetch)
_EXAMPLES = """\
examples:
  python -m repro run                                   the whole suite on generated data: no download, no GPU
  python -m repro run --only full text_only --seeds 1   two systems, one seed each
  python -m repro run --profile offline --data DIR      real tweets, small pretrained encoder, CPU
  python -m repro run --full                            every ablation with three seeds, and other settings
  python -m repro run --full --engine ray               the same over the Ray cluster that this machine belongs to
  python -m repro tune --profile offline --data DIR     as many dev trials for every system, which choose settings
  python -m repro status                                which runs are done, and which are not
  python -m repro report                                the tables again, from the records in paper_tables/results/
  python -m repro explore --help                        a page that shows where a trained CLAMP looks in your tweets
  python -m repro fetch twitter2017 --images            the annotations and images of a data set, into data/
  python -m repro efficiency                            what the systems cost at the paper's size, on this machine

A run that was stopped, however it was stopped, goes on where it was when the same command is given again.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m repro",
        description="Train CLAMP, its ablations and its baselines, and write the tables and figures of the results.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None, train: str = TRAIN, evaluate: str = EVALUATE) -> int:
    """Run a command and return its exit code: 0 done, 1 a run failed, 2 unusable input, 130 interrupted.

    `train` and `evaluate` are the functions that do it, as "module:function".
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    given = argparse.Namespace(arguments=arguments, train=train, evaluate=evaluate)
    options = _parser().parse_args(arguments, given)
    return exit_code(lambda: options.run(options), StoreError)


if __name__ == "__main__":
    sys.exit(main())
