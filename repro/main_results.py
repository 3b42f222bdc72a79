"""The main table of a data set: CLAMP and its baselines under each profile, and what others published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from repro.cells import DATASET_TITLES, Block, Cell, Comparison, compare
from repro.experiments import GROUPS, PROFILES, VARIANTS
from repro.footer import SELECTION, TESTS, Marks, provenance_footer
from repro.render import BLOCK, NOT_RUN, Table, interval, mean_and_sd, p_value, percent, signed
from repro.stats import SIGNIFICANCE, against_paper

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
    "single_cross_attention": "a single cross-attention",
    "cmmt": "a simplified CMMT",
    "dtca": "a simplified DTCA",
    "image_prefix": "an image prefix",
    "caption_concat": "an appended caption",
    "text_only": "text only",
}
_PUBLISHED = {"precision": "P", "recall": "R", "f1": "F1", "accuracy": "accuracy"}


def main_results(
    dataset: str, grouped: dict[tuple[str, str], Block], reported: pd.DataFrame, marks: Marks, resamples: int
) -> Table:
    """CLAMP and its baselines on one data set, a block of rows for each profile, then what others published."""
    profiles = [name for name, profile in PROFILES.items() if dataset in profile.seeds]
    shown = {profile: grouped.get((profile, dataset), {}) for profile in profiles}
    rows = [_our_row(f"Profile {p}", v, block, marks) for p, block in shown.items() for v in GROUPS["main"]]
    rows += [row for block in shown.values() for row in _bounds(block)]
    rows += _published_rows(reported[reported.dataset == dataset])
    findings = _standings(shown, resamples)
    if "paper" in shown:
        findings.append(_paper_verdict(dataset, shown["paper"], reported))
    return Table(
        name=f"main_{dataset}",
        title=f"Main results on {DATASET_TITLES[dataset]} (test split, percent)",
        findings=tuple(findings),
        frame=pd.DataFrame(rows).fillna(""),
        footer=(
            "Ours: mean ± standard deviation over n seeds. Profiles differ in encoders and images: never compare F1 "
            "across blocks without saying so.",
            f'{TESTS} "Ahead" and "behind" need both p values below {SIGNIFICANCE}; the interval is the bootstrap\'s.',
            SELECTION,
            _MASC,
            *_extracted(shown),
            *([_SOURCES] if dataset != "synthetic" else []),
            *provenance_footer([block for block in shown.values() if block], marks),
        ),
    )


def _our_row(title: str, variant: str, block: Block, marks: Marks) -> dict[str, str]:
    cell = block.get(variant)
    row = {BLOCK: title, "method": VARIANTS[variant].label}
    if cell is None:
        return {**row, "n": "0", **dict.fromkeys(_MEASURED, NOT_RUN)}
    row["method"] += marks.of(cell, block)
    measured = {name: text(cell) for name, text in _MEASURED.items()}
    return {**row, "n": str(cell.n), **measured, "selection": "dev", "source": OURS, "note": ""}


def _bounds(block: Block) -> list[dict[str, str]]:
    """What a perfect reader of text and image, and of text alone, would score on the generated tweets.

    Of the aspects whose polarity only the image tells, a reader of the text guesses one in three right.
    """
    configs = [record["config"]["data"] for cell in block.values() for record in cell.records]
    shares = sorted({data["synthetic"]["image_told_share"] for data in configs if data["name"] == "synthetic"})
    rows = []
    for share in shares:
        for method, bound in (("oracle", 1.0), ("text-only bound", 1 - 2 / 3 * share)):
            joint = dict.fromkeys(("MABSA P", "MABSA R", "MABSA F1", "MASC accuracy"), percent(bound))
            mate = dict.fromkeys(("MATE P", "MATE R", "MATE F1"), percent(1.0))
            source = f"computed from the generator; the image tells {share:.0%} of the polarities"
            rows.append({BLOCK: "Bounds", "method": method, **joint, **mate, "source": source})
    return rows


def _published_rows(reported: pd.DataFrame) -> list[dict[str, str]]:
    """One row a method, its tasks side by side, in the order of the file."""
    rows = []
    for method, of_method in reported.groupby("method", sort=False):
        entries = [(entry["task"], entry) for entry in of_method.to_dict("records")]
        row = {BLOCK: "Published by others", "method": _cited(str(method), entries[0][1]["venue"])}
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


def _standings(shown: dict[str, Block], resamples: int) -> list[str]:
    """One sentence a profile on CLAMP against each baseline; the p values are adjusted over the whole table."""
    pairs = {
        (profile, name): (block["full"], block[name])
        for profile, block in shown.items()
        for name in GROUPS["baselines"]
        if "full" in block and name in block
    }
    compared = dict(zip(pairs, compare(list(pairs.values()), resamples), strict=True))
    sentences = []
    for profile, block in shown.items():
        parts = [_standing(_IN_WORDS[name], c) for (owner, name), c in compared.items() if owner == profile]
        missing = "CLAMP and a baseline are not both run, so there is nothing to compare" if block else NOT_RUN
        sentences.append(f"Profile {profile}: {'; '.join(parts) or missing}.")
    return sentences


def _standing(other: str, comparison: Comparison) -> str:
    if comparison.difference is None:
        return f"whether CLAMP is ahead of {other} is undecided (no seed in common)"
    size = f"{signed(comparison.difference)} F1"
    tested = comparison.bootstrap
    if tested is None:
        return (
            f"whether CLAMP is ahead of {other} is undecided ({size} over {_seeds(comparison.seeds)}, too few to test)"
        )
    evidence = (
        f"{size} over {_seeds(comparison.seeds)}, 95 % interval {signed(tested.low)} to {signed(tested.high)}, "
        f"p over tweets {p_value(comparison.p_tweets)}, over seeds {p_value(comparison.p_seeds)}"
    )
    words = {
        "ahead": f"CLAMP is ahead of {other}",
        "behind": f"CLAMP is not ahead of {other} but behind it",
        "no difference shown": f"CLAMP is not shown to be ahead of {other}",
    }
    return f"{words[comparison.standing]} ({evidence})"


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def _paper_verdict(dataset: str, block: Block, reported: pd.DataFrame) -> str:
    row = reported[(reported.dataset == dataset) & (reported.method == "CLAMP") & (reported.task == "MABSA")]
    published = float(row.f1.iloc[0])
    values = block["full"].test("joint", "f1") if "full" in block else []
    judged = against_paper(values, published / 100)
    text = f"Against the {published} F1 that the paper reports, with a tolerance of 1.0: {judged.verdict}"
    if judged.difference is None:
        return f"{text}."
    half = "" if judged.half_width is None else f", prediction half-width {percent(judged.half_width)}"
    return f"{text} (difference {signed(judged.difference)}, {_seeds(len(values))}{half})."


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
