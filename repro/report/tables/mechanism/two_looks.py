"""The table of two looks: generated tweets whose mouths that count belong to a figure that the aspect's own names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from clamp.config import SyntheticConfig
from repro.evidence import chance
from repro.evidence.by_seed import difference, measured, of_records
from repro.evidence.cells import GENERATED, Cell
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import joint_f1, pointing_report
from repro.plan.variants import TWO_LOOK_SYSTEMS, VARIANTS, two_look_name
from repro.records.evaluation import COUNTERFACTUAL_TWEETS
from repro.records.run import StagePointing
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import place_title
from repro.report.tables.mechanism.pointing import stages_of_seeds
from repro.report.wording import NOT_RUN, difference_in_words, mean_and_sd, of_fewer, percent, seeds

# column -> what was redrawn, and which labels are counted
_REDRAWN = {
    "named mouth redrawn: follows": ("named_mouth", "followed"),
    "badge changed: follows": ("badge", "followed"),
    "own mouth redrawn: unchanged": ("own_mouth", "unchanged"),
}


def systems(evidence: Evidence) -> dict[str, Cell]:
    """What was trained on tweets that need two looks, by the system's usual name."""
    found = {system: evidence.two_looks.get(two_look_name(system)) for system in TWO_LOOK_SYSTEMS}
    return {system: cell for system, cell in found.items() if cell is not None}


def words_alone(shown: dict[str, Cell]) -> float:
    """F1 (0 to 1) to expect of words alone on these tweets."""
    return chance.words_alone(_data(shown).image_told_share)


def without_badges(shown: dict[str, Cell]) -> float:
    """F1 (0 to 1) to expect of words and mouths, but no badge, on these tweets."""
    data = _data(shown)
    return chance.without_badges(data.image_told_share, data.distractors)


def _data(shown: dict[str, Cell]) -> SyntheticConfig:
    """What the tweets of these runs are like; as they are by default where there is no run."""
    configs = [cell.records[0].config["data"]["synthetic"] for cell in shown.values()]
    return SyntheticConfig(**configs[0]) if configs else SyntheticConfig()


def stages(cell: Cell) -> list[tuple[StagePointing, ...]]:
    """Of each stage what every seed's test record has; nothing without stages, or where seeds have unlike ones."""
    reports = [report for record in cell.records if (report := pointing_report(record, "test"))]
    return stages_of_seeds(reports) if len(reports) == cell.n else []


def two_looks(evidence: Evidence) -> Table:
    """A row for each system: its F1, where its stages look, and what moves its labels."""
    shown = systems(evidence)
    rows = [{BLOCK: place_title(GENERATED), **_row(evidence, system, shown)} for system in TWO_LOOK_SYSTEMS]
    return Table(
        name="two_looks",
        title="Two looks: what several stages could do and one hardly can (generated tweets, percent)",
        about="Every figure wears a badge in the colour of another one. The polarity that the image tells of an aspect "
        "is the mouth of the figure that the aspect's own figure names so: who reads it has to look twice.",
        findings=_findings(shown),
        frame=pd.DataFrame(rows),
        footer=(
            "Looks at: in how many of the aspects that the image tells the region with the most attention, averaged "
            "over heads and the aspect's words, lies in the cell of its own figure, or of the figure that this one "
            "names; one value a stage, from the first to the last. Chance: "
            f"{100 * chance.pointing({'cells': _data(shown).cells}):g} percent each.",
            f"Redrawn: of the first {COUNTERFACTUAL_TWEETS} test tweets, over the aspects that the image tells and "
            "whose span was found before, each redrawn in an image of its own. The label should follow another mouth "
            "of the named figure, and the mouth of another figure that a changed badge names; another mouth of its own "
            "figure should leave it unchanged. Of a system that guesses one in three follows.",
            f"F1 to expect of words alone: {percent(words_alone(shown))}; of words and every mouth without the badges, "
            f"by the mouth that most of the other figures have: {percent(without_badges(shown))}. Only what is above "
            "shows that badges are read. Differences are over the seeds that both systems have; this table tests none.",
            SELECTION,
            *provenance_footer([evidence.two_looks] if shown else [], evidence.marks),
        ),
    )


