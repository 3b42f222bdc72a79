"""Training: the same bits whatever interrupts it, the right checkpoint, and a clear end when numbers go wrong."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_training
import pytest
import torch
from builders import tiny_config, tiny_model, tiny_splits, with_proxies, without_images
from safetensors.torch import load_file
from torch import Tensor

import clamp.training.train
from clamp.baselines import ARCHITECTURES
from clamp.config import Config
from clamp.data import Splits
from clamp.model import Clamp
from clamp.training.checkpoint import read_checkpoint, write_checkpoint
from clamp.training.train import (
    Trainer,
    TrainingDiverged,
    _name_best_stage,
    learning_rate_factor,
    make_optimizer,
    train,
)


def measured_apart(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what no two runs share: seconds and memory."""
    result = json.loads(json.dumps(result))
    for key in ("train_seconds", "cpu_seconds", "peak_memory_bytes"):
        assert result["cost"].pop(key) > 0
    for epoch in result["curve"]:
        assert epoch.pop("seconds") > 0
    return result


def state(folder: Path) -> dict[str, Tensor]:
    """Parameters, optimiser state and random generators at the end of the last epoch."""
    return load_file(folder / "checkpoint.safetensors")


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_seed_decides_every_bit(architecture: str, tmp_path: Path) -> None:
    config = tiny_config(model__architecture=architecture)
    results = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)  # what happened before is no matter
        changed = replace(config, train=replace(config.train, seed=seed))
        results[name] = measured_apart(train(changed, tiny_splits(config), tmp_path / name))
    assert results["a"] == results["b"]
    assert results["a"]["curve"] != results["c"]["curve"]
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))
    assert not same(state(tmp_path / "a"), state(tmp_path / "c"))
    saved = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "abc"]
    assert saved[0] == saved[1] != saved[2]


def test_a_killed_run_resumed_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = killed_training.CONFIG
    monkeypatch.setattr(clamp.training.train, "joint_f1", killed_training.spans_found)
    whole = measured_apart(train(config, tiny_splits(config), tmp_path / "whole"))
    assert len({epoch["dev_f1"] for epoch in whole["curve"]}) > 1  # so that the choice of an epoch is a choice
    moments = {"epoch": 2, "checkpoint": 2, "result": 0}  # and the epochs left to do
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, killed_training.__file__]
    killed = {
        moment: subprocess.Popen([*command, str(tmp_path / moment), moment], env=environment) for moment in moments
    }
    for moment, process in killed.items():
        assert process.wait(timeout=120) == -signal.SIGKILL
        redone: list[int] = []
        resumed = train(
            config, tiny_splits(config), tmp_path / moment, lambda done, of, f1, redone=redone: redone.append(done)
        )
        assert redone == [1, 2, 3][3 - moments[moment] :]
        assert measured_apart(resumed) == whole
        assert same(state(tmp_path / moment), state(tmp_path / "whole"))
        for file in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (tmp_path / moment / "model" / file).read_bytes() == (
                tmp_path / "whole" / "model" / file
            ).read_bytes()


def test_the_result_is_what_records_hold(tmp_path: Path) -> None:
    config = tiny_config()
    splits = tiny_splits(config)
    splits.test[2:4] = without_images(splits.test[2:4])
    calls: list[tuple[int, int, float]] = []
    result = train(config, splits, tmp_path, lambda *epoch: calls.append(epoch))
    assert json.loads(json.dumps(result)) == result
    assert set(result) == {"best_epoch", "metrics", "per_tweet", "curve", "weighting", "interference", "cost", "images"}
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]
    assert [epoch["epoch"] for epoch in result["curve"]] == [1, 2]
    assert [epoch["dev_f1"] for epoch in result["curve"]] == [call[2] for call in calls]
    assert set(result["curve"][0]["loss"]) == {"tagging", "aspect", "global", "local"}
    assert result["images"]["test"] == {"present": 6, "absent": 2}
    assert sum(row[2] for row in result["per_tweet"]["test"]) == result["metrics"]["test"]["joint"]["gold"]
    assert result["metrics"]["dev"]["pointing"]["best_stage"] == result["metrics"]["test"]["pointing"]["best_stage"]
    weighting = result["weighting"]
    assert weighting["step"] == [1, 2, 3, 4, 5, 6]
    assert weighting["mode"] == "map"
    assert all(len(course) == 6 for part in ("s", "loss") for course in weighting[part].values())
    assert set(weighting["moved"]) == {"tagging", "aspect", "global", "local"}
    assert all(weighting["moved"][task] == s[-1] - s[0] != 0.0 for task, s in weighting["s"].items())
    parameters = sum(p.numel() for p in Clamp.from_pretrained(tmp_path / "model").parameters())
    assert result["cost"]["parameters"] == parameters


