"""A corpus predicted gives what evaluation and the Python interface give, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import tweets
from corpora import COUNT, left_behind, read_lines, records, write_lines

from clamp.corpus import batches, job
from clamp.corpus.job import Summary, predict_corpus
from clamp.corpus.request import Request
from clamp.data import DataError
from clamp.data.collate import EncodedTweets
from clamp.evaluate import predict
from clamp.inference.predictor import Predictor

pytestmark = pytest.mark.usefixtures("small_windows")


def test_corpus_gives_what_evaluation_gives_in_order(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", records())
    summary = predict_corpus(predictor, Request(source, tmp_path / "out.jsonl", images, batch_size=4))
    found = read_lines(tmp_path / "out.jsonl")
    data = EncodedTweets(tweets(COUNT), predictor.model.tokenizer, predictor.model.config)
    expected = predict(predictor.model, data, batch_size=4).spans
    assert summary == Summary(COUNT, 0, {"read": COUNT})
    assert [tweet["id"] for tweet in found] == [f"t{number}" for number in range(COUNT)]
    assert [[(a["start"], a["end"], a["polarity"]) for a in tweet["aspects"]] for tweet in found] == expected
    assert sum(map(len, expected)) > 10
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()
    assert left_behind(tmp_path) == set()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_of_one_window_do_not_disturb_each_other(
    predictor: Predictor, images: Path, tmp_path: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one slot, every batch overwrites the one before it, whose tags are decoded only later."""
    for module, name, value in ((job, "WINDOW", COUNT), (batches, "_POOL", 7), (job, "_AHEAD", 1)):
        monkeypatch.setattr(module, name, value)
    source = write_lines(tmp_path / "in.jsonl", records())
    predict_corpus(predictor, Request(source, tmp_path / "out.jsonl", images, batch_size=batch_size))
    data = EncodedTweets(tweets(COUNT), predictor.model.tokenizer, predictor.model.config)
    expected = predict(predictor.model, data, batch_size=batch_size).spans
    found = read_lines(tmp_path / "out.jsonl")
    assert [[(a["start"], a["end"], a["polarity"]) for a in tweet["aspects"]] for tweet in found] == expected


def test_output_is_that_of_the_api(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", records(8))
    predict_corpus(predictor, Request(source, tmp_path / "out.jsonl", images, regions=True))
    some = [record | {"image": images / record["image"]} for record in records(8)]
    assert read_lines(tmp_path / "out.jsonl") == [p.to_dict() for p in predictor.predict(some, regions=True)]


def test_empty_corpus(predictor: Predictor, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [])
    assert predict_corpus(predictor, Request(source, tmp_path / "out.csv", tmp_path))[:2] == (0, 0)
    assert (tmp_path / "out.csv").read_text() == "id,words,words_read,aspects,image\n"


def test_given_aspects_of_a_corpus(predictor: Predictor, tmp_path: Path) -> None:
    some = [
        {"id": "a", "text": "the red kite", "aspects": [{"start": 1, "end": 3}]},
        {"id": "b", "text": "x " * 90, "aspects": [{"start": 80, "end": 81}]},
        {"id": "c", "text": "the $T$", "target": "red kite"},
        {"id": "d", "text": "the red kite"},
    ]
    request = Request(write_lines(tmp_path / "in.jsonl", some), tmp_path / "out.jsonl", tmp_path)
    assert predict_corpus(predictor, request) == Summary(4, 1, {"none": 3})
    found = read_lines(request.out)
    assert [tweet["id"] for tweet in found] == ["a", "c", "d"]
    assert [[(a["start"], a["end"]) for a in tweet["aspects"]] for tweet in found[:2]] == [[(1, 3)], [(1, 3)]]
    (error,) = read_lines(request.errors)
    assert error == {"line": 2, "reason": "aspect 80:81 lies beyond the 64 words that the model reads"}


def test_windows_predicted_apart_make_the_same_whole(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", records())
    whole = Request(source, tmp_path / "whole.jsonl", images)
    predict_corpus(predictor, whole)
    apart = Request(source, tmp_path / "apart.jsonl", images)
    with job.begun(predictor, apart) as count:
        for window in (2, 0, 0):
            job.predict_windows(predictor, apart, [window], lambda _: None)
        with pytest.raises(DataError, match=r"apart.jsonl: 1 of 3 parts are missing"):
            job.merge(apart, count)
        job.predict_windows(predictor, apart, job.missing_windows(apart, count), lambda _: None)
        assert job.merge(apart, count)[:2] == (COUNT, 0)
    assert apart.out.read_bytes() == whole.out.read_bytes()
