"""The main table of a data set: CLAMP and its baselines under each profile, and what others published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from repro.evidence import chance
from repro.evidence.cells import DATASET_TITLES, Block, Cell, Place, image_told_shares
from repro.evidence.comparisons import Comparison
from repro.evidence.evidence import Evidence
from repro.evidence.stats import SIGNIFICANCE
from repro.plan.variants import GROUPS, VARIANTS, means_something
from repro.report.provenance_notes import SELECTION, TESTS, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.tables.results.paper_verdicts import verdict_sentence
from repro.report.wording import NOT_RUN, between, interval, mean_and_sd, p_value, percent, seeds, signed

OURS = "measured here"
_SOURCES = (
    "Sources of published figures: TARKAN is uditsenapaty/TARKAN, results/tables/RESULTS.md; VERA is the README of "
    "BaoSir529/VERA; M2DF is the README of grandchicken/M2DF; CORSA, DaNet and DEQA are the tables of those papers; "
    "most figures are secondary."
)
_MASC = (
    "MASC, ours: the polarity of gold spans as the joint model sees it; not comparable with methods that are given the "
    "gold aspect as input."
)
_MEASURED: dict[str, Callable[[Cell], str]] = {
    "MABSA P": lambda cell: mean_and_sd(cell.test("joint", "precision")),
    "MABSA R": lambda cell: mean_and_sd(cell.test("joint", "recall")),
    "MABSA F1": lambda cell: mean_and_sd(cell.test("joint", "f1")),
    "95 % t interval": lambda cell: interval(cell.test("joint", "f1")),
    "MATE P": lambda cell: mean_and_sd(cell.test("mate", "precision")),
    "MATE R": lambda cell: mean_and_sd(cell.test("mate", "recall")),
    "MATE F1": lambda cell: mean_and_sd(cell.test("mate", "f1")),
    "MASC accuracy": lambda cell: mean_and_sd(cell.test("masc", "accuracy")),
    "MASC macro-F1": lambda cell: mean_and_sd(cell.test("masc", "macro_f1")),
}
_IN_WORDS = {
    "full": "CLAMP",
    "single_cross_attention": "a single cross-attention",
    "cmmt": "a simplified CMMT",
    "dtca": "a simplified DTCA",
    "image_prefix": "an image prefix",
    "caption_concat": "an appended caption",
    "text_only": "text only",
}
_PUBLISHED = {"precision": "P", "recall": "R", "f1": "F1", "accuracy": "accuracy"}


def main_results(evidence: Evidence, dataset: str) -> Table:
    """CLAMP and its baselines on one data set, a block of rows for each profile, then what others published."""
    shown = {
        profile: {v: cell for v, cell in block.items() if v in GROUPS["main"]}
        for profile, block in evidence.profiles_of(dataset).items()
    }
    rows = [
        _our_row(evidence, (profile, dataset), v)
        for profile in shown
        for v in GROUPS["main"]
        if means_something(v, profile, dataset)
    ]
    rows += [row for block in shown.values() for row in _bounds(block)]
    rows += _published_rows(evidence.reported[evidence.reported.dataset == dataset])
    findings = _standings(shown, evidence.main[dataset])
    if "paper" in shown:
        findings.append(verdict_sentence(evidence, dataset))
    return Table(
        name=f"main_{dataset}",
        title=f"Main results on {DATASET_TITLES[dataset]} (test split, percent)",
        about="CLAMP and what it is compared with, each on the same data, encoders and training loop within a profile, "
        "then what others published.",
        findings=tuple(findings),
        frame=pd.DataFrame(rows).fillna(""),
        footer=(
            "Ours: mean ± standard deviation over n seeds; t intervals are cut at 0 and 100. Profiles differ in "
            "encoders and images: never compare F1 across blocks without saying so.",
            f'{TESTS} "Ahead" and "behind" need both p values below {SIGNIFICANCE}; the interval is the bootstrap\'s.',
            SELECTION,
            _MASC,
            "Dev trials: runs on dev by which that system's settings were chosen, under this profile, on the data set "
            "that decides; the table `trials` has them. What was settled before for all systems together is not "
            "counted: docs/choices.md.",
            *_extracted(shown),
            *([_SOURCES] if dataset != "synthetic" else []),
            *provenance_footer([block for block in shown.values() if block], evidence.marks),
        ),
    )


def _our_row(evidence: Evidence, place: Place, variant: str) -> dict[str, str]:
    block = evidence.block(place)
    cell = block.get(variant)
    row = {BLOCK: f"Profile {place[0]}", "method": VARIANTS[variant].label}
    trials = {"dev trials": str(evidence.trials.number(place, variant))}
    if cell is None:
        return {**row, "n": "0", **dict.fromkeys(_MEASURED, NOT_RUN), **trials}
    row["method"] += evidence.marks.of(cell, block)
    measured = {name: text(cell) for name, text in _MEASURED.items()}
    return {**row, "n": str(cell.n), **measured, **trials, "selection": "dev", "source": OURS, "note": ""}


def _bounds(block: Block) -> list[dict[str, str]]:
    """What a perfect reader of text and image, and of text alone, would score on the generated tweets.

    Of the aspects whose polarity only the image tells, a reader of the text guesses one in three right.
    """
    rows = []
    for share in image_told_shares(block):
        for method, bound in (("oracle", 1.0), ("text-only bound", chance.words_alone(share))):
            joint = dict.fromkeys(("MABSA P", "MABSA R", "MABSA F1", "MASC accuracy"), percent(bound))
            mate = dict.fromkeys(("MATE P", "MATE R", "MATE F1"), percent(1.0))
            source = f"computed from the generator, in expectation; the image tells {share:.0%} of the polarities"
            rows.append({BLOCK: "Bounds", "method": method, **joint, **mate, "source": source})
    return rows


def _published_rows(reported: pd.DataFrame) -> list[dict[str, str]]:
    """One row a method, its tasks side by side, in the order of the file."""
    of_method: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for entry in reported.to_dict("records"):
        of_method.setdefault(entry["method"], []).append((entry["task"], entry))
    rows = []
    for method, entries in of_method.items():
        row = {BLOCK: "Published by others", "method": _cited(method, entries[0][1]["venue"])}
        for task, entry in entries:
            for figure, short in _PUBLISHED.items():
                name = "MASC macro-F1" if (task, figure) == ("MASC", "f1") else f"{task} {short}"
                if entry[figure]:
                    row[name] = entry[figure]
        row["selection"] = (
            _by_task([(t, e["selection"]) for t, e in entries if e["selection"] != "unknown"]) or "unknown"
        )
        row["source"] = _by_task([(task, entry["source"]) for task, entry in entries])
        row["note"] = _by_task([(task, entry["note"]) for task, entry in entries if entry["note"]], always=True)
        rows.append(row)
    return rows


def _cited(method: str, venue: str) -> str:
    return f"{method} ({venue})" if venue else method


def _by_task(texts: Sequence[tuple[str, str]], always: bool = False) -> str:
    """The texts with the tasks that each is true of; the tasks go unnamed where one text holds for all of several."""
    tasks_of: dict[str, list[str]] = {}
    for task, text in texts:
        tasks_of.setdefault(text, []).append(task)
    if len(tasks_of) == 1 and not always:
        return next(iter(tasks_of))
    return ". ".join(f"{', '.join(tasks)}: {text}" for text, tasks in tasks_of.items())


def _standings(shown: dict[str, Block], compared: dict[tuple[str, str, str], Comparison]) -> list[str]:
    """One sentence a profile on CLAMP against each baseline."""
    sentences = []
    for profile, block in shown.items():
        parts = [_standing(one, other, c) for (owner, one, other), c in compared.items() if owner == profile]
        missing = "CLAMP and a baseline are not both run, so there is nothing to compare" if block else NOT_RUN
        sentences.append(f"Profile {profile}: {'; '.join(parts) or missing}.")
    return sentences


def _standing(one: str, other: str, comparison: Comparison) -> str:
    ours, theirs = (_IN_WORDS.get(variant, VARIANTS[variant].label) for variant in (one, other))
    if comparison.difference is None:
        return f"whether {ours} is ahead of {theirs} is undecided (no seed in common)"
    size = f"{signed(comparison.difference)} F1"
    tested = comparison.bootstrap
    if tested is None:
        evidence = f"{size} over {seeds(comparison.seeds)}, too few to test"
        return f"whether {ours} is ahead of {theirs} is undecided ({evidence})"
    evidence = (
        f"{size} over {seeds(comparison.seeds)}, 95 % interval {between(tested.low, tested.high)}, "
        f"p over tweets {p_value(comparison.p_tweets)}, over seeds {p_value(comparison.p_seeds)}"
    )
    words = {
        "ahead": f"{ours} is ahead of {theirs}",
        "behind": f"{ours} is not ahead of {theirs} but behind it",
        "no difference shown": f"{ours} is not shown to be ahead of {theirs}",
    }
    return f"{words[comparison.standing]} ({evidence})"


def _extracted(shown: dict[str, Block]) -> Iterable[str]:
    """Polarity over correctly extracted terms, and its calibration, of each cell that was run."""
    for profile, block in shown.items():
        parts = []
        for cell in (block[variant] for variant in GROUPS["main"] if variant in block):
            counts = [int(n) for n in cell.test("masc", "n_extracted")]
            n = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
            accuracy, error = (mean_and_sd(cell.test("masc", s)) for s in ("accuracy_on_extracted", "ece"))
            parts.append(f"{cell.label} {accuracy} of {n} terms, calibration error {error}")
        if parts:
            yield (
                f"Profile {profile}, polarity accuracy over correctly extracted terms, and expected calibration error "
                f"(15 bins) over gold ones: {'; '.join(parts)}."
            )