def test_the_course_tells_how_losses_and_gradients_vary(tmp_path: Path) -> None:
    config = tiny_config(train__epochs=3)
    result = train(config, tiny_splits(config), tmp_path)
    for epoch in result["curve"]:
        assert epoch["loss_sd"].keys() == epoch["loss"].keys()
        assert all(spread > 0 for spread in epoch["loss_sd"].values())
        assert epoch["gradient_norm"]["mean"] > epoch["gradient_norm"]["sd"] > 0
    assert result["curve"][result["best_epoch"] - 1]["test_f1"] == result["metrics"]["test"]["joint"]["f1"]
    cosine = result["interference"]["cosine"]
    assert set(cosine) == {
        "tagging~aspect", "tagging~global", "tagging~local", "aspect~global", "aspect~local", "global~local"
    }  # fmt: skip
    assert result["interference"]["step"] == list(range(1, 10))
    assert all(len(values) == 9 and all(-1 <= value <= 1 for value in values) for values in cosine.values())


def test_a_task_that_is_missing_from_a_batch_leaves_a_gap_in_its_cosines(tmp_path: Path) -> None:
    config = tiny_config()
    trainer = Trainer(config, tiny_splits(config), tmp_path)
    trainer._log_cosines({"tagging~aspect": 0.5})
    trainer._log_cosines({"tagging~aspect": 0.25, "tagging~local": -1.0})
    trainer._log_cosines({"tagging~aspect": 0.125})
    assert trainer.course.cosines == {"tagging~aspect": [0.5, 0.25, 0.125], "tagging~local": [None, -1.0, None]}


def test_looking_at_cosines_changes_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    train(config, tiny_splits(config), tmp_path / "looked")
    monkeypatch.setattr(clamp.training.train, "gradient_cosines", lambda losses, shared, whole: {})
    train(config, tiny_splits(config), tmp_path / "blind")
    assert same(state(tmp_path / "looked"), state(tmp_path / "blind"))


def test_every_epoch_sees_every_tweet_in_an_order_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(model__architecture="text_only")
    step, seen = Trainer._step, []
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: seen.append(batch.tweets) or step(self, batch))
    train(config, tiny_splits(config), tmp_path)
    assert [len(batch) for batch in seen] == [8] * 6
    orders = [[tweet.id for batch in epoch for tweet in batch] for epoch in (seen[:3], seen[3:])]
    assert sorted(orders[0]) == sorted(orders[1]) == [f"train-{k:05d}" for k in range(24)]
    assert orders[0] != orders[1]


def test_the_saved_model_is_the_one_that_was_scored(tmp_path: Path) -> None:
    from clamp.data.collate import EncodedTweets
    from clamp.evaluate import predict, score

    config = tiny_config(train__lr_head=1e-2, train__lr_encoder=1e-2, train__epochs=3)
    splits = tiny_splits(config)
    result = train(config, splits, tmp_path)
    model = Clamp.from_pretrained(tmp_path / "model")
    again = score(predict(model, EncodedTweets(splits.test, model.tokenizer, model.config)), splits.test)
    for part in ("joint", "mate", "masc"):
        assert again[part] == result["metrics"]["test"][part]


def scripted_f1(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """`values` on dev, epoch after epoch; on test the opposite, which nothing may be chosen by."""
    remaining, on_test = iter(values), iter([1 - value for value in values])
    monkeypatch.setattr(
        clamp.training.train,
        "joint_f1",
        lambda predictions, tweets: next(remaining if tweets[0].id.startswith("dev") else on_test),
    )


@pytest.mark.parametrize(
    ("f1", "patience", "epochs", "best"),
    [
        ([0.1, 0.5, 0.5, 0.4], 2, 4, 2),  # a tie is no progress, and the earlier epoch stays
        ([0.0, 0.0, 0.0], 2, 3, 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 6, 6),
        ([0.3, 0.1, 0.4, 0.2, 0.2], 2, 5, 3),
        ([0.3, 0.2], 1, 2, 1),
    ],
)
def test_the_best_epoch_is_kept_and_patience_ends_the_run(
    f1: list[float], patience: int, epochs: int, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(model__architecture="text_only", train__epochs=6, train__patience=patience)
    config = replace(config, data=replace(config.data, synthetic=replace(config.data.synthetic, train=8)))
    splits = tiny_splits(config)
    at_epoch: dict[int, bytes] = {}

    def remember(done: int, of: int, score: float) -> None:
        tensors = {n.removeprefix("model/"): t for n, t in state(tmp_path).items() if n.startswith("model/")}
        at_epoch[done] = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))

    scripted_f1(monkeypatch, f1)
    result = train(config, splits, tmp_path, remember)
    assert result["best_epoch"] == best
    assert len(result["curve"]) == epochs
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert b"".join(saved[name].numpy().tobytes() for name in sorted(saved)) == at_epoch[best]
    # an early stop is an end: run again, nothing is trained
    assert train(config, splits, tmp_path, remember)["curve"] == result["curve"]


