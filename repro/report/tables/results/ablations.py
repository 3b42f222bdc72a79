"""The ablation table of a data set under one profile: every variant against full CLAMP."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clamp.config import TASKS, Task
from repro.evidence.cells import DATASET_TITLES, Block, Cell, Place
from repro.evidence.comparisons import Comparison
from repro.evidence.evidence import Evidence
from repro.evidence.marks import Marks
from repro.evidence.per_record import weightings
from repro.evidence.stats import SIGNIFICANCE, minimum_detectable_difference
from repro.evidence.trials import Trials
from repro.plan.variants import SUITE, VARIANTS
from repro.records.run import Weighting
from repro.report.provenance_notes import SELECTION, TESTS, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.wording import NOT_RUN, between, interval, mean_and_sd, p_value, percent, seeds, signed


def ablations(evidence: Evidence, place: Place) -> Table:
    """Every variant of one profile on one data set, each against full CLAMP."""
    profile, dataset = place
    block, marks = {v: cell for v, cell in evidence.block(place).items() if v in SUITE}, evidence.marks
    compared = evidence.against_full.get(place, {})
    rows = [_ablation_row(variant, block, compared.get(variant), marks) for variant in SUITE]
    title = f"Ablations on {DATASET_TITLES[dataset]}, profile {profile} (test split, percent)"
    return Table(
        name=f"ablations_{dataset}" if profile == dataset else f"ablations_{dataset}_{profile}",
        title=title,
        about=_about(evidence.trials, place),
        findings=(_ablation_finding(block, compared), *weighting_findings(block.get("full"))),
        frame=pd.DataFrame([{BLOCK: f"Profile {profile}", **row} for row in rows]),
        footer=(
            "Mean ± standard deviation over n seeds; t intervals are cut at 0 and 100. Differences are variant minus "
            "CLAMP, over the seeds both have.",
            f"{TESTS} Approximate randomisation is an unadjusted check. A difference is called shown when both "
            f"adjusted p values are below {SIGNIFICANCE}.",
            "Detectable: the smallest true difference that the test over tweets, unadjusted, would find four times in "
            "five.",
            SELECTION,
            *provenance_footer([block] if block else [], marks),
        ),
    )


def _about(trials: Trials, place: Place) -> str:
    ours = trials.changes(place, "full")
    tuned = [
        f"{VARIANTS[variant].label} ({', '.join(f'{name} {value}' for name, value in changes.items()) or 'as set'})"
        for variant in SUITE
        if (changes := trials.changes(place, variant)) != ours
    ]
    exception = f", but for settings chosen on dev: {'; '.join(tuned)}" if tuned else ""
    return (
        "Each variant lacks or changes one part, or is another system; the tweets and the training are "
        f"CLAMP's{exception}."
    )


_ABLATION_COLUMNS = (
    "joint F1",
    "95 % t interval",
    "MATE F1",
    "difference",
    "95 % bootstrap interval",
    "p tweets",
    "p seeds",
    "p randomisation",
    "detectable",
    "against CLAMP",
)


def _ablation_row(variant: str, block: Block, comparison: Comparison | None, marks: Marks) -> dict[str, str]:
    cell = block.get(variant)
    if cell is None:
        return {"variant": VARIANTS[variant].label, "n": "0", **dict.fromkeys(_ABLATION_COLUMNS, NOT_RUN)}
    row = {"variant": cell.label + marks.of(cell, block), "n": str(cell.n), **dict.fromkeys(_ABLATION_COLUMNS, "-")}
    row["joint F1"] = mean_and_sd(cell.test("joint", "f1"))
    row["95 % t interval"] = interval(cell.test("joint", "f1"))
    row["MATE F1"] = mean_and_sd(cell.test("mate", "f1"))
    if comparison is None or comparison.difference is None:
        return row
    row["difference"] = signed(comparison.difference)
    row["against CLAMP"] = comparison.standing
    if comparison.bootstrap is not None:
        tested = comparison.bootstrap
        row["95 % bootstrap interval"] = between(tested.low, tested.high)
        row["p tweets"], row["p seeds"] = p_value(comparison.p_tweets), p_value(comparison.p_seeds)
        row["p randomisation"] = p_value(comparison.p_randomisation)
        row["detectable"] = percent(minimum_detectable_difference(tested.standard_error))
    return row


def _ablation_finding(block: Block, compared: dict[str, Comparison]) -> str:
    if "full" not in block:
        return f"CLAMP: {NOT_RUN}, so nothing can be set against it."
    by_standing = {
        standing: [VARIANTS[variant].label for variant, c in compared.items() if c.standing == standing]
        for standing in ("behind", "ahead", "no difference shown", "undecided")
    }
    phrases = {
        "behind": "shown to be behind CLAMP",
        "ahead": "shown to be ahead of CLAMP",
        "no difference shown": "without a difference shown",
        "undecided": "undecided, with fewer than three seeds in common",
    }
    parts = [f"{phrases[s]}: {'; '.join(names) if names else 'none'}" for s, names in by_standing.items()]
    missing = len(SUITE) - len(block)
    return f"Variants {'. Variants '.join(parts)}. {NOT_RUN.capitalize()}: {missing} of {len(SUITE)} variants."


def weighting_findings(full: Cell | None) -> tuple[str, ...]:
    """How AMA's s moved, where that was logged, and where they had lower bounds how long they lay on them."""
    logs = weightings(full) if full else []
    if not logs:
        return ()
    logged = [log.share_on_bound for log in logs]
    tasks = [task for task in TASKS if all(task in shares for shares in logged)]
    return (_bounds_finding(logs, tasks) if tasks else _moves_finding(logs),)


