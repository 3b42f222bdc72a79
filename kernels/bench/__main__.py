"""The command line: `python -m kernels.bench --out DIR`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from kernels.bench import report, targets
from kernels.bench.measure import machine
from kernels.bench.measure.rows import OURS, Row
from kernels.bench.sections import run_apart, run_here, sections

_SECONDS = 540.0  # of the process, from its start


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m kernels.bench",
        description="Check the kernels on this machine's GPU and time them against their peers; ends within ten "
        "minutes. Writes DIR/gpu.json and prints a summary.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="only these sections (default: all)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--rehearse",
        action="store_true",
        help="run everything on the CPU, at tiny shapes, into DIR/rehearsal.json: its times mean nothing",
    )
    where.add_argument(
        "--cpu",
        action="store_true",
        help="instead, time the PyTorch implementations on the CPU, and measure InfoNCE's memory, into DIR/cpu.json",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make a report. 0: done; 1: a check found an operator wrong; 2: it cannot be made; 3: a section did not end."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except OSError as error:
        print(f"error: {error.filename or options.out}: {error.strerror}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.cpu:
        from kernels.bench.works import cpu

        return _finish(cpu.measured(_say), options.out / "cpu.json")
    if not options.rehearse and not torch.cuda.is_available():
        print(
            "error: no CUDA device: the GPU report needs one (--rehearse runs it on the CPU, without figures)",
            file=sys.stderr,
        )
        return 2
    known = sections(options.rehearse)
    unknown = [name for name in options.only if name not in known]
    if unknown:
        print(f"error: no section {unknown[0]!r}; there are {', '.join(map(repr, known))}", file=sys.stderr)
        return 2
    return _report(options)


def _report(options: argparse.Namespace) -> int:
    deadline = time.monotonic() - machine.process_seconds() + _SECONDS
    chosen = {n: s for n, s in sections(options.rehearse).items() if not options.only or n in options.only}
    kind = "rehearsal" if options.rehearse else "gpu"
    path = options.out / f"{kind}.json"
    made: dict[str, Any] = {"schema": report.SCHEMA, "kind": kind, "complete": False}
    made |= {"provenance": machine.provenance(), "sections": {}, "rows": [], "targets": []}

    def emit(section: str, row: Row) -> None:
        made["rows"].append({"section": section, **row})
        made["targets"] = targets.judge(made["rows"])
        report.write(made, path)  # whoever is stopped leaves what was measured so far, judged
        _say(report.progress_line(section, row))

    if options.rehearse:
        made["sections"] = run_here(chosen, emit)
    else:
        made["sections"] = run_apart(chosen, emit, deadline)
    made |= {"targets": targets.judge(made["rows"]), "complete": not options.only}
    return _finish(made, path)


def _finish(made: dict[str, Any], path: Path) -> int:
    report.write(made, path)
    print(f"\n{report.text(made)}\n\n{path}")
    if any("check" in row and row["variant"] == OURS and not row["right"] for row in made["rows"]):
        return 1
    return 3 if any("error" in outcome for outcome in made.get("sections", {}).values()) else 0


_STARTED = time.monotonic()


def _say(line: str) -> None:
    print(f"{time.monotonic() - _STARTED:6.1f} s  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
