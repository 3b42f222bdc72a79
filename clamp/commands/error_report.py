"""What `clamp evaluate` says beyond the usual scores: each polarity, and what kinds of errors were made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clamp.data.schema import POLARITIES, Polarity, Tweet
from clamp.evaluate import UNIFORM, Predictions, gold_spans
from clamp.tagging import Span

NAMES: dict[Polarity, str] = {"POS": "positive", "NEU": "neutral", "NEG": "negative"}


@dataclass(frozen=True)
class SpanErrors:
    """Annotated aspects are correct, of wrong polarity, of wrong bounds (found where another was found that overlaps
    it) or missed; predicted ones are the first three, or invented."""

    correct: int = 0
    wrong_polarity: int = 0
    wrong_bounds: int = 0
    missed: int = 0
    invented: int = 0


def span_errors(predicted: Sequence[Iterable[Span]], gold: Sequence[Iterable[Span]]) -> SpanErrors:
    """The errors in the spans of all tweets; each predicted span accounts for one annotated span at most."""
    correct = wrong_polarity = wrong_bounds = missed = invented = 0
    for found, spans in zip(predicted, gold, strict=True):
        found_set, gold_set = set(found), set(spans)
        correct += len(found_set & gold_set)
        rest, wanted = sorted(found_set - gold_set), sorted(gold_set - found_set)
        for same_bounds in (True, False):
            for span in list(wanted):
                partner = next((one for one in rest if _match(one, span, same_bounds)), None)
                if partner is not None:
                    rest.remove(partner)
                    wanted.remove(span)
                    wrong_polarity += same_bounds
                    wrong_bounds += not same_bounds
        missed += len(wanted)
        invented += len(rest)
    return SpanErrors(correct, wrong_polarity, wrong_bounds, missed, invented)


def _match(one: Span, other: Span, same_bounds: bool) -> bool:
    if same_bounds:
        return one[:2] == other[:2]
    return one[0] < other[1] and other[0] < one[1]


def polarity_report(predictions: Predictions, tweets: list[Tweet]) -> dict[str, Any]:
    """Of annotated aspects within what the model reads: precision, recall, F1 and support of each polarity, the
    confusion (rows are annotated, columns predicted); and how many lie beyond, which count as wrong in no row."""
    labels = [POLARITIES.index(span[2]) for spans in gold_spans(tweets) for span in spans]
    confusion = np.zeros((len(POLARITIES), len(POLARITIES)), dtype=int)
    beyond = 0
    for label, probabilities in zip(labels, predictions.polarities, strict=True):
        if probabilities is UNIFORM:
            beyond += 1
        else:
            confusion[label, int(np.argmax(probabilities))] += 1
    by_polarity = {}
    for k, polarity in enumerate(POLARITIES):
        right, called, support = confusion[k, k], confusion[:, k].sum(), confusion[k].sum()
        by_polarity[polarity] = {
            "precision": float(right / called) if called else 0.0,
            "recall": float(right / support) if support else 0.0,
            "f1": float(2 * right / (called + support)) if called + support else 0.0,
            "support": int(support),
        }
    rows = {gold: dict(zip(POLARITIES, confusion[k].tolist(), strict=True)) for k, gold in enumerate(POLARITIES)}
    return {"by_polarity": by_polarity, "confusion": rows, "beyond_length": beyond}


def error_report(predictions: Predictions, tweets: list[Tweet]) -> dict[str, Any]:
    """All of it, JSON-ready."""
    errors = asdict(span_errors(predictions.spans, gold_spans(tweets)))
    return {**polarity_report(predictions, tweets), "span_errors": errors}


def as_text(report: dict[str, Any]) -> str:
    """As tables for a terminal."""
    lines = ["", f"{'annotated aspects':20} precision  recall      F1  support"]
    for polarity, scores in report["by_polarity"].items():
        shares = "".join(f"{100 * scores[name]:8.1f}" for name in ("recall", "f1"))
        lines.append(f"{NAMES[polarity]:20} {100 * scores['precision']:9.1f}{shares} {scores['support']:8}")
    lines += ["", f"{'annotated / called':20} " + "".join(f"{NAMES[p]:>10}" for p in POLARITIES)]
    lines += [
        f"{NAMES[gold]:20} " + "".join(f"{row[p]:10}" for p in POLARITIES) for gold, row in report["confusion"].items()
    ]
    errors = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report["span_errors"].items())
    lines += ["", f"spans: {errors}"]
    if report["beyond_length"]:
        lines.append(f"{report['beyond_length']} annotated aspects lie beyond the words that the model reads")
    return "\n".join(lines)
