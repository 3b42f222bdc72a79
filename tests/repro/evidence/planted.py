"""Planted differences between two systems, and how often each verdict comes out.

`python tests/repro/evidence/planted.py` prints the rates as a table, which docs/statistics.md quotes.

The truth is known because it is planted: over all seeds and all tweets that there could be, the one system's F1 is so
much higher than the other's. Both tweets and seeds are drawn anew in every case.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from repro.evidence.comparisons import Comparison, adjusted, of_counts
from repro.evidence.verdicts import judge

MARGIN = 0.01
TWEETS, SPANS = 80, 125  # spans of a tweet: so many that few tweets will do, which keeps the simulation fast
RESAMPLES = 500
TRUE = {"no difference": 0.0, "half the margin": MARGIN / 2, "the margin": MARGIN, "three points": 0.03}
# sd of a system's F1 over seeds, times the root of their number, and how far a tweet is easier than another
MIXES = {"tweets": (0.0005, 0.019), "both": (0.0022, 0.019), "seeds": (0.003, 0.003)}


def planted(true: float, seeds: int, mix: str, rng: np.random.Generator) -> Comparison:
    """A comparison, alone in its family, of a system whose F1 is higher by `true`."""
    over_seeds, over_tweets = MIXES[mix]
    systems = []
    for base in (0.7 + true, 0.7):
        of_seed_S1 = over_seeds * np.sqrt(seeds) * rng.normal(size=(seeds, 1))
        of_tweet_1N = over_tweets * np.sqrt(3) * rng.uniform(-1, 1, size=(1, TWEETS))
        right_SN = rng.binomial(SPANS, np.clip(base + of_seed_S1 + of_tweet_1N, 0, 1))
        spans_SN = np.full_like(right_SN, SPANS)
        systems.append(np.stack([right_SN, spans_SN, spans_SN], axis=-1))
    return adjusted([of_counts([(1.0, [systems[0]]), (-1.0, [systems[1]])], RESAMPLES)])[0]


def verdicts(true: float, seeds: int, mix: str, cases: int, seed: int = 0) -> Counter[str]:
    """How often each verdict comes out; "two tests" counts what would be called supported without the crossed test."""
    rng = np.random.default_rng([seed, seeds, list(MIXES).index(mix), round(1e4 * true)])
    found: Counter[str] = Counter()
    for _ in range(cases):
        compared = planted(true, seeds, mix, rng)
        found[judge(compared, MARGIN, MARGIN).verdict] += 1
        blind = replace(
            compared, p_crossed=0.0, crossed=compared.crossed and replace(compared.crossed, inner=(0.0, 0.0))
        )
        found[f"{judge(blind, MARGIN, MARGIN).verdict}, by two tests"] += 1
    return found


def main(cases: int = 1000) -> None:
    """A Markdown table of the rates, in percent."""
    columns = ("supported", "not supported", "no difference that matters", "beyond these data", "undecided")
    print(f"| larger error | seeds | true difference | {' | '.join(columns)} | by two tests |")
    print("|---" * (len(columns) + 4) + "|")
    for mix in MIXES:
        for seeds in (5, 10):
            for name, true in TRUE.items():
                found = verdicts(true, seeds, mix, cases)
                shown = [f"{100 * found[column] / cases:.1f}" for column in columns]
                blind = " / ".join(f"{100 * found[f'{column}, by two tests'] / cases:.1f}" for column in columns[:3])
                print(f"| {mix} | {seeds} | {name} | {' | '.join(shown)} | {blind} |", flush=True)


if __name__ == "__main__":
    main()
