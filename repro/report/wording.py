"""How numbers read, and what stands where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from repro.evidence.stats import LEAST_SEEDS, summarise

NOT_RUN = "not run"
NOT_EVALUATED = "not evaluated"  # trained, and its checkpoint not tried on anything else
NOT_RECORDED = "not recorded"  # run, by sources that did not keep it
NOT_MEASURED = "not measured"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def signed(value: float) -> str:
    """Points with their sign; what rounds to zero has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def mean_and_sd(values: Sequence[float]) -> str:
    summary = summarise(values)
    return percent(summary.mean) + (f" ± {percent(summary.sd)}" if summary.sd is not None else "")


def of_fewer(text: str, values: Sequence[float], n: int) -> str:
    """What a cell says of these values, with their number where it is not the n of the row."""
    return text if len(values) == n else f"{text} ({seeds(len(values))})"


def interval(shares: Sequence[float]) -> str:
    """The t interval, as far as there are such shares."""
    summary = summarise(shares)
    if summary.low is None or summary.high is None:
        return "-"
    return f"{percent(max(summary.low, 0.0))} to {percent(min(summary.high, 1.0))}"


def between(low: float, high: float) -> str:
    """An interval of differences."""
    return f"{signed(low)} to {signed(high)}"


def tweets(value: float) -> str:
    """How many tweets more or fewer, in hundreds of them; what never came is infinitely many."""
    if abs(value) == float("inf"):
        return "more than all seen" if value > 0 else "fewer by more than all seen"
    rounded = 100 * round(value / 100)
    return f"{rounded:+,}" if rounded else "0"


def seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def difference_in_words(values: Sequence[float]) -> str:
    """In points, with the t interval where there are seeds enough for one."""
    if not values:
        return NOT_RUN
    summary = summarise(values)
    if summary.low is None or summary.high is None or summary.n < LEAST_SEEDS:
        return f"{signed(summary.mean)} ({seeds(summary.n)})"
    return f"{signed(summary.mean)} (95 % interval {between(summary.low, summary.high)}, {seeds(summary.n)})"


def number(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation of what is no percentage."""
    summary = summarise(values)
    mean = f"{summary.mean:z.{digits}f}"  # what rounds to zero has no sign
    return mean + (f" ± {summary.sd:.{digits}f}" if summary.sd is not None else "")