def test_a_free_s_ends_near_the_log_of_its_loss(tmp_path: Path) -> None:
    initial = {"tagging": 2.0, "aspect": 2.0, "global": 3.0, "local": 3.0}
    config = tiny_config(
        data__synthetic__train=64,
        model__aggregation__mode="kendall",
        model__aggregation__initial=initial,
        train__epochs=20,
        train__patience=20,
        train__lr_uncertainty=3e-2,  # there are 160 steps to move by up to 3
    )
    weighting = train(config, tiny_splits(config), tmp_path)["weighting"]
    for task in initial:
        assert abs(weighting["s"][task][-1] - math.log(weighting["loss"][task][-1])) < 0.5, task
        assert abs(initial[task] - math.log(weighting["loss"][task][-1])) > 0.5  # it had to move


def planted(parameter: str, value: float) -> tuple[Config, Any]:
    """A config, and an initialiser that spoils one parameter."""
    config = tiny_config(train__batch_size=4)
    original = clamp.training.train.make_optimizer

    def spoil(model: Any, train_config: Any) -> torch.optim.Optimizer:
        with torch.no_grad():
            dict(model.named_parameters())[parameter].view(-1)[0] = value
        return original(model, train_config)

    return config, spoil


@pytest.mark.parametrize(
    ("parameter", "culprit"),
    [
        ("tag_head.weight", "the tagging loss"),
        ("aspect_head.bias", "the aspect loss"),
        ("contrast.project_image.weight", "the global loss"),
        ("aggregation.s.global", "the gradient of "),
    ],
)
def test_what_is_not_finite_stops_the_run_with_step_tweets_and_culprit(
    parameter: str, culprit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, spoil = planted(parameter, math.nan)
    monkeypatch.setattr(clamp.training.train, "make_optimizer", spoil)
    with pytest.raises(TrainingDiverged) as error:
        train(config, tiny_splits(config), tmp_path)
    text = str(error.value)
    assert text.startswith(f"step 1: {culprit}")
    assert text.count("train-") == 4
    assert "\n" not in text
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_loss_that_turns_bad_later_names_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    original, calls = Clamp.losses, iter(range(100))

    def bad_at_fifth(self: Clamp, *args: Any) -> dict[Any, Tensor]:
        losses = original(self, *args)
        return {task: loss * (math.inf if task == "local" and next(calls) == 4 else 1) for task, loss in losses.items()}

    monkeypatch.setattr(Clamp, "losses", bad_at_fifth)
    with pytest.raises(TrainingDiverged, match=r"^step 5: the local loss is not finite; tweets: train-"):
        train(config, tiny_splits(config), tmp_path)
    assert (tmp_path / "checkpoint.safetensors").exists()  # of the epoch before


def test_rates_warm_up_and_fall_in_straight_lines() -> None:
    factors = [learning_rate_factor(step, 20, 0.2) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    falls = [before - after for before, after in itertools.pairwise(factors[4:])]
    assert falls == pytest.approx([1 / 16] * 15)
    assert factors[-1] == pytest.approx(1 / 16)
    assert learning_rate_factor(0, 10, 0.0) == 1.0


def test_every_parameter_is_in_the_group_of_its_kind() -> None:
    config = tiny_config(
        train__lr_encoder=1e-4, train__lr_head=1e-3, train__weight_decay=0.1, model__contrast__learn_scale=True
    )
    model = tiny_model(config.model)
    groups = make_optimizer(model, config.train).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert set(found) == set(names.values())
    for name, group in found.items():
        if name.startswith("aggregation.s."):
            assert (group["name"], group["lr"], group["weight_decay"]) == ("uncertainty", 1e-2, 0.0)
            assert group["params"] == list(model.aggregation.s.values())
        else:
            is_encoder = ".encoder." in name
            assert group["lr"] == (1e-4 if is_encoder else 1e-3), name
            is_matrix = dict(model.named_parameters())[name].ndim >= 2
            assert group["weight_decay"] == (0.1 if is_matrix else 0.0), name
    fixed = tiny_model(tiny_config(model__aggregation__mode="fixed").model)
    assert "uncertainty" not in {group["name"] for group in make_optimizer(fixed, config.train).param_groups}


def one_step(tmp_path: Path, **changes: Any) -> Trainer:
    config = tiny_config(**changes)
    trainer = Trainer(config, tiny_splits(config), tmp_path)
    trainer.model.train()
    trainer._step(trainer.data["train"].batch(range(4)))
    return trainer


def test_clipping_bounds_the_gradient_but_not_that_of_s(tmp_path: Path) -> None:
    clipped, free = one_step(tmp_path, train__clip_norm=1e-3), one_step(tmp_path, train__clip_norm=1e6)
    norms = [torch.stack([p.grad.norm() for p in t.clipped if p.grad is not None]).norm() for t in (clipped, free)]
    assert norms[0].item() == pytest.approx(1e-3, rel=1e-3)
    assert norms[1].item() > 0.1
    gradients = [{task: s.grad.item() for task, s in t.model.aggregation.s.items()} for t in (clipped, free)]
    assert gradients[0] == gradients[1]
    assert max(map(abs, gradients[0].values())) > 0.1


def test_s_does_not_follow_the_schedule(tmp_path: Path) -> None:
    groups = one_step(tmp_path, train__epochs=20).optimizer.param_groups
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {"encoder": pytest.approx(1e-3 / 6), "head": pytest.approx(1e-3 / 6), "uncertainty": 1e-2}


def test_learned_scales_stay_in_their_range_after_every_step(tmp_path: Path) -> None:
    config = tiny_config(model__contrast__learn_scale=True)
    trainer = Trainer(config, tiny_splits(config), tmp_path)
    trainer.model.contrast.global_scale.log_scale.data.fill_(-3.0)
    trainer.model.train()
    for _ in range(2):
        trainer._step(trainer.data["train"].batch(range(8)))
        assert 1.0 <= trainer.model.contrast.global_scale().item() < 1.01


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["no image at all", "proxies", "bfloat16"])
def test_other_data_and_precisions_train(architecture: str, kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "no image at all": {},
        "proxies": {"model__vision": {"kind": "proxy"}},
        "bfloat16": {"train__precision": "bfloat16"},
    }[kind]
    config = tiny_config(model__architecture=architecture, train__epochs=1, **changes)
    splits = tiny_splits(config)
    change = {"no image at all": without_images, "proxies": with_proxies}.get(kind, list)
    splits = Splits(*(change(part) for part in (splits.train, splits.dev, splits.test)), manifest={})
    result = train(config, splits, tmp_path)
    assert result["images"]["train"]["absent"] == (24 if kind == "no image at all" else 0)
    has_contrast = {"global", "local"} <= set(result["curve"][0]["loss"])
    assert has_contrast == (architecture == "clamp" and kind != "no image at all")
    assert all(math.isfinite(value) for value in result["curve"][0]["loss"].values())
    assert (result["weighting"] is None) == (architecture != "clamp")


def test_a_checkpoint_restores_every_generator(tmp_path: Path) -> None:
    import random

    import numpy as np

    trainer = one_step(tmp_path)
    write_checkpoint(tmp_path / "c.safetensors", trainer.model, trainer.optimizer, {"epochs_done": 4})

    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.random(), torch.rand(()).item()

    expected = drawn()
    drawn()
    other = one_step(tmp_path, train__seed=9)
    assert read_checkpoint(tmp_path / "c.safetensors", other.model, other.optimizer) == {"epochs_done": 4}
    assert drawn() == expected
    assert same(other.model.state_dict(), trainer.model.state_dict())


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = one_step(tmp_path)
    file = tmp_path / "c.safetensors"
    write_checkpoint(file, trainer.model, trainer.optimizer, {"epochs_done": 1})
    before = file.read_bytes()

    def full_at_sync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clamp.system.files.os.fsync", full_at_sync)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(file, trainer.model, trainer.optimizer, {"epochs_done": 2})
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]
    monkeypatch.undo()
    write_checkpoint(file, trainer.model, trainer.optimizer, {"epochs_done": 2})
    assert read_checkpoint(file, trainer.model, trainer.optimizer) == {"epochs_done": 2}


def test_pointing_is_reported_for_both_splits_or_for_none() -> None:
    stages = [{"level": "pooled", "pointing": 0.2}, {"level": "patch", "pointing": 0.6}]
    metrics = {"dev": {"pointing": stages}, "test": {"pointing": stages[::-1]}}
    _name_best_stage(metrics)
    assert metrics["test"]["pointing"] == {"best_stage": 1, "stages": stages[::-1]}  # chosen on dev alone
    for absent in ("dev", "test"):
        metrics = {"dev": {"pointing": stages}, "test": {"pointing": stages}} | {absent: {"pointing": None}}
        _name_best_stage(metrics)
        assert metrics == {"dev": {"pointing": None}, "test": {"pointing": None}}
