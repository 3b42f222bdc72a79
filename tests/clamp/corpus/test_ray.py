"""A corpus predicted on a real Ray cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import tiny_config, tiny_model, tweets
from local_ray import Nodes, a_cluster, wait_for

from clamp.__main__ import main
from clamp.config import ConfigError
from clamp.corpus.job import WINDOW, predict_corpus
from clamp.corpus.ray import predict_corpus_on_ray
from clamp.corpus.request import Request
from clamp.inference.predictor import Predictor

ROWS = 4 * WINDOW + 10


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    yield from a_cluster(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    tiny_model(tiny_config().model).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Generated words without images; one line in each window is no record."""
    some = [json.dumps({"words": list(tweet.words)}) for tweet in tweets(64)]
    lines = [some[number % len(some)] if number % WINDOW != 5 else "nothing" for number in range(ROWS)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.slow
def test_a_node_dies_and_no_record_is_lost_or_doubled(nodes: Nodes, model: str, source: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(model)
    request = Request(source, tmp_path / "found.jsonl", tmp_path)
    mortal, name = nodes.add(), f"node{nodes.started - 1}"
    said: list[str] = []
    counted: list[int] = []

    def kill_in_mid_task() -> None:
        wait_for(lambda: any((nodes.folder / name).glob("*/found.jsonl.unfinished")))
        nodes.kill(mortal)

    killer = threading.Thread(target=kill_in_mid_task)
    killer.start()
    summary = predict_corpus_on_ray(
        predictor, model, request, address=nodes.address, gpus=0.0, say=said.append, on_rows=counted.append
    )
    killer.join()
    assert any("its node died; it starts again" in line for line in said)
    assert (summary.rows, summary.left_out, sum(counted)) == (ROWS, 5, ROWS)

    here = Request(source, tmp_path / "here.jsonl", tmp_path)
    predict_corpus(predictor, here)
    assert request.out.read_bytes() == here.out.read_bytes()
    assert request.errors.read_bytes() == here.errors.read_bytes()
    assert not request.folder.exists()


@pytest.mark.slow
def test_what_is_done_is_not_done_again(
    nodes: Nodes, model: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    predictor = Predictor.from_pretrained(model)
    predict_corpus(predictor, Request(source, here, tmp_path))
    request = Request(source, there, tmp_path)

    class Stopped(Exception):
        pass

    def stop_after_a_window(rows: int) -> None:
        if rows:
            raise Stopped

    with pytest.raises(Stopped):
        predict_corpus_on_ray(
            predictor, model, request, address=nodes.address, gpus=0.0, say=print, on_rows=stop_after_a_window
        )
    (part,) = request.folder.glob("part-*0.jsonl")
    part.write_text("kept as it is\n")
    command = ["predict", str(source), "--model", model, "--out", str(there)]
    assert main([*command, "--engine", "ray", "--address", nodes.address]) == 1  # some lines are no records
    first, rest = there.read_text().split("\n", 1)
    assert first == "kept as it is"
    assert here.read_text().endswith(rest)
    assert rest.count("\n") == 3 * (WINDOW - 1) + 9
    assert f"{ROWS - 5} tweets predicted" in capsys.readouterr().err


@pytest.mark.slow
def test_another_corpus_on_a_node_is_found_out(
    nodes: Nodes, model: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clamp.corpus.ray.file_sha256", lambda file: "0" * 64)  # here, not on the node
    request = Request(source, tmp_path / "found.jsonl", tmp_path)
    with pytest.raises(ConfigError, match=r"corpus\.jsonl: not the same as where the command was given"):
        predict_corpus_on_ray(
            Predictor.from_pretrained(model), model, request, address=nodes.address, gpus=0.0, say=print
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c.jsonl", "--out", "o.jsonl", "--address", "auto"], "--address and --gpus-per-task go with --engine ray"),
        (["c.jsonl", "--out", "o.jsonl", "--gpus-per-task", "0.5"], "go with --engine ray"),
        (["--text", "so proud", "--engine", "ray"], "--engine goes with a file of tweets"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--model", "nowhere", *arguments]) == 2
    assert message in capsys.readouterr().err
