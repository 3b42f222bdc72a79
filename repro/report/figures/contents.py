"""Every figure, in the order of the report. A new one is a file with a ReportFigure, and a line here."""

from __future__ import annotations

from repro.report.figures import (
    ablations,
    alignment,
    attention_maps,
    board,
    calibration,
    interference,
    learning_curves,
    loss_weights,
    sweep,
    two_looks,
)
from repro.report.figures.costs import (
    by_batch,
    by_size,
    f1_against_cost,
    infonce,
    operator_latency,
    operator_targets,
    parts_of_a_step,
)
from repro.report.figures.figure import ReportFigure

FIGURES: tuple[ReportFigure, ...] = (
    board.FIGURE,
    board.FOR_PHONES,
    learning_curves.FIGURE,
    loss_weights.FIGURE,
    ablations.FIGURE,
    operator_targets.FIGURE,
    operator_latency.FIGURE,
    infonce.ON_A_GPU,
    infonce.ON_A_CPU,
    attention_maps.FIGURE,
    alignment.FIGURE,
    calibration.FIGURE,
    interference.FIGURE,
    sweep.FIGURE,
    two_looks.FIGURE,
    f1_against_cost.FIGURE,
    by_batch.FIGURE,
    by_size.FIGURE,
    parts_of_a_step.FIGURE,
)
