"""The command line: `python -m kernels.inspect`.

python -m kernels.inspect --core               a config or two of each kernel, for three architectures
python -m kernels.inspect                      every config
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from kernels.inspect.reports import (
    Row,
    compile_faults,
    compile_reports,
    prediction_report,
    traffic_faults,
    traffic_reports,
)
from kernels.inspect.shipped import OPERATORS

ARCHITECTURES = (80, 90, 100)

_COMPILE_COLUMNS: dict[str, Callable[[Row], str]] = {
    "kernel": lambda row: row["kernel"],
    "config": lambda row: row["config"],
    "registers": lambda row: str(row["registers"]),
    "spills": lambda row: str(row["spills"]),
    "shared KiB": lambda row: f"{row['shared_bytes'] / 1024:.1f}",
    "programs/SM": lambda row: str(row["programs_per_sm"]),
    "wgmma": lambda row: str(row["wgmma"]),
    "hmma": lambda row: str(row["hmma"]),
    "tcgen05": lambda row: str(row["tcgen05"]),
    "in loop": lambda row: str(row["in_loop"]),
    "after": lambda row: str(row["after_loop"]),
    "atomics": lambda row: str(row["atomics"]),
    "plain TF32": lambda row: str(row["plain_tf32"]),
}
_TRAFFIC_COLUMNS: dict[str, Callable[[Row], str]] = {
    "call": lambda row: row["case"],
    "moved MB": lambda row: f"{row['moved_bytes'] / 1e6:.1f}",
    "compulsory MB": lambda row: f"{row['compulsory_bytes'] / 1e6:.1f}",
    "ratio": lambda row: f"{row['ratio']:.3f}",
    "limit": lambda row: "" if row["limit"] is None else str(row["limit"]),
}
_PREDICTION_COLUMNS: dict[str, Callable[[Row], str]] = {
    "call, forward and backward": lambda row: row["work"],
    "predicted us": lambda row: "-".join(
        f"{1e6 * row[name]:.0f}" for name in ("least_seconds", "most_seconds") if row[name] is not None
    ),
    "bound": lambda row: f"{row['bound']} ({100 * row['bound_share']:.0f} %)",
    "floor us": lambda row: f"{1e6 * row['floor_seconds']:.0f}",
    "of the floor": lambda row: "-".join(
        f"{row[name] / row['floor_seconds']:.2f}" for name in ("least_seconds", "most_seconds") if row[name] is not None
    ),
    "launches": lambda row: "" if row["launches"] is None else str(row["launches"]),
}


def _table(rows: Iterable[Row], columns: dict[str, Callable[[Row], str]]) -> str:
    cells = [list(columns), *([show(row) for show in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


_EXAMPLES = """\
what is judged:
  compiled   no register spills, shared memory within the architecture's limit, matrix instructions wherever 16-bit
             matrices are multiplied, no atomics, no float32 product rounded to TF32, two programs on a multiprocessor
             where that is wanted
  bytes      moved / compulsory (each input read once, each output written once) within the limit in the table

examples:
  python -m kernels.inspect --core                                 a quick look
  python -m kernels.inspect --core --compile-only                  under another version of Triton
  python -m kernels.inspect                                        every config: most of an hour on two cores
  python -m kernels.inspect --arch 90 --operator cross_attention   one operator on one architecture
  python -m kernels.inspect --predict                              times on an H200, predicted: nothing is measured
  python -m kernels.inspect --json facts.json                      the figures for another program too

Exit code 0: all is well; 1: the faults are named at the end; 2: it could not look.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(
        prog="python -m kernels.inspect",
        description="Judge the Triton kernels without a GPU: compile what is shipped, count the bytes moved.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--arch",
        default="all",
        choices=[*map(str, ARCHITECTURES), "all"],
        help="compute capability x 10 (default: all)",
    )
    parser.add_argument("--operator", default="all", choices=[*OPERATORS, "all"], help="only this one (default: all)")
    parser.add_argument("--core", action="store_true", help="only a config or two of each kernel: a minute or two")
    parser.add_argument("--compile-only", action="store_true", help="count no bytes, for which Triton interprets")
    parser.add_argument(
        "--predict", action="store_true", help="only predict times on an H200, from a model (docs/kernels.md)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures and the faults here")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("triton") is None:
        print("error: triton is not installed, and there is nothing to inspect without it", file=sys.stderr)
        return 2

    if options.predict:
        return _predict(options.json)
    names = OPERATORS if options.operator == "all" else (options.operator,)
    archs = ARCHITECTURES if options.arch == "all" else (int(options.arch),)
    compiled = compile_reports(names, archs, options.core)
    moved = [] if options.compile_only else traffic_reports(names)
    faults = [
        f"{row['kernel']} [{row['config']}] on sm_{row['arch']} {it}" for row in compiled for it in compile_faults(row)
    ]
    faults += [f"{row['case']} {it}" for row in moved for it in traffic_faults(row)]
    for arch in archs:
        print(f"\nsm_{arch}, triton {version('triton')}")
        print(_table((row for row in compiled if row["arch"] == arch and "error" not in row), _COMPILE_COLUMNS))
    if moved:
        print("\nbytes moved, configs of sm_90, 16-bit inputs")
        print(_table(moved, _TRAFFIC_COLUMNS))
    if options.json:
        facts = {"compiled": compiled, "traffic": moved, "faults": faults}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"\n{len(compiled)} configs and {len(moved)} calls judged: {len(faults)} faults")
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if faults else 0


def _predict(file: Path | None) -> int:
    predicted = prediction_report()
    print("\nPredicted for an H200 in bfloat16 by a model of its ports and memory; nothing of it was measured.")
    print(_table(predicted, _PREDICTION_COLUMNS))
    if file:
        file.write_text(json.dumps({"predicted": predicted}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
