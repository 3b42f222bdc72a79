"""The tables of the paper, as pure functions of the records and of the published figures in reported.csv."""

from __future__ import annotations

from repro.evidence.cells import DATASET_TITLES, GENERATED, PLACES
from repro.evidence.evidence import Evidence
from repro.report.claims import claims_table, ledger
from repro.report.table import Table
from repro.report.tables.mechanism.counterfactuals import counterfactual_table
from repro.report.tables.mechanism.interference import interference
from repro.report.tables.mechanism.noise_suppression import noise_suppression
from repro.report.tables.mechanism.pointing import pointing
from repro.report.tables.results.ablations import ablations
from repro.report.tables.results.falls import domain_shift, robustness
from repro.report.tables.results.main_results import main_results
from repro.report.tables.results.paf_mcl import paf_mcl
from repro.report.tables.results.paper_verdicts import paper_verdicts
from repro.report.tables.results.scoring_rules import scoring_rules, selection_rules
from repro.report.tables.results.sensitivity import sensitivity
from repro.report.tables.results.sweep import sweep
from repro.report.tables.results.variance import variance


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