def _row(evidence: Evidence, system: str, shown: dict[str, Cell]) -> dict[str, str]:
    cell = shown.get(system)
    if cell is None:
        missing = dict.fromkeys(("F1", "minus CLAMP", "looks at own", "looks at named", *_REDRAWN), NOT_RUN)
        return {"system": VARIANTS[system].label, "n": "0", **missing}
    apart = difference(_f1(cell), _f1(shown.get("full"))) if system != "full" else []
    evaluated = len(measured(cell, "two_looks"))
    return {
        "system": VARIANTS[system].label + evidence.marks.of(cell, evidence.two_looks),
        "n": str(cell.n),
        "F1": mean_and_sd(cell.test("joint", "f1")),
        "minus CLAMP": difference_in_words(apart) if apart else "-",
        "looks at own": _by_stage(cell, lambda stage: stage.pointing),
        "looks at named": _by_stage(cell, lambda stage: stage.second_pointing),
        **{
            column: of_fewer(mean_and_sd(values), values, evaluated) if (values := rates(cell, column)) else "-"
            for column in _REDRAWN
        },
    }


def _f1(cell: Cell | None) -> dict[int, float]:
    return of_records(cell, joint_f1)


def rates(cell: Cell, column: str) -> list[float]:
    """The share of each evaluated seed, in 0..1; nothing where no such aspect was found."""
    kind, counted = _REDRAWN[column]
    tallies = [getattr(one, kind) for one in measured(cell, "two_looks")]
    return [getattr(tally, counted) / tally.n for tally in tallies if tally.n]


def _by_stage(cell: Cell, value: Callable[[StagePointing], float | None]) -> str:
    """The mean over seeds at each stage."""
    means = [mean_of(of_seeds, value) for of_seeds in stages(cell)]
    return "; ".join("-" if mean is None else percent(mean) for mean in means) or "-"


def mean_of(of_seeds: Sequence[StagePointing], value: Callable[[StagePointing], float | None]) -> float | None:
    """Of a stage over seeds; None where a seed has no such value."""
    values = [value(stage) for stage in of_seeds]
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _findings(shown: dict[str, Cell]) -> tuple[str, ...]:
    full = shown.get("full")
    if full is None:
        return (f"CLAMP: {NOT_RUN}.",)
    sentences = [
        f"CLAMP's F1 is {mean_and_sd(full.test('joint', 'f1'))} ({seeds(full.n)}), where {percent(words_alone(shown))} "
        f"is to be expected of words alone, {percent(without_badges(shown))} of words and all mouths without the "
        "badges, and 100 of who looks twice."
    ]
    sentences += [
        f"{VARIANTS[system].label[0].upper()}{VARIANTS[system].label[1:]}, F1 minus CLAMP's: "
        f"{difference_in_words(difference(_f1(shown.get(system)), _f1(full)))}."
        for system in TWO_LOOK_SYSTEMS[1:5]
    ]
    if stages(full):
        own, named = (_by_stage(full, value) for value in (_own, _named))
        sentences.append(f"CLAMP's stages look at the own figure for {own} %, at the named one for {named} %.")
    follows = [_rate(full, column) for column in _REDRAWN]
    if all(follows):
        sentences.append(
            f"Its label follows another mouth of the named figure for {follows[0]} % of the aspects, another badge for "
            f"{follows[1]} %, and is what it was for {follows[2]} % when its own figure's mouth is another."
        )
    return tuple(sentences)


def _own(stage: StagePointing) -> float:
    return stage.pointing


def _named(stage: StagePointing) -> float | None:
    return stage.second_pointing


def _rate(cell: Cell, column: str) -> str:
    values = rates(cell, column)
    return mean_and_sd(values) if values else ""
