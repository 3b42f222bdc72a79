"""The course of a run as tensorboard and wandb get it; each is tried for real where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clamp.commands.training_log import training_log

COURSE = [(1, 0.25, 0.25), (2, 0.125, 0.25)]


def test_tensorboard_gets_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason='needs tensorboard: pip install ".[log]"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with training_log("tensorboard", tmp_path, {}) as tell:
        for epoch in COURSE:
            tell(*epoch)
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    for tag, place in (("dev_f1", 1), ("best_dev_f1", 2)):
        assert [(event.step, event.value) for event in events.Scalars(tag)] == [(e[0], e[place]) for e in COURSE]


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason='needs wandb: pip install ".[log]"')
    monkeypatch.setenv("WANDB_MODE", "offline")
    with training_log("wandb", tmp_path, {"seed": 0}) as tell:
        for epoch in COURSE:
            tell(*epoch)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_wandb_is_told_and_the_run_is_ended_when_training_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: said.append((step, values)), finish=lambda: said.append("finished"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **settings: said.append(settings) or run))
    log = training_log("wandb", tmp_path, {"seed": 0})
    log.__enter__()(*COURSE[0])
    assert not log.__exit__(KeyError, KeyError(), None)
    assert said == [
        {"project": "clamp", "dir": str(tmp_path), "config": {"seed": 0}},
        (1, {"dev_f1": 0.25, "best_dev_f1": 0.25}),
        "finished",
    ]
