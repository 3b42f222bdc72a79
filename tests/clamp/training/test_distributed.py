"""Training over two processes equals training in one. Both processes run all cases, once."""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
import training_ranks
from training_ranks import CONFIGS, splits_of

from clamp.training.distributed import own_rows
from clamp.training.train import Trainer, train

SECONDS = 150
TOLERANCE = 1e-5  # of float32 sums in another order


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes left what they trained."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=training_ranks.run, args=(rank, port, folder)) for rank in range(training_ranks.WORLD)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * training_ranks.WORLD
    return folder


def numbers(value: Any) -> list[float]:
    """Every number of a JSON value, in the order of its keys."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_one_process(ranks: Path, tmp_path: Path, name: str) -> None:
    trainer = Trainer(CONFIGS[name], splits_of(name, CONFIGS[name]), tmp_path)
    _, total = trainer._losses(trainer.data["train"].batch(range(8)))
    total.backward()
    expected = {key: p.grad for key, p in trainer.model.named_parameters() if p.grad is not None}
    size = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    for rank in range(training_ranks.WORLD):
        found = torch.load(ranks / f"{name}-{rank}.pt")
        assert found.keys() == expected.keys()
        for key, gradient in expected.items():
            assert (found[key] - gradient).norm() <= TOLERANCE * size, key


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_is_that_of_one_process(ranks: Path, tmp_path: Path, name: str) -> None:
    result = train(CONFIGS[name], splits_of(name, CONFIGS[name]), tmp_path)
    found = json.loads((ranks / f"{name}-0.json").read_text())
    for part in ("metrics", "per_tweet", "weighting", "interference"):
        assert numbers(found[part]) == pytest.approx(numbers(result[part]), abs=TOLERANCE), part
    for ours, theirs in zip(found["curve"], result["curve"], strict=True):
        for key in theirs.keys() - {"seconds"}:
            assert numbers(ours[key]) == pytest.approx(numbers(theirs[key]), abs=TOLERANCE, rel=TOLERANCE), key
    assert json.loads((ranks / f"{name}-1.json").read_text()) is None
    assert not (ranks / f"{name}-1").exists()


def test_a_resumed_run_ends_as_one_that_was_not(ranks: Path) -> None:
    whole, resumed = (load_file(ranks / f"{name}-0" / "checkpoint.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_gathered_rows_start_with_the_batch_in_order(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: world)
    for size in range(1, 15):
        gathered = []
        for rank in range(world):
            monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
            gathered += own_rows(size)
        assert gathered[:size] == list(range(size))
        assert len(gathered) % world == 0
