"""Configs: what they refuse and how they say it; and that reading one costs no import of torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import clamp
from clamp.config import Config, ConfigError, config_from_dict, model_config_from_dict, override


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"modle": {}}, "run.json: modle: "),
        ({"model": {"widht": 64}}, "run.json: model.widht: "),
        ({"model": {"contrast": {"scale": 500.0}}}, "run.json: model.contrast.scale: "),
        ({"model": {"levels": []}}, "run.json: model.levels: "),
        ({"model": {"levels": ["pixel"]}}, "run.json: model.levels.0: "),
        ({"model": {"width": 64, "heads": 3}}, "width 64 does not divide into 3 heads"),
        ({"model": {"aggregation": {"initial": {"tagging": 0.0}}}}, "needs a value for each of tagging, aspect"),
        ({"train": {"epochs": "many"}}, "run.json: train.epochs: "),
        ({"data": {"name": "twitter2016"}}, "run.json: data.name: "),
        ([], "run.json: (top level): "),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_in_one_line_that_names_the_field(values: object, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_from_dict(values, "run.json")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_config_survives_json() -> None:
    config = override(Config(), {"model.levels": ["image"], "train.seed": 3, "model.decoder": "crf"}, "test")
    assert config_from_dict(json.loads(json.dumps(config.to_dict())), "json") == config
    assert model_config_from_dict(config.to_dict()["model"], "json") == config.model


def test_override_changes_the_named_fields_only() -> None:
    config = override(Config(), {"model.contrast.scale": 7.0, "data.visual": "none"}, "test")
    values, plain = config.to_dict(), Config().to_dict()
    assert (values["model"]["contrast"].pop("scale"), values["data"].pop("visual")) == (7.0, "none")
    del plain["model"]["contrast"]["scale"], plain["data"]["visual"]
    assert values == plain


@pytest.mark.parametrize("field", ["model.focsu", "modle.focus", "model.width.more"])
def test_override_refuses_a_field_that_does_not_exist(field: str) -> None:
    with pytest.raises(ConfigError, match=f"variant x: {field}"):
        override(Config(), {field: 1}, "variant x")


def test_reading_configs_and_scores_imports_no_torch() -> None:
    program = (
        "import sys, clamp, clamp.config, clamp.metrics, clamp.data\n"
        "assert callable(clamp.span_scores) and clamp.Config().train.seed == 0\n"
        "print([name for name in ('torch', 'transformers', 'triton') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve_and_others_do_not() -> None:
    for name in set(clamp.__all__) - {"__version__"}:
        assert getattr(clamp, name).__name__ == name
        assert name in dir(clamp)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        clamp.nothing_of_the_kind  # noqa: B018
