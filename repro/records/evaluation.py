"""The record of what a run's checkpoint did on other tweets, under other rules, and within."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from repro.records.part import Part, Real, TweetCounts
from repro.records.run import Head, SpanCounts

ALIGNMENT_BINS = 40  # of equal width over the cosines -1..1
COUNTERFACTUAL_TWEETS = 300  # of the test split, from its start
SCORING_RULES = {  # of joint F1, and what they are
    "strict": "an I- that continues nothing opens no span (ours on real tweets; DTCA)",
    "orphans_open": "an I- that continues nothing opens a span (CMMT)",
    "viterbi": "the best well-formed tag sequence instead of each word's best tag (ours on generated tweets)",
    "lower_cased_text": "lower-cased text is matched, not positions (JML)",
    "kept_words_only": "words that truncation cut are not gold",
}


class ConditionScores(Part):
    """Scores under one condition; `per_tweet` has the joint counts of each tweet where a test needs them."""

    joint: SpanCounts
    mate: SpanCounts
    masc_accuracy: Real
    per_tweet: TweetCounts | None = None


class Calibration(Part):
    """By bin of confidence: how many polarities, their mean confidence, how many of them right."""

    count: list[int]
    confidence: list[float]
    right: list[int]


class Alignment(Part):
    """Cosines of n tweets' words with their own image and with another's: histograms over -1..1, means, and AUC."""

    n: int
    matched: list[int]
    mismatched: list[int]
    mean_matched: float
    mean_mismatched: float
    auc: float


class Moved(Part):
    """Of n labels, how many stayed when a mouth was redrawn, and how many took the polarity that was drawn."""

    n: int
    unchanged: int
    followed: int | None = None


class Counterfactuals(Part):
    """By whose mouth was redrawn: the aspect's own, another aspect's, the distractors'."""

    own: Moved
    own_told_by_text: Moved
    another_aspect: Moved
    distractors: Moved


class TwoLookCounterfactuals(Part):
    """Of tweets that need two looks, by what was redrawn: the mouth that counts, the badge that names it, or neither.

    `followed` counts the labels that are what the image tells afterwards.
    """

    named_mouth: Moved
    badge: Moved
    own_mouth: Moved


class LookedFor(Part):
    """An aspect whose attention was kept: words [start, end), its gold region, and what its polarity is told by."""

    start: int
    end: int
    gold: str
    predicted: str | None  # None where the aspect was not found
    region: int
    told_by: str


class StageMaps(Part):
    """A stage's attention by aspect over a grid of regions, and how far its gate opened for each."""

    level: str
    grid: list[int]
    maps: list[list[float]]
    gate: list[float] | None  # None without a gate


class AttentionMaps(Part):
    """Where each stage looked in one generated tweet."""

    index: int  # in the test split
    why: str | None  # it was picked
    words: list[str]
    cells: int
    distractors: list[int]
    aspects: list[LookedFor]
    stages: list[StageMaps]


class Mechanism(Part):
    """What was measured within; None where the system or the data has no such thing."""

    calibration: Calibration | None = None
    alignment: Alignment | None = None
    counterfactuals: Counterfactuals | None = None
    two_looks: TwoLookCounterfactuals | None = None
    attention: list[AttentionMaps] | None = None
    examples: list[list[tuple[int, int, str]]] | None = None  # predicted spans of the tweets that the explorer shows


class Evaluation(Part):
    """What `repro.evaluate.evaluation.evaluate` returns."""

    clean: ConditionScores
    conditions: dict[str, ConditionScores]
    rules: dict[Literal["joint", "masc"], dict[str, Real]]  # F1 of the same predictions by rule of scoring
    mechanism: Mechanism | None = None
    # of real tweets: what they are divided by -> value -> joint counts
    slices: dict[str, dict[str, SpanCounts]] = Field(default_factory=dict)


class EvaluationRecord(Head):
    """One run's evaluation. `evaluation_hash` is of the sources that evaluated, not of those that trained."""

    evaluation_hash: str
    evaluation: Evaluation
