"""What the kernels are, judged on a machine without a GPU: what they compile to, and what they move.

Every config that is shipped is compiled ahead of time and its machine code read; the bytes are counted in Triton's
interpreter. Both are what a GPU would run: `compilation` and `traffic` say how.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SHARED_BYTES_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # of one program


def compile_report(name: str, arch: int = 90) -> list[Row]:
    """What each config of an operator's kernels compiles to for compute capability arch / 10.

    Args:
        name: the operator's public name, as "cross_attention".
        arch: 80, 90 or 100.

    Returns:
        A dict for each kernel and config: operator, kernel, config and case (the first call that launches it), both for
        the reader, arch, triton (its version), warps, registers (per thread), spills (instructions that load or store
        local memory), stack_bytes (per thread), shared_bytes (per program), programs_per_sm (how many one
        multiprocessor holds) and wanted_programs_per_sm, dots_16bit (matrix products of 16-bit operands), wgmma, hmma,
        tcgen05 (matrix instructions of sm_90, of sm_80 and later, of sm_100), atomics (on global memory), plain_tf32
        (float32 products rounded to TF32), in_loop and after_loop (instructions in the loop with the most matrix
        instructions or, without one, the longest; and behind it; 0 without a loop), loops (for each innermost loop, how
        often each instruction stands in it) and instructions (the same of the whole kernel). Of one that does not
        compile there is error, the compiler's complaint, and no figure.

    Where Triton interprets (TRITON_INTERPRET=1) it cannot compile: a child process without that variable does.
    """
    return compile_reports([name], [arch])


def compile_reports(names: Sequence[str], archs: Sequence[int], core: bool = False) -> list[Row]:
    """`compile_report` of several operators and architectures at once; core: only what `shipped` calls its core."""
    if _interpreting():
        return _elsewhere("compile_reports", list(names), list(archs), core)
    from kernels.inspect import compilation, shipped

    todo = [
        launched
        for name, arch in product(names, archs)
        for launched in compilation.launches(shipped.calls(name, core=core), arch)
    ]
    return compilation.compile_all(todo, _progress("compiled", len(todo)))


def traffic_report(name: str) -> list[Row]:
    """The bytes that an operator's kernels move at the sizes they are meant for, in the configs of sm_90.

    Returns a dict for each call: operator, case (for the reader), moved_bytes, compulsory_bytes (each input read and
    each output written once), ratio, limit (of the ratio; None: reported, not judged), by_kernel (moved bytes).

    Where Triton compiles, a child process in which it interprets does the counting.
    """
    return traffic_reports([name])


def traffic_reports(names: Sequence[str]) -> list[Row]:
    """`traffic_report` of several operators."""
    if not _interpreting():
        return _elsewhere("traffic_reports", list(names))
    from kernels.inspect import shipped, traffic

    cases = [case for name in names for case in shipped.cases(name)]
    progress = _progress("counted", len(cases))
    rows = []
    for case in cases:
        rows.append(traffic.measure(case))
        progress(len(rows), rows[-1]["case"])
    return rows


def prediction_report() -> list[Row]:
    """Predicted times on an H200, which nothing has measured: a dict an operator and typical shape.

    It has work, least_seconds and most_seconds (all of a launch overlaps, or memory and the rest do not at all), bound
    ("memory", "tensor", "MUFU", "LSU", "issue", or "library" for products that torch computes) and bound_share (of the
    least), floor_seconds, launches. Of what is counted by hand, most_seconds and launches are None.
    """
    if _interpreting():
        return _elsewhere("prediction_report")
    from kernels.inspect import prediction

    return prediction.predictions()


def compile_faults(row: Row) -> list[str]:
    """What is wrong with a row of `compile_report`, each fault in a few words; none: it may be shipped."""
    if "error" in row:
        return [f"does not compile: {row['error']}"]
    faults = []
    if row["spills"]:
        faults.append(f"spills registers: {row['spills']} loads and stores of local memory")
    if row["shared_bytes"] > (limit := SHARED_BYTES_LIMIT[row["arch"]]):
        faults.append(f"takes {row['shared_bytes']} bytes of shared memory, and there are {limit}")
    if row["dots_16bit"] and not row["wgmma"] + row["hmma"] + row["tcgen05"]:
        faults.append("multiplies 16-bit matrices without matrix instructions")
    if row["atomics"]:
        faults.append(f"has {row['atomics']} atomics on global memory: no order of sums is fixed")
    if row["plain_tf32"]:
        faults.append(f"rounds float32 to TF32 in {row['plain_tf32']} matrix products")
    if row["programs_per_sm"] < (wanted := row["wanted_programs_per_sm"]):
        faults.append(f"leaves a multiprocessor room for {row['programs_per_sm']} programs, not {wanted}")
    return faults


def traffic_faults(row: Row) -> list[str]:
    """The same for a row of `traffic_report`."""
    if row["limit"] is None or row["ratio"] <= row["limit"]:
        return []
    return [f"moves {row['ratio']:.3f} x the compulsory bytes, and {row['limit']} x is allowed"]


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _elsewhere(function: str, *arguments: Any) -> Any:
    """Call `function` of this module in a child process, where Triton interprets exactly if it does not here."""
    environment = os.environ | {"TRITON_INTERPRET": "0" if _interpreting() else "1"}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result.json")
        code = "import json, sys; from kernels.inspect import reports; path, function, arguments = sys.argv[1:]; "
        code += "result = getattr(reports, function)(*json.loads(arguments)); json.dump(result, open(path, 'w'))"
        command = [sys.executable, "-c", code, str(path), function, json.dumps(arguments)]
        subprocess.run(command, check=True, env=environment)
        return json.loads(path.read_text())


def _progress(verb: str, total: int) -> Callable[[int, str], None]:
    """A line that is written over on a terminal; elsewhere one line for each tenth."""

    def show(done: int, name: str) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r\033[K{verb} {done}/{total} {name[:90]}", end=end, file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            print(f"{verb} {done}/{total}", file=sys.stderr, flush=True)

    return show
