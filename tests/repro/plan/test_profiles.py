"""Which runs a command line stands for, and what makes two runs different."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clamp.baselines import ARCHITECTURES
from clamp.config import ConfigError, override
from repro.plan.profiles import PROFILES, Inputs, Run, plan
from repro.plan.variants import (
    GROUPS,
    STANDING,
    SUITE,
    SWEPT_POINTS,
    SWEPT_SYSTEMS,
    TWO_LOOK_DATA,
    TWO_LOOK_EPOCHS,
    TWO_LOOK_SYSTEMS,
    VARIANTS,
    means_something,
    swept_name,
    two_look_name,
)

INPUTS = Inputs({"train.json": "a"}, None, "s")
FIVE_SEEDS = {"full", "no_paf", "no_mcl", "no_ama", "single_cross_attention", "text_only"}


def cells(runs: list[Run]) -> dict[tuple[str, str], int]:
    """(data set, variant) -> number of seeds."""
    found: dict[tuple[str, str], int] = {}
    for run in runs:
        found[run.experiment, run.variant] = found.get((run.experiment, run.variant), 0) + 1
    return found


def test_default_suite_has_five_seeds_of_the_main_systems_and_one_of_the_others() -> None:
    others = set(SUITE) - FIVE_SEEDS - {"no_prior"}  # which may spoil a run, and is there on request
    expected = {("synthetic", v): 5 for v in FIVE_SEEDS} | {("synthetic", v): 1 for v in others}
    assert cells(plan("synthetic")) == expected


def test_offline_by_default_has_five_seeds_of_three_systems_and_one_of_the_other_baselines() -> None:
    several = ("full", "text_only", "caption_concat")
    others = set(GROUPS["baselines"]) - set(several)
    seeds = dict.fromkeys(several, 5) | dict.fromkeys(others, 1)
    expected = {(d, v): n for d in ("twitter2015", "twitter2017") for v, n in seeds.items()}
    assert cells(plan("offline")) == expected


def test_a_variant_outside_the_default_runs_once_on_request() -> None:
    assert cells(plan("offline", only=["no_gate"], datasets=["twitter2017"])) == {("twitter2017", "no_gate"): 1}


def test_seeds_gives_everything_selected_that_many() -> None:
    runs = plan("offline", only=["baselines", "full"], seeds=2)
    systems = ("full", *GROUPS["baselines"])
    assert cells(runs) == {(d, v): 2 for d in ("twitter2015", "twitter2017") for v in systems}
    assert {(run.seed, run.config.train.seed) for run in runs} == {(0, 0), (1, 1)}


def test_only_takes_groups_and_names_together() -> None:
    baselines = {run.variant for run in plan("synthetic", only=["baselines"])}
    assert baselines == set(ARCHITECTURES) - {"clamp"}
    assert {run.variant for run in plan("synthetic", only=["baselines", "no_gate"])} == {*baselines, "no_gate"}


def test_a_baseline_is_the_architecture_of_its_name() -> None:
    assert all(run.config.model.architecture == run.variant for run in plan("paper", only=["baselines"]))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_caption_baseline_reads_captions_whatever_the_others_read(profile: str) -> None:
    assert {run.config.data.visual for run in plan(profile, only=["caption_concat"])} == {"proxy"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_variant_is_a_different_run(profile: str) -> None:
    runs = plan(profile, only=list(VARIANTS), seeds=2)
    possible = sum(means_something(v, profile, dataset) for v in VARIANTS for dataset in PROFILES[profile].seeds)
    assert len({run.key(INPUTS) for run in runs}) == len(runs) == 2 * possible


def test_full_adds_other_settings_and_seeds_enough_for_a_verdict() -> None:
    expected = dict.fromkeys(GROUPS["sensitivity"], 3) | dict.fromkeys(GROUPS["sweep"], 5)
    expected |= dict.fromkeys((*SUITE, *GROUPS["two_looks"]), 10)
    assert cells(plan("synthetic", full=True)) == {("synthetic", v): n for v, n in expected.items()}
    offline = cells(plan("offline", full=True, datasets=["twitter2015"]))
    settings = {("twitter2015", v): 1 for v in ("half_encoder_rate", "double_encoder_rate", "twice_the_epochs")}
    few = {"no_pyramid", "one_stage", "no_focus", "no_gate", "global_only", "local_only", "no_paf_no_mcl", "no_prior"}
    few |= {"liebel_koerner", "softmax_weights", "dtca", "image_prefix"}
    assert offline == settings | {("twitter2015", v): 3 if v in few else 5 for v in SUITE}
    paper = cells(plan("paper", full=True))
    assert cells(plan("paper")).items() <= paper.items()
    assert paper["twitter2017", "scale_2"] == 1


def test_the_sweep_turns_one_knob_of_the_generated_data_and_keeps_each_systems_own_change() -> None:
    for system in SWEPT_SYSTEMS:
        (usual,) = plan("synthetic", only=[system], seeds=1)
        for knob, values in SWEPT_POINTS.items():
            for value in values:
                (swept,) = plan("synthetic", only=[swept_name(system, knob, value)])
                data = dataclasses.replace(
                    usual.config.data, synthetic=dataclasses.replace(usual.config.data.synthetic, **{knob: value})
                )
                assert swept.config == dataclasses.replace(usual.config, data=data) != usual.config
    assert not set(GROUPS["sweep"]) & {run.variant for run in plan("synthetic")}
    with pytest.raises(ConfigError, match="nothing to run"):
        plan("paper", only=["sweep"])


def test_two_looks_change_the_data_and_the_epochs_and_keep_each_systems_own_change() -> None:
    for system in TWO_LOOK_SYSTEMS:
        (usual,) = plan("synthetic", only=[system], seeds=1)
        (run,) = plan("synthetic", only=[two_look_name(system)])
        changes = {**TWO_LOOK_DATA, "train.epochs": TWO_LOOK_EPOCHS, "train.patience": TWO_LOOK_EPOCHS}
        assert run.config.data.synthetic.looks == 2
        assert run.config == override(usual.config, changes, "test") != usual.config
        assert VARIANTS[run.variant].label == f"{VARIANTS[system].label}, two looks"
    assert not set(GROUPS["two_looks"]) & {run.variant for run in plan("synthetic")}
    assert not set(GROUPS["two_looks"]) & {*STANDING, *SUITE, *GROUPS["main"], *GROUPS["ablations"]}
    with pytest.raises(ConfigError, match="nothing to run"):
        plan("paper", only=["two_looks"])


def test_what_only_one_data_set_has_is_planned_nowhere_else() -> None:
    (run,) = plan("offline", only=["long_description"], seeds=1)
    assert (run.experiment, run.config.data.proxy_fields) == ("twitter2017", ("description",))
    with pytest.raises(ConfigError, match="long_description"):
        plan("synthetic", only=["long_description"])


def test_text_only_on_real_data_reads_no_image() -> None:
    for run in plan("offline") + plan("paper", only=["text_only"]):
        assert (run.config.data.visual == "none") == (run.variant == "text_only")


def test_what_a_run_depends_on_is_in_its_key(make_run: Callable[..., Run]) -> None:
    run = make_run()
    variations = [
        make_run(seed=1),
        make_run(train__threads=2),
        make_run(data__synthetic__noise=21.0),
        make_run(model__text__revision="abc"),
    ]
    others = [
        dataclasses.replace(INPUTS, data={"train.json": "b"}),
        dataclasses.replace(INPUTS, weights_revision="w"),
        dataclasses.replace(INPUTS, source_hash="t"),
    ]
    keys = [run.key(INPUTS), *(other.key(INPUTS) for other in variations), *(run.key(other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert make_run().key(INPUTS) == keys[0]
    assert len(keys[0]) == 16


def test_where_weights_lie_decides_nothing(make_run: Callable[..., Run], tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "minilm").mkdir(parents=True)
    one, two = (make_run(model__text__weights=str(tmp_path / place / "minilm")) for place in ("a", "b"))
    assert one.key(INPUTS) == two.key(INPUTS)
    assert str(tmp_path) not in json.dumps(one.config_dict())


def test_config_file_may_nest_or_dot_and_variants_come_on_top(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"train": {"epochs": 2}, "model.contrast": {"scale": 7.0}, "model.gate": true}')
    (run,) = plan("synthetic", only=["no_gate"], config_file=file)
    assert (run.config.train.epochs, run.config.model.contrast.scale, run.config.model.gate) == (2, 7.0, False)
    assert run.config.model.contrast.width == plan("synthetic")[0].config.model.contrast.width


def test_config_file_replaces_an_architecture_whole(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"model": {"text": {"architecture": {"model_type": "roberta"}}}}')
    assert plan("synthetic", config_file=file)[0].config.model.text.architecture == {"model_type": "roberta"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"train": {"epoch": 2}}', "train.epoch"),
        ('{"train.epoch": 2}', "train.epoch"),
        ('{"modl": {"gate": false}}', "modl"),
        ('{"model.focus.more": 1}', "model.focus.more"),
        ('{"train.epochs": "many"}', "train.epochs"),
        ('{"train.seed": 3}', "--seeds"),
        ('{"data": {"name": "twitter2015"}}', "--dataset"),
        ('{"model.vision.kind": "proxy"}', "data.visual: 'image'"),
        ('{"data.visual": "proxy"}', "data.visual: 'proxy'"),
        ("[1]", "object"),
        ('{"train":', "not JSON"),
    ],
)
def test_unusable_config_file_is_named_with_the_reason(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        plan("synthetic", config_file=file)
    assert str(file) in str(error.value)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"profile": "papre"}, "profile 'papre'"),
        ({"profile": "synthetic", "only": ["no_paff"]}, "variant 'no_paff'"),
        ({"profile": "synthetic", "datasets": ["twitter2015"]}, "'twitter2015'"),
        ({"profile": "synthetic", "config_file": Path("absent.json")}, "absent.json"),
    ],
)
def test_unknown_names_are_errors(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        plan(**arguments)  # type: ignore[arg-type]


def test_overrides_of_every_variant_change_the_config() -> None:
    bases = {name: plan(name)[0].config for name in PROFILES}
    for name, variant in VARIANTS.items():
        base = bases[variant.profile or "paper"]
        assert name == "full" or override(base, variant.overrides, name) != base, name
