"""Every table, in the order of the report. A new one is a file with such a function, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from repro.evidence.cells import DATASET_TITLES, PLACES
from repro.evidence.evidence import Evidence
from repro.report.table import Table
from repro.report.tables.costs.efficiency import efficiency
from repro.report.tables.costs.operators import operators
from repro.report.tables.mechanism.counterfactuals import counterfactuals
from repro.report.tables.mechanism.interference import interference
from repro.report.tables.mechanism.learning_speed import learning_speed
from repro.report.tables.mechanism.noise_suppression import noise_suppression
from repro.report.tables.mechanism.pointing import pointing
from repro.report.tables.mechanism.two_looks import two_looks
from repro.report.tables.results.ablations import ablations
from repro.report.tables.results.claims import claims
from repro.report.tables.results.domain_shift import domain_shift
from repro.report.tables.results.main_results import main_results
from repro.report.tables.results.paf_mcl import paf_mcl
from repro.report.tables.results.paper_verdicts import paper_verdicts
from repro.report.tables.results.robustness import robustness
from repro.report.tables.results.scoring_rules import scoring_rules
from repro.report.tables.results.selection_rules import selection_rules
from repro.report.tables.results.sensitivity import sensitivity
from repro.report.tables.results.slices import slices
from repro.report.tables.results.sweep import sweep
from repro.report.tables.results.trials import trials
from repro.report.tables.results.variance import variance

# A pure function of the evidence; None where there is nothing that the table could even call not run.
MakeTable = Callable[[Evidence], Table | None]

TABLES: tuple[MakeTable, ...] = (
    claims,
    *(partial(main_results, dataset=dataset) for dataset in DATASET_TITLES),
    paper_verdicts,
    *(partial(ablations, place=place) for place in PLACES),
    paf_mcl,
    learning_speed,
    domain_shift,
    robustness,
    slices,
    pointing,
    counterfactuals,
    noise_suppression,
    interference,
    sweep,
    two_looks,
    scoring_rules,
    selection_rules,
    sensitivity,
    trials,
    variance,
    efficiency,
    operators,
)


def make_tables(evidence: Evidence) -> list[Table]:
    """Every table that there is, the verdicts first."""
    return [table for make in TABLES if (table := make(evidence)) is not None]
