"""The tables of the paper, as pure functions of the records and of the published figures in reported.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from repro.ablations import ablations
from repro.cells import DATASET_TITLES, GENERATED, PLACES, Record, blocks
from repro.claims import claims_table, ledger
from repro.evidence import Evidence
from repro.falls import domain_shift, robustness
from repro.footer import Marks
from repro.main_results import main_results
from repro.mechanism.counterfactual_table import counterfactual_table
from repro.mechanism.interference_table import interference
from repro.mechanism.noise_table import noise_suppression
from repro.mechanism.sweep_table import sweep
from repro.paf_mcl import paf_mcl
from repro.paper_verdicts import paper_verdicts
from repro.pointing import pointing
from repro.render import Table
from repro.scoring import scoring_rules, selection_rules
from repro.sensitivity import sensitivity
from repro.stats import RESAMPLES
from repro.variance import variance
from repro.variants import GROUPS

_FOLDER = Path(__file__).parent


def gather(
    records: Sequence[Record], evaluations: Sequence[Record], todays_hashes: tuple[str, str], resamples: int = RESAMPLES
) -> Evidence:
    """What tables are made from. Rows of records made by sources other than `todays_hashes` are marked."""
    reported, trials = (
        pd.read_csv(_FOLDER / name, dtype=str, keep_default_na=False) for name in ("reported.csv", "trials.csv")
    )
    swept = blocks(records, evaluations, GROUPS["sweep"]).get(GENERATED, {})
    return Evidence(blocks(records, evaluations), reported, trials, Marks(todays_hashes), resamples, swept)


def make_tables(evidence: Evidence) -> list[Table]:
    """Every table, the verdicts first."""
    generated, claims = evidence.block(GENERATED), ledger(evidence)
    return [
        claims_table(claims, evidence),
        *(main_results(evidence, dataset) for dataset in DATASET_TITLES),
        paper_verdicts(evidence),
        *(ablations(evidence, place) for place in PLACES),
        paf_mcl(evidence),
        domain_shift(evidence),
        robustness(evidence),
        *([pointing(generated, evidence.marks)] if generated else []),
        counterfactual_table(evidence),
        noise_suppression(evidence, claims),
        interference(evidence, claims),
        sweep(evidence),
        scoring_rules(evidence),
        selection_rules(evidence),
        sensitivity(evidence),
        variance(evidence),
    ]
