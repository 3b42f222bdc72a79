"""A report as a file and as text."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kernels.bench.measure.rows import OURS, Row

SCHEMA = 1


def write(report: dict[str, Any], path: Path) -> None:
    """Replace `path` in one step; rows one a line, so that two reports can be compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(as_json(report))
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def as_json(report: dict[str, Any]) -> str:
    """Strict JSON: what is not finite becomes text."""
    fields = []
    for name, value in report.items():
        if isinstance(value, list):
            lines = ",\n ".join(_dump(item) for item in value)
            fields.append(f"{json.dumps(name)}: [\n {lines}\n]")
        else:
            fields.append(f"{json.dumps(name)}: {_dump(value)}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _dump(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def progress_line(section: str, row: Row) -> str:
    """What a row says, in short."""
    parts = [section, *(str(row[name]) for name in ("work", "variant", "launch") if name in row)]
    if "ms" in row:
        said = f"{row['ms']['p50']:.4g} ms"
    elif "times_shipped" in row:
        said = _best(row)
    elif "error" in row:
        said = row["error"]
    elif "check" in row:
        said = f"{row['check']}: {'right' if row['right'] else 'WRONG'}"
    else:
        said = ""
    return f"{' | '.join(parts)}  {said}"


def text(report: dict[str, Any]) -> str:
    """Timings, checks that failed, what went wrong, and the verdicts last."""
    rows = report["rows"]
    parts = [
        ["Medians in ms (times ours)", *_timing_lines(rows)],
        ["Tiles", *(f"  {row['work']}: {_best(row)}" for row in rows if "times_shipped" in row)],
        ["Checks", *_check_lines(rows)],
        ["Without a result", *_error_lines(report["sections"], rows)],
        ["Targets", *_verdict_lines(report["targets"])],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _timing_lines(rows: Sequence[Row]) -> Iterator[str]:
    timed = [row for row in rows if "ms" in row]
    for work, launch in dict.fromkeys((row["work"], row["launch"]) for row in timed):
        of_work = {row["variant"]: row["ms"]["p50"] for row in timed if (row["work"], row["launch"]) == (work, launch)}
        ours = of_work.get(OURS)
        cells = (f"{name} {ms:.4g}" + (f" ({ms / ours:.2f})" if ours else "") for name, ms in of_work.items())
        yield f"  {work}, {launch}: {'; '.join(cells)}"


def _best(row: Row) -> str:
    """Which tiles a sweep found best."""
    if row["variant"] == OURS:
        return f"the shipped ones are the best of {row['of']}"
    return f"{row['variant']} are the best of {row['of']}, {row['times_shipped']:.3f} of the shipped ones' time"


def _check_lines(rows: Sequence[Row]) -> Iterator[str]:
    checks = [row for row in rows if "check" in row and row["variant"] == OURS]
    wrong = [row for row in checks if not row.get("right")]
    yield f"  {len(checks) - len(wrong)} of {len(checks)} right"
    for row in wrong:
        over = {n: e for n, e in row.get("errors", {}).items() if not e <= row["limits"][n]}
        why = row.get("error") or over or row.get("differing") or ""
        yield f"  WRONG: {row['work']}, {row.get('dtype')}, {row['check']}: {why}"


def _error_lines(sections: dict[str, Any], rows: Iterable[Row]) -> Iterator[str]:
    for name, outcome in sections.items():
        for restart in outcome.get("restarts", ()):
            yield f"  section {name}: begun again without {', '.join(restart['without'])}: {restart['error']}"
        if "error" in outcome:
            yield f"  section {name}: {outcome['error']}"
    for row in rows:
        if "error" in row and not ("check" in row and row["variant"] == OURS):  # those stand under the checks
            yield f"  {row['work']}, {row['variant']}, {row.get('launch') or row['check']}: {row['error'][:100]}"


def _verdict_lines(verdicts: Iterable[dict[str, Any]]) -> Iterator[str]:
    said = {True: "met", False: "NOT MET", None: "not measured"}
    for verdict in verdicts:
        value = "-" if verdict["value"] is None else f"{verdict['value']:.3g}"
        what = f"{verdict['work']}: {verdict['measure']}" + (f" ({verdict['against']})" if verdict["against"] else "")
        yield f"  {said[verdict['met']]:>12}  {value:>8} {verdict['target']:>7}  {what}"
