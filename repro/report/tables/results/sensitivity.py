"""Other settings of what the paper leaves open, and attempts to do better on real tweets, judged on dev."""

from __future__ import annotations

import numpy as np

from repro.evidence.by_seed import difference, of_records
from repro.evidence.cells import PLACES, Cell, Place
from repro.evidence.evidence import Evidence
from repro.evidence.per_record import joint_f1
from repro.plan.variants import GROUPS, VARIANTS
from repro.report.provenance_notes import SELECTION, provenance_footer
from repro.report.table import Table
from repro.report.table_rows import TextRow, frame_by_place, place_title
from repro.report.wording import NOT_RUN, mean_and_sd, percent, seeds, signed

_COLUMNS = ["dev F1", "dev, minus CLAMP", "test F1", "test, minus CLAMP", "shared seeds"]
# Of these the ablation table speaks too; here they stand among their like.
_NEIGHBOURS = ("full", "one_stage", "no_pyramid", "no_prior")


def settings_of(place: Place) -> tuple[str, ...]:
    """CLAMP first, then what it is compared with there."""
    if place[0] == "offline":
        return ("full", *GROUPS["attempts"])
    return tuple(v for v in VARIANTS if v in (*_NEIGHBOURS, *GROUPS["sensitivity"]))


def sensitivity(evidence: Evidence) -> Table:
    """Every setting against CLAMP's, over the seeds that both have."""

    def row(place: Place, cell: Cell) -> TextRow:
        made = {
            "dev F1": mean_and_sd([joint_f1(record, "dev") for record in cell.records]),
            "test F1": mean_and_sd(cell.test("joint", "f1")),
        }
        on_dev, on_test = (_differences(evidence, place, cell, split) for split in ("dev", "test"))
        if cell.variant == "full" or not on_dev:
            return made
        differences = {
            "dev, minus CLAMP": signed(float(np.mean(on_dev))),
            "test, minus CLAMP": signed(float(np.mean(on_test))),
        }
        return {**made, **differences, "shared seeds": str(len(on_dev))}

    return Table(
        name="sensitivity",
        title="Sensitivity to our own choices (joint F1, percent)",
        about="The paper leaves open the scale of the contrast, the bounds and the rate of the uncertainties, and the "
        "stages; each is changed alone. On real tweets the rows are attempts to do better, to be judged on dev.",
        findings=tuple(_finding(evidence, place) for place in PLACES),
        frame=frame_by_place(evidence, lambda place: _COLUMNS, row, settings_of),
        footer=(
            "Differences are means over the seeds that both have. None is tested: they say how large an effect may be, "
            "not that there is one.",
            SELECTION,
            *provenance_footer(
                [{v: block[v] for v in settings_of(place) if v in block} for place, block in evidence.grouped.items()],
                evidence.marks,
            ),
        ),
    )


def _differences(evidence: Evidence, place: Place, cell: Cell, split: str) -> list[float]:
    """Joint F1 minus CLAMP's, for each seed that both have."""
    ours, theirs = (
        of_records(one, lambda record: joint_f1(record, split)) for one in (cell, evidence.block(place).get("full"))
    )
    return difference(ours, theirs)


def _finding(evidence: Evidence, place: Place) -> str:
    block = evidence.block(place)
    tried = {v: _differences(evidence, place, block[v], "dev") for v in settings_of(place)[1:] if v in block}
    tried = {variant: differences for variant, differences in tried.items() if differences}
    if not tried:
        return f"{place_title(place)}: {NOT_RUN}."
    best = max(tried, key=lambda variant: np.mean(tried[variant]))
    worst = min(tried, key=lambda variant: np.mean(tried[variant]))
    cell, on_dev = block[best], float(np.mean(tried[best]))
    compared = "higher than" if on_dev > 0 else "lower than" if on_dev < 0 else "equal to"
    test = float(np.mean(_differences(evidence, place, cell, "test")))
    return (
        f"{place_title(place)}: of {len(tried)} other setting{'s' if len(tried) > 1 else ''}, the best on dev is "
        f"{cell.label}, {compared} CLAMP there ({signed(on_dev)} on dev, {signed(test)} on test, over "
        f"{seeds(len(tried[best]))}); the lowest on dev is {block[worst].label} "
        f"({signed(float(np.mean(tried[worst])))}, {seeds(len(tried[worst]))}). Test F1 of the best on dev: "
        f"{percent(float(np.mean(cell.test('joint', 'f1'))))}."
    )