def _moves_finding(logs: list[Weighting]) -> str:
    """How far each task's s went from where it started."""
    courses = _courses(logs)
    by_task = {task: float(np.mean([s[-1] - s[0] for s in of_task])) for task, of_task in courses.items()}
    listed = "; ".join(
        f"{task} by {moved:+.2f}, its weight from {_weights(courses[task], 0)} to {_weights(courses[task], -1)}"
        for task, moved in by_task.items()
    )
    return (
        f"In CLAMP, no s has a bound. From the first logged step to the last it moved (means over {seeds(len(logs))}): "
        f"{listed}."
    )


def _bounds_finding(logs: list[Weighting], tasks: list[Task]) -> str:
    """How long the s of these tasks lay on their bounds, and how the other weights moved.

    Only if all lay there for most steps did little adapt.
    """
    logged = [log.share_on_bound for log in logs]
    share_of = {task: float(np.mean([shares[task] for shares in logged])) for task in tasks}
    held = [task for task, share in share_of.items() if share > 0.5]
    verdict = "; so AMA was nearly a fixed weighting here" if len(held) == len(tasks) else ""
    named = f" ({', '.join(held)})" if held else ""
    listed = ", ".join(f"{task} {percent(share)} %" for task, share in share_of.items())
    courses = {task: of_task for task, of_task in _courses(logs).items() if task in tasks}
    moved = [f"{task} from {_weights(courses[task], 0)} to {_weights(courses[task], -1)}" for task in courses]
    free = [course for task, course in zip(courses, moved, strict=True) if task not in held]
    went = f" From the first logged step to the last the free weights went: {'; '.join(free)} (means)." if free else ""
    return (
        f"In CLAMP, {len(held)} of {len(tasks)} loss weights{named} were held by their bound for more than half of the "
        f"steps (mean share over {seeds(len(logs))}: {listed}){verdict}.{went}"
    )


def _courses(logs: list[Weighting]) -> dict[Task, list[list[float]]]:
    """Each seed's logged s of every task that all of them have."""
    return {task: [log.s[task] for log in logs] for task in TASKS if all(task in log.s for log in logs)}


def _weights(courses: list[list[float]], at: int) -> str:
    """The mean over seeds of the weight at one place of each course of s."""
    return f"{float(np.mean([np.exp(-course[at]) / 2 for course in courses])):.3g}"
