"""Progressive fusion (PAF) and contrast (MCL) apart: the full 2 x 2, main effects and interaction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.evidence.cells import PLACES, Block, Place
from repro.evidence.comparisons import Comparison, Contrast, compare_contrasts
from repro.evidence.evidence import Evidence
from repro.evidence.stats import CONFIDENCE, SIGNIFICANCE, summarise
from repro.report.provenance_notes import SELECTION, TESTS, provenance_footer
from repro.report.table import BLOCK, Table
from repro.report.table_rows import only, place_title
from repro.report.wording import NOT_RUN, between, interval, mean_and_sd, p_value, percent, signed

CELLS = {
    "full": "PAF and MCL (CLAMP)",
    "no_mcl": "PAF, no MCL",
    "no_paf": "MCL, no PAF",
    "no_paf_no_mcl": "neither",
}
# effect -> weights of the cells above
EFFECTS = {
    "PAF, main effect": (0.5, 0.5, -0.5, -0.5),
    "MCL, main effect": (0.5, -0.5, 0.5, -0.5),
    "PAF x MCL, interaction": (1.0, -1.0, -1.0, 1.0),
    "PAF where there is MCL": (1.0, 0.0, -1.0, 0.0),
    "PAF where there is no MCL": (0.0, 1.0, 0.0, -1.0),
    "MCL where there is PAF": (1.0, -1.0, 0.0, 0.0),
    "MCL where there is no PAF": (0.0, 0.0, 1.0, -1.0),
}
_SHOWN = {
    "ahead": "positive",
    "behind": "negative",
    "no difference shown": "not shown",
    "undecided": "undecided",
}


def paf_mcl(evidence: Evidence) -> Table:
    """The four cells and the seven effects at each place."""
    rows, findings = [], []
    for place, effects in effects_by_place(evidence).items():
        block, start = evidence.block(place), {BLOCK: place_title(place)}
        rows += [{**start, **_cell_row(label, block, v, evidence)} for v, label in CELLS.items()]
        rows += [{**start, **_effect_row(label, effects.get(label))} for label in EFFECTS]
        findings.append(_finding(place, effects))
    return Table(
        name="paf_mcl",
        title="Progressive fusion and contrast apart: the 2 x 2 (joint test F1, percent)",
        about="Each of the two parts is switched off alone and together with the other; a main effect is averaged over "
        "the other part, and the interaction says how much more a part gives where the other is present.",
        findings=tuple(findings),
        frame=pd.DataFrame(rows).fillna(""),
        footer=(
            f"{TESTS} An effect is called positive or negative where both p values are below {SIGNIFICANCE}.",
            "Without PAF: one plain cross-attention over patches, without gate and focus; MCL then uses its context.",
            SELECTION,
            *provenance_footer(only(CELLS, evidence), evidence.marks),
        ),
    )


def effects_by_place(evidence: Evidence) -> dict[Place, dict[str, Comparison]]:
    """Each effect whose cells were run, adjusted over those of all places."""
    contrasts = {
        (place, label): contrast for place in PLACES for label, contrast in _contrasts(evidence.block(place)).items()
    }
    compared = dict(zip(contrasts, compare_contrasts(list(contrasts.values()), evidence.resamples), strict=True))
    return {place: {label: effect for (where, label), effect in compared.items() if where == place} for place in PLACES}


def _contrasts(block: Block) -> dict[str, Contrast]:
    contrasts: dict[str, Contrast] = {}
    for label, weights in EFFECTS.items():
        needed = {variant: w for variant, w in zip(CELLS, weights, strict=True) if w}
        if all(variant in block for variant in needed):
            contrasts[label] = [(weight, block[variant]) for variant, weight in needed.items()]
    return contrasts


def _cell_row(label: str, block: Block, variant: str, evidence: Evidence) -> dict[str, str]:
    cell = block.get(variant)
    if cell is None:
        return {"quantity": label, "n": "0", "F1": NOT_RUN}
    drawn_R = cell.resampled_f1(evidence.resamples).mean(axis=-1)
    low, high = np.quantile(drawn_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    values = cell.test("joint", "f1")
    return {
        "quantity": label + evidence.marks.of(cell, block),
        "n": str(cell.n),
        "F1": mean_and_sd(values),
        "95 % over tweets": f"{percent(low)} to {percent(high)}",
        "95 % over seeds": interval(values),
    }


def _effect_row(label: str, effect: Comparison | None) -> dict[str, str]:
    if effect is None or effect.difference is None:
        return {"quantity": label, "n": "0", "F1": NOT_RUN, "effect": NOT_RUN}
    row = {"quantity": label, "n": str(effect.seeds), "F1": signed(effect.difference)}
    over_seeds = summarise(effect.by_seed)
    if over_seeds.low is not None and over_seeds.high is not None:
        row["95 % over seeds"] = between(over_seeds.low, over_seeds.high)
    if effect.bootstrap is not None:
        row["95 % over tweets"] = between(effect.bootstrap.low, effect.bootstrap.high)
        row["p tweets"], row["p seeds"] = p_value(effect.p_tweets), p_value(effect.p_seeds)
    return {**row, "effect": _SHOWN[effect.standing]}


def _finding(place: Place, effects: dict[str, Comparison]) -> str:
    main = [label for label in list(EFFECTS)[:3] if label in effects and effects[label].difference is not None]
    if not main:
        return f"{place_title(place)}: the 2 x 2 is {NOT_RUN}."
    shown = {label: (effects[label].difference or 0.0, _SHOWN[effects[label].standing]) for label in main}
    parts = [f"{label} {signed(size)} ({standing})" for label, (size, standing) in shown.items()]
    return f"{place_title(place)}: {', '.join(parts)}."
