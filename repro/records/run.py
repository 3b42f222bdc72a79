"""The record of one training run: its config, what it reached, and what made it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_serializer, model_validator

from clamp.metrics import Scores, scores_from_counts
from repro.records.part import Part, Real, Series, SparseSeries, Steps, TweetCounts

SCHEMA: Literal[2] = 2


class Head(Part):
    """Which run a record is of. What a run leaves and what its evaluation leaves both begin so."""

    schema_version: Literal[2] = SCHEMA
    profile: str
    experiment: str  # the data set
    variant: str
    seed: int
    key: str  # of the config, the data, the weights and the sources
    trial: int | None = None  # the point of a dev trial; None for a main run

    @property
    def name(self) -> str:
        return f"{self.profile} {self.experiment} {self.variant} seed {self.seed}"


class SpanCounts(Part):
    """Spans of all tweets: right, predicted and gold. On disk a list of these three; the scores follow from them."""

    tp: int
    predicted: int
    gold: int

    @model_validator(mode="before")
    @classmethod
    def _from_list_or_scores(cls, value: object) -> object:
        if isinstance(value, list) and len(value) == 3:
            return dict(zip(("tp", "predicted", "gold"), value, strict=True))
        if isinstance(value, dict):  # as `clamp.metrics.Scores` has them, which holds what follows from them too
            return {name: one for name, one in value.items() if name not in ("precision", "recall", "f1")}
        return value

    @model_serializer
    def _as_list(self) -> list[int]:
        return [self.tp, self.predicted, self.gold]

    @property
    def scores(self) -> Scores:
        return scores_from_counts([(self.tp, self.predicted, self.gold)])

    @property
    def precision(self) -> float:
        return self.scores.precision

    @property
    def recall(self) -> float:
        return self.scores.recall

    @property
    def f1(self) -> float:
        return self.scores.f1


class Masc(Part):
    """Polarities of gold spans, and of those that were extracted, in 0..1; `clamp.metrics` says how."""

    accuracy: Real
    macro_f1: Real
    n: int
    accuracy_on_extracted: Real
    n_extracted: int
    ece: Real


class StagePointing(Part):
    """Where a stage of fusion looks, over `n` aspects that only the image tells.

    `pointing` is at the aspect's own figure, `second_pointing` at the one that its badge names, where two looks are
    needed.
    """

    level: str
    pointing: Real
    second_pointing: Real | None = None
    n: int
    distractor_mass: Real


class Pointing(Part):
    """Every stage's, and which of them points best (counted from 0)."""

    best_stage: int
    stages: list[StagePointing]


class Metrics(Part):
    """The scores of the best epoch on one split."""

    joint: SpanCounts
    mate: SpanCounts
    masc: Masc
    pointing: Pointing | None = None  # where gold regions are known


class GradientNorm(Part):
    mean: Real
    sd: Real


class Epoch(Part):
    """One epoch of training: mean losses and their spread over steps by task, and scores on dev."""

    epoch: int  # from 1
    loss: dict[str, Real]
    dev_f1: Real
    dev_mate_f1: Real
    seconds: Real
    loss_sd: dict[str, Real] = Field(default_factory=dict)
    gradient_norm: GradientNorm | None = None
    test_f1: Real | None = None  # decides nothing: it shows what choosing on test would give


class Weighting(Part):
    """How the tasks' losses were weighted, by logged step: s (log variance) and loss of each task."""

    mode: str
    step: Steps
    s: dict[str, Series]
    loss: dict[str, Series]
    moved: dict[str, Real] = Field(default_factory=dict)  # how far each s went, from the first step to the last
    share_on_bound: dict[str, Real] = Field(default_factory=dict)  # of the steps; of tasks whose s has a bound


class Interference(Part):
    """Cosines between two tasks' gradients on shared parameters, by sampled step and "TASK~TASK"."""

    step: list[int]
    cosine: dict[str, SparseSeries]


class Cost(Part):
    parameters: int
    flops_per_tweet: int
    train_seconds: Real
    peak_memory_bytes: int
    cpu_seconds: Real | None = None


class ImageCount(Part):
    present: int
    absent: int


class Result(Part):
    """What `clamp.training.train.train` returns."""

    best_epoch: int
    metrics: dict[str, Metrics]  # by split: dev and test
    per_tweet: dict[str, TweetCounts]  # by split: test
    curve: list[Epoch]
    weighting: Weighting | None  # None for a system whose losses are not weighted by AMA
    cost: Cost
    images: dict[str, ImageCount]
    interference: Interference | None = None


class Provenance(Part):
    """What made a result: sources, data, weights, packages and machine; nothing that tells whose machine."""

    git_sha: str | None
    git_dirty: bool | None
    source_hash: str
    packages: dict[str, str]
    python: str
    cpu: str
    cores: int
    gpu: str | None
    driver: str | None
    threads: int
    determinism: dict[str, bool | str | None]
    data: dict[str, str]  # file -> sha256
    weights_revision: str | None
    argv: list[str]
    started: str  # ISO 8601, UTC
    hardware: str


class RunRecord(Head):
    """One finished run. `config` is whole, as the sources of that day knew it."""

    config: dict[str, Any]
    result: Result
    provenance: Provenance

    def f1(self, split: Literal["dev", "test"] = "test") -> float:
        """Joint F1 in 0..1."""
        return self.result.metrics[split].joint.f1
