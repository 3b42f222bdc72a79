"""The systems that are trained: CLAMP, its ablations, its baselines, and other settings where the paper is silent."""

from __future__ import annotations

from typing import Any, NamedTuple


class Variant(NamedTuple):
    """One system of a table: what readers call it, how its config differs from the profile's, and where that is so."""

    label: str
    overrides: dict[str, Any]
    profile: str | None = None  # the only profile for which it means anything; None: any
    dataset: str | None = None  # likewise


_NO_CONTRAST = {"model.contrast.global_contrast": False, "model.contrast.local_contrast": "none"}

_PARTS = {
    "full": Variant("CLAMP", {}),
    "no_paf": Variant("no progressive fusion (one plain cross-attention)", {"model.fusion": "plain"}),
    "one_stage": Variant("one stage", {"model.levels": ["patch"]}),
    "no_pyramid": Variant("no pyramid (patches at every stage)", {"model.levels": ["patch", "patch", "patch"]}),
    "no_focus": Variant("no focus prior", {"model.focus": False}),
    "no_gate": Variant("no noise gate", {"model.gate": False}),
    "no_mcl": Variant("no contrast", _NO_CONTRAST),
    "global_only": Variant("global contrast only", {"model.contrast.local_contrast": "none"}),
    "local_only": Variant("local contrast only", {"model.contrast.global_contrast": False}),
    "local_words": Variant("local contrast of words within a tweet", {"model.contrast.local_contrast": "words"}),
    "no_identity_start": Variant("no start from the text alone", {"model.identity_start": False}),
    "no_paf_no_mcl": Variant("neither progressive fusion nor contrast", {"model.fusion": "plain", **_NO_CONTRAST}),
    "no_ama": Variant("no adaptive weighting (equal weights)", {"model.aggregation.mode": "equal"}),
    "fixed_weights": Variant("fixed weights", {"model.aggregation.mode": "fixed"}),
    "no_prior": Variant("adaptive weighting without a prior (Kendall)", {"model.aggregation.mode": "kendall"}),
    "liebel_koerner": Variant("adaptive weighting, Liebel and Koerner", {"model.aggregation.mode": "liebel_koerner"}),
    "softmax_weights": Variant("softmax of inverse losses", {"model.aggregation.mode": "softmax"}),
}

_BASELINES = {
    "single_cross_attention": Variant(
        "single cross-attention baseline", {"model.architecture": "single_cross_attention"}
    ),
    "cmmt": Variant("CMMT baseline, simplified", {"model.architecture": "cmmt"}),
    "dtca": Variant("DTCA baseline, simplified", {"model.architecture": "dtca"}),
    "image_prefix": Variant("image prefix baseline", {"model.architecture": "image_prefix"}),
    # what it reads of an image is its caption, whatever the others read
    "caption_concat": Variant("caption baseline", {"model.architecture": "caption_concat", "data.visual": "proxy"}),
    "text_only": Variant("text only", {"model.architecture": "text_only"}),
}


def _prior(tagging: float, others: float) -> dict[str, Any]:
    means = {"tagging": tagging, "aspect": others, "global": others, "local": others}
    return {"model.aggregation.prior_mean": means}


_SETTINGS = {
    "scale_2": Variant("contrast scale 2 (of 5)", {"model.contrast.scale": 2.0}),
    "scale_10": Variant("contrast scale 10 (of 5)", {"model.contrast.scale": 10.0}),
    "scale_learned": Variant("contrast scale learned from 5", {"model.contrast.learn_scale": True}),
    "weak_prior": Variant("prior on s of strength 1/16 (of 1/4)", {"model.aggregation.prior_strength": 0.0625}),
    "strong_prior": Variant("prior on s of strength 1 (of 1/4)", {"model.aggregation.prior_strength": 1.0}),
    "prior_tagging": Variant("prior mean of s of tagging 0 (of -2)", _prior(0.0, 3.0)),
    "prior_others": Variant("prior mean of s of the other tasks 1 (of 3)", _prior(-2.0, 1.0)),
    "slow_s": Variant("rate of s 0.001 (of 0.01)", {"train.lr_uncertainty": 1e-3}),
    "fast_s": Variant("rate of s 0.1 (of 0.01)", {"train.lr_uncertainty": 1e-1}),
    "two_stages": Variant("two stages: pooled, patch", {"model.levels": ["pooled", "patch"]}),
    "four_stages": Variant("four stages: pooled, 3 x patch", {"model.levels": ["pooled", "patch", "patch", "patch"]}),
    "from_image": Variant("stages: image, pooled, patch", {"model.levels": ["image", "pooled", "patch"]}),
}

