"""How far each system falls under other test tweets than its own: domain shift and robustness, without training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from clamp.config import Config, DataConfig
from repro.evaluate.conditions import Group, conditions
from repro.evidence.cells import GENERATED, PLACES, Block, Cell, Place, image_told_shares
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS, SIGNIFICANCE, holm, summarise, t_against_zero
from repro.plan.variants import GROUPS, SUITE
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import Row, evaluated, frame_by_place, place_title
from repro.report.wording import NOT_EVALUATED, NOT_RUN, between, mean_and_sd, of_fewer, p_value, percent, seeds, signed
from repro.run.other_data_set import OTHER_DATA_SET

OTHERS_IMAGE = "other_image"
_DESCRIBED = ("full_description", "single_cross_attention_description")
_NOTE = (
    "A fall is F1 on the unchanged test split minus F1 under the condition, by the same checkpoint: mean ± standard "
    "deviation over the n seeds that were evaluated, in points. Every system sees the same changed tweets. Blank: it "
    "does not apply."
)


@cache
def labels(group: Group) -> dict[str, str]:
    """Name -> what tables call it, of every condition there is in a group."""
    described = conditions(Config(data=DataConfig(name="twitter2015", visual="proxy")), None)
    every = described | conditions(Config(), None)
    found = {name: condition.label for name, condition in every.items() if condition.group == group}
    return found | ({OTHER_DATA_SET: "the other data set"} if group == "shift" else {})


def f1_under(cell: Cell, condition: str) -> list[float]:
    """Joint F1 of each seed that was evaluated under the condition."""
    found = [e["evaluation"]["conditions"] for e in cell.evaluations]
    return [under[condition]["joint"]["f1"] for under in found if condition in under]


def falls(cell: Cell, condition: str) -> list[float]:
    """By how much joint F1 is lower than on the unchanged tweets, for each such seed."""
    return [
        e["evaluation"]["clean"]["joint"]["f1"] - e["evaluation"]["conditions"][condition]["joint"]["f1"]
        for e in cell.evaluations
        if condition in e["evaluation"]["conditions"]
    ]


def _applicable(evidence: Evidence, place: Place, group: Group) -> list[str]:
    """The conditions that some system was evaluated under there; all of the group where none was."""
    cells = evidence.block(place).values()
    seen = {name for cell in cells for e in cell.evaluations for name in e["evaluation"]["conditions"]}
    return [name for name in labels(group) if name in seen or not seen]


def _variants(place: Place) -> tuple[str, ...]:
    return (*SUITE, *_DESCRIBED)


def _clean(cell: Cell) -> str:
    return mean_and_sd([e["evaluation"]["clean"]["joint"]["f1"] for e in cell.evaluations])


def _averaged(cell: Cell, values: list[float]) -> str:
    return of_fewer(mean_and_sd(values), values, evaluated(cell))


def _nothing(block: Block) -> str:
    return NOT_EVALUATED if "full" in block else NOT_RUN


# Domain shift


def domain_shift(evidence: Evidence) -> Table:
    """F1 and fall of every system on tweets of another kind than it was trained on."""

    def columns(place: Place) -> list[str]:
        return ["F1", *(f"{labels('shift')[name]}: {what}" for name in _applicable(evidence, place, "shift")
                        for what in ("F1", "fall"))]  # fmt: skip

    def row(place: Place, cell: Cell) -> Row:
        if not cell.evaluations:
            return dict.fromkeys(columns(place), NOT_EVALUATED)
        made = {"F1": _clean(cell)}
        for name in _applicable(evidence, place, "shift"):
            if falls(cell, name):
                made[f"{labels('shift')[name]}: F1"] = _averaged(cell, f1_under(cell, name))
                made[f"{labels('shift')[name]}: fall"] = _averaged(cell, falls(cell, name))
        return made

    return Table(
        name="domain_shift",
        title="Domain shift (joint test F1, percent)",
        about="Every system is trained and selected on its own data set and tested on tweets of another kind: the "
        "other Twitter data set, or generated tweets with clauses, looks or numbers of distractors not seen before.",
        findings=tuple(_shift_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, columns, row, _variants, evaluated),
        footer=(
            _NOTE,
            "In profile `offline` a system of long descriptions reads caption and faces of the other Twitter data set, "
            "which has no descriptions. Part of any fall is that the other test split is harder or easier, so systems "
            "are compared, not data sets.",
            SELECTION,
            *provenance_footer(list(evidence.grouped.values()), evidence.marks),
        ),
    )


def _shift_finding(evidence: Evidence, place: Place) -> str:
    block = evidence.block(place)
    full, parts = block.get("full"), []
    for name in _applicable(evidence, place, "shift") if full else []:
        if full and falls(full, name):
            seen = [block[v] for v in _variants(place) if v in block and falls(block[v], name)]
            means = {cell.variant: summarise(f1_under(cell, name)).mean for cell in seen}
            best = block[max(means, key=lambda variant: means[variant])]
            parts.append(
                f"{labels('shift')[name]}: CLAMP falls by {mean_and_sd(falls(full, name))} to "
                f"{percent(means['full'])} ({seeds(len(falls(full, name)))}), the highest mean of the {len(means)} "
                f"systems is {percent(means[best.variant])} ({best.label}, {seeds(len(f1_under(best, name)))})"
            )
    return f"{place_title(place)}: {'; '.join(parts) or f'CLAMP {_nothing(block)}'}."


# Robustness


def robustness(evidence: Evidence) -> Table:
    """The fall of every system under every change of the same test tweets, and whether the image is used at all."""

    def columns(place: Place) -> list[str]:
        return ["F1", *(f"fall: {labels('robustness')[name]}" for name in _applicable(evidence, place, "robustness"))]

    def row(place: Place, cell: Cell) -> Row:
        if not cell.evaluations:
            return dict.fromkeys(columns(place), NOT_EVALUATED)
        fallen = {name: falls(cell, name) for name in _applicable(evidence, place, "robustness")}
        made = {f"fall: {labels('robustness')[name]}": _averaged(cell, f) for name, f in fallen.items() if f}
        return {"F1": _clean(cell), **made}

    return Table(
        name="robustness",
        title="Robustness: how far joint test F1 falls (points)",
        about="The test tweets keep their annotation and lose something: the image, its sharpness, parts of its "
        "description, or letters of the words. A system that uses the image falls when it is given another tweet's.",
        findings=tuple(image_use_sentences(evidence)),
        frame=frame_by_place(evidence, columns, row, _variants, evaluated),
        footer=(
            _NOTE,
            f"{_told_by_images(evidence)}In the profile offline the image is the text that tools said of it.",
            f"A system is said to use the image where its fall with another tweet's image is positive over at least "
            f"{LEAST_SEEDS} seeds: t test against zero, Holm-adjusted over all systems named above, p below "
            f"{SIGNIFICANCE}.",
            SELECTION,
            *provenance_footer(list(evidence.grouped.values()), evidence.marks),
        ),
    )


def _told_by_images(evidence: Evidence) -> str:
    shares = image_told_shares(evidence.block(GENERATED))
    listed = " or ".join(f"{share:.0%}" for share in shares)
    return f"Of the polarities in generated tweets {listed} can be read from the image alone. " if shares else ""


@dataclass(frozen=True)
class ImageUse:
    """A system's falls with another tweet's image, one a seed, and the adjusted p that they are zero."""

    cell: Cell
    falls: list[float]
    p: float | None

    @property
    def verdict(self) -> str:
        if self.p is None:
            return "undecided"
        return "used" if self.p < SIGNIFICANCE and summarise(self.falls).mean > 0 else "not shown"

    def __str__(self) -> str:
        found = summarise(self.falls)
        size = f"{self.cell.label}: {signed(found.mean)}"
        if self.p is None or found.low is None or found.high is None:
            return f"{size}, {seeds(found.n)}"
        return f"{size}, 95 % interval {between(found.low, found.high)}, p {p_value(self.p)}"


def image_use(evidence: Evidence) -> dict[Place, list[ImageUse]]:
    """CLAMP and the baselines that were evaluated with another tweet's image; p adjusted over those of all places."""
    fallen = {
        (place, v): falls(cell, OTHERS_IMAGE)
        for place in PLACES
        for v, cell in evidence.block(place).items()
        if v in GROUPS["main"]
    }
    tested = [system for system, values in fallen.items() if len(values) >= LEAST_SEEDS]
    p = dict(zip(tested, holm([t_against_zero(fallen[system]) for system in tested]), strict=True))
    uses: dict[Place, list[ImageUse]] = {place: [] for place in PLACES}
    for (place, v), values in fallen.items():
        if values:
            uses[place].append(ImageUse(evidence.block(place)[v], values, p.get((place, v))))
    return uses


def image_use_sentences(evidence: Evidence) -> list[str]:
    """Is the image used at all? One sentence a place, of the falls with another tweet's image."""
    sentences = []
    for place, uses in image_use(evidence).items():
        words = {"used": "used by", "not shown": "not shown to be used by", "undecided": "undecided for"}
        parts = [
            f"{phrase} {'; '.join(str(use) for use in uses if use.verdict == verdict)}"
            for verdict, phrase in words.items()
            if any(use.verdict == verdict for use in uses)
        ]
        answer = ". It is ".join(parts) or _nothing(evidence.block(place))
        sentences.append(f"{place_title(place)}, is the image used at all: {answer}.")
    return sentences
