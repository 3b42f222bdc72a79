"""Does progressive fusion suppress visual noise? Falls, attention on distractors, moved labels, without its parts."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from repro.evidence import chance
from repro.evidence.by_seed import BySeed, difference, f1_lost_under, of_evaluations, of_records
from repro.evidence.cells import GENERATED, Block, Cell
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import best_stage, distractor_mass_at_best, pointing_report
from repro.plan.variants import VARIANTS
from repro.records.evaluation import Evaluation
from repro.records.run import RunRecord
from repro.report.ledger import Entry, answer, entry_of, ledger
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import evaluated, place_title
from repro.report.tables.mechanism.pointing import stages_of_seeds
from repro.report.wording import NOT_RUN, difference_in_words, mean_and_sd, of_fewer, percent, seeds

SYSTEMS = ("full", "no_paf", "no_gate", "no_focus", "one_stage")


def _lost_under(condition: str) -> Callable[[Cell], BySeed]:
    return lambda cell: f1_lost_under(cell, condition)


def _mass_at(stage: int) -> Callable[[Cell], BySeed]:
    def value(record: RunRecord) -> float | None:
        report = pointing_report(record, "test")
        return report.stages[stage].distractor_mass if report and best_stage(record) else None

    return lambda cell: of_records(cell, value)


def _moved(cell: Cell) -> BySeed:
    def value(evaluation: Evaluation) -> float | None:
        redrawn = evaluation.mechanism and evaluation.mechanism.counterfactuals
        tally = redrawn.distractors if redrawn else None
        return 1 - tally.unchanged / tally.n if tally and tally.n else None

    return of_evaluations(cell, value)


# column -> its value by seed; of all of them less is less noise
MEASURES: dict[str, Callable[[Cell], BySeed]] = {
    "fall: noise sd 32 of 255": _lost_under("noise_32"),
    "fall: noise sd 64 of 255": _lost_under("noise_64"),
    "fall: 4 distractors": _lost_under("distractors_4"),
    "fall: 8 distractors": _lost_under("distractors_8"),
    "labels moved by distractors' mouths": _moved,
    "attention on distractors: first stage": _mass_at(0),
    "attention on distractors: last stage": _mass_at(-1),
    "attention on distractors: best stage": lambda cell: of_records(cell, distractor_mass_at_best),
}


def noise_suppression(evidence: Evidence) -> Table:
    """CLAMP beside what it is without progressive fusion, or without one part of it."""
    block = {v: cell for v, cell in evidence.block(GENERATED).items() if v in SYSTEMS}
    rows = []
    for variant in SYSTEMS:
        start = {BLOCK: place_title(GENERATED), "system": VARIANTS[variant].label}
        if variant not in block:
            rows.append({**start, "n": "0", **dict.fromkeys(MEASURES, NOT_RUN)})
            continue
        cell = block[variant]
        start["system"] += evidence.marks.of(cell, block)
        values = {column: list(measure(cell).values()) for column, measure in MEASURES.items()}
        n = evaluated(cell)
        shown = {column: of_fewer(mean_and_sd(f), f, n) if f else NOT_RUN for column, f in values.items()}
        rows.append({**start, "n": str(n), **shown})
    return Table(
        name="noise_suppression",
        title="Does progressive fusion suppress visual noise? (generated tweets, points and percent)",
        about="Noise is what the image shows and no label depends on: independent noise on every pixel and colour "
        "channel, and figures that the tweet does not mention. A system that suppresses it falls less under more of "
        "it, looks at it less, and is moved by it less.",
        findings=_findings(block, ledger(evidence)[GENERATED]),
        frame=pd.DataFrame(rows),
        footer=(
            "Fall: joint F1 on the unchanged test split minus F1 under the condition, same checkpoint; noise is on top "
            "of the data's own, its standard deviation (sd) in levels of 255. Labels moved: "
            "of aspects found before, when all distractors' mouths are redrawn. Less is better in every column. Mean ± "
            "standard deviation over the n seeds that were evaluated; attention is of every seed that was trained.",
            "Attention on distractors is that of the words of image-told aspects; a region that overlaps several cells "
            "counts in parts, so a stage over pooled regions is blurred by them. Best stage: the one that points best "
            "on dev. A system that falls to what its text tells has little left to fall.",
            "Yes and no are the verdicts of the claims' table (t tests over seeds, adjusted there). Other differences "
            "are described, not tested.",
            SELECTION,
            *provenance_footer([block] if block else [], evidence.marks),
        ),
    )


def _findings(block: Block, entries: list[Entry]) -> tuple[str, ...]:
    asked = {
        "in F1, by its fall with 8 distractors": "noise_f1",
        "in attention, by what distractors receive": "noise_attention",
    }
    answers = "; ".join(f"{what}: {answer(entry_of(entries, claim))}" for what, claim in asked.items())
    sentences = [f"Does progressive fusion suppress visual noise, against one plain cross-attention? {answers}."]
    full = block.get("full")
    if full is None:
        return tuple(sentences)
    for variant in SYSTEMS[1:]:
        apart = {
            column: difference(measure(block[variant]), measure(full)) if variant in block else []
            for column, measure in MEASURES.items()
        }
        parts = [
            f"{column.replace(':', ',')}: {difference_in_words(values)}" for column, values in apart.items() if values
        ]
        label = VARIANTS[variant].label
        listed = f"minus CLAMP, in points, {'; '.join(parts)}" if parts else NOT_RUN
        sentences.append(f"{label[0].upper()}{label[1:]}: {listed}.")
    return (*sentences, *_by_stage(full))


def _by_stage(full: Cell) -> list[str]:
    reports = [report for record in full.records if (report := pointing_report(record, "test"))]
    if not reports:
        return []
    stages = stages_of_seeds(reports)
    if not stages:
        return ["CLAMP's seeds have unlike stages, so that its attention on distractors has no course over them."]
    masses = [f"{mean_and_sd([s.distractor_mass for s in seen])} % ({seen[0].level})" for seen in stages]
    synthetic = full.records[0].config["data"]["synthetic"]
    return [
        f"From stage to stage CLAMP's attention on distractors ({seeds(len(reports))}) is {', '.join(masses)}; spread "
        f"evenly over the image it would be {percent(chance.distractor_mass(synthetic))} %."
    ]
