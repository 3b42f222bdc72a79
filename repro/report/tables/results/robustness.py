"""How far each system falls where its own test tweets lose something, and whether it uses the image at all."""

from __future__ import annotations

from dataclasses import dataclass

from repro.evaluate.conditions import OTHERS_IMAGE
from repro.evidence.by_seed import f1_lost_under
from repro.evidence.cells import GENERATED, PLACES, Cell, Place, image_told_shares
from repro.evidence.evidence import Evidence
from repro.evidence.stats import LEAST_SEEDS, SIGNIFICANCE, holm, summarise, t_against_zero
from repro.plan.variants import GROUPS
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, evaluated, frame_by_place, place_title
from repro.report.tables.results.under_conditions import (
    FALL_NOTE,
    applicable,
    averaged,
    unchanged_f1,
    why_nothing,
)
from repro.report.wording import NOT_EVALUATED, between, p_value, seeds, signed


def robustness(evidence: Evidence) -> Table:
    """The fall of every system under every change of the same test tweets, and whether the image is used at all."""

    def columns(place: Place) -> list[str]:
        return ["F1", *(f"fall: {label}" for label in applicable(evidence, place, "robustness").values())]

    def row(place: Place, cell: Cell) -> TextRow:
        if not cell.evaluations:
            return dict.fromkeys(columns(place), NOT_EVALUATED)
        made = {"F1": unchanged_f1(cell)}
        for condition, label in applicable(evidence, place, "robustness").items():
            if lost := list(f1_lost_under(cell, condition).values()):
                made[f"fall: {label}"] = averaged(cell, lost)
        return made

    return Table(
        name="robustness",
        title="Robustness: how far joint test F1 falls (points)",
        about="The test tweets keep their annotation and lose something: the image, its sharpness, parts of its "
        "description, or letters of the words. A system that uses the image falls when it is given another tweet's.",
        findings=tuple(image_use_sentences(evidence)),
        frame=frame_by_place(evidence, columns, row, n=evaluated),
        footer=(
            FALL_NOTE,
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
    """What a system loses of its F1 with another tweet's image, one a seed, and the adjusted p that it is zero."""

    cell: Cell
    lost: list[float]
    p: float | None

    @property
    def verdict(self) -> str:
        if self.p is None:
            return "undecided"
        return "used" if self.p < SIGNIFICANCE and summarise(self.lost).mean > 0 else "not shown"

    def __str__(self) -> str:
        lost = summarise(self.lost)
        size = f"{self.cell.label}: {signed(lost.mean)}"
        if self.p is None or lost.low is None or lost.high is None:
            return f"{size}, {seeds(lost.n)}"
        return f"{size}, 95 % interval {between(lost.low, lost.high)}, p {p_value(self.p)}"


def image_use(evidence: Evidence) -> dict[Place, list[ImageUse]]:
    """CLAMP and the baselines that were evaluated with another tweet's image; p adjusted over those of all places."""
    lost = {
        (place, v): list(f1_lost_under(cell, OTHERS_IMAGE).values())
        for place in PLACES
        for v, cell in evidence.block(place).items()
        if v in GROUPS["main"]
    }
    tested = [system for system, values in lost.items() if len(values) >= LEAST_SEEDS]
    p = dict(zip(tested, holm([t_against_zero(lost[system]) for system in tested]), strict=True))
    uses: dict[Place, list[ImageUse]] = {place: [] for place in PLACES}
    for (place, v), values in lost.items():
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
        answer = ". It is ".join(parts) or why_nothing(evidence.block(place))
        sentences.append(f"{place_title(place)}, is the image used at all: {answer}.")
    return sentences