_ATTEMPTS = {
    "half_encoder_rate": Variant("half the encoder's rate", {"train.lr_encoder": 1e-4}, "offline"),
    "double_encoder_rate": Variant("twice the encoder's rate", {"train.lr_encoder": 4e-4}, "offline"),
    "twice_the_epochs": Variant("twice the epochs", {"train.epochs": 12}, "offline"),
    "catr_and_faces": Variant("CATR caption and faces", {"data.proxy_fields": ["caption", "faces"]}, "offline"),
    "caption_only": Variant("caption without faces", {"data.proxy_fields": ["caption"]}, "offline"),
    "long_description": Variant("long description", {"data.proxy_fields": ["description"]}, "offline", "twitter2017"),
}

SWEPT_SYSTEMS = ("full", "no_paf", "no_mcl", "no_ama")
SWEPT_POINTS = {  # knob of the generated data -> the values to which it alone is set, beside its default
    "distractors": (0, 4, 8, 10),
    "image_told_share": (0.25, 0.75),
}
_WORDS_FOR_POINTS = {"distractors": "{} distractors", "image_told_share": "image-told share {}"}


def swept_name(system: str, knob: str, value: float) -> str:
    """The variant that is `system` on generated data with one knob turned to `value`."""
    return f"{system}_{knob}_{value}"


_SWEEP = {
    swept_name(system, knob, value): Variant(
        f"{_PARTS[system].label}, {_WORDS_FOR_POINTS[knob].format(value)}",
        {**_PARTS[system].overrides, f"data.synthetic.{knob}": value},
        "synthetic",
    )
    for knob, values in SWEPT_POINTS.items()
    for value in values
    for system in SWEPT_SYSTEMS
}

TWO_LOOK_SYSTEMS = ("full", "no_paf", "one_stage", "two_stages", "four_stages", *_BASELINES)
TWO_LOOK_EPOCHS = 10
TWO_LOOK_DATA: dict[str, Any] = {
    "data.synthetic.looks": 2,
    "data.synthetic.image_told_share": 1.0,  # or half of all aspects teach nothing of it
    "data.synthetic.train": 24_000,  # 8,000 are learnt by heart before the badges are
}


def two_look_name(system: str) -> str:
    """The variant that is `system` on generated tweets whose mouths that count belong to other figures."""
    return f"{system}_two_looks"


_TWO_LOOKS = {
    two_look_name(system): Variant(
        f"{made.label}, two looks",
        {
            **made.overrides,
            **TWO_LOOK_DATA,
            "train.epochs": TWO_LOOK_EPOCHS,
            "train.patience": TWO_LOOK_EPOCHS,
        },
        "synthetic",
    )
    for system, made in (_PARTS | _BASELINES | _SETTINGS).items()
    if system in TWO_LOOK_SYSTEMS
}

VARIANTS: dict[str, Variant] = _PARTS | _BASELINES | _SETTINGS | _ATTEMPTS | _SWEEP | _TWO_LOOKS

SUITE = (*_PARTS, *_BASELINES)  # what is compared with CLAMP, on the same data and trials
STANDING = tuple(name for name in VARIANTS if name not in _SWEEP | _TWO_LOOKS)  # all on their profile's own data

GROUPS: dict[str, tuple[str, ...]] = {
    "main": ("full", *_BASELINES),
    "baselines": tuple(_BASELINES),
    "ablations": (*_PARTS, "text_only"),
    "sensitivity": tuple(_SETTINGS),
    "attempts": (*_ATTEMPTS, "no_mcl", "no_gate"),
    "sweep": tuple(_SWEEP),
    "two_looks": tuple(two_look_name(system) for system in TWO_LOOK_SYSTEMS),
}


def means_something(variant: str, profile: str, dataset: str) -> bool:
    """Whether there is such a system at all on this data set under this profile."""
    made = VARIANTS[variant]
    return made.profile in (None, profile) and made.dataset in (None, dataset)
