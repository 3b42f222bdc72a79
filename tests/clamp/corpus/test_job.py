"""A corpus of tweets, predicted by the command: what comes out, what is left out, and what a kill leaves behind."""

from __future__ import annotations

import csv
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import tiny_config, tiny_model, tweets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clamp.__main__ import main
from clamp.config import ConfigError
from clamp.corpus import batches, job, readers
from clamp.corpus.job import Summary, predict_corpus
from clamp.corpus.readers import read_rows
from clamp.corpus.request import Request
from clamp.data import Aspect, DataError
from clamp.data.annotations import AnnotatedTweet, read_annotations
from clamp.data.collate import EncodedTweets
from clamp.data.write_annotations import write_annotations
from clamp.evaluate import predict
from clamp.inference.predictor import Predictor
from clamp.inference.request_record import BadRecord, CorpusRow, RequestRecord, one_line, record_of
from clamp.inference.words import split_words

COUNT = 20


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model(tiny_config().model))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, tweet in enumerate(tweets(COUNT)):
        assert isinstance(tweet.image, np.ndarray)
        Image.fromarray(tweet.image).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    predictor.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "WINDOW", 8)


def records(count: int = COUNT) -> list[dict[str, Any]]:
    return [
        {"id": f"t{number}", "text": " ".join(tweet.words), "image": f"{number}.png"}
        for number, tweet in enumerate(tweets(count))
    ]


def write_lines(file: Path, some: list[Any]) -> Path:
    file.write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in some))
    return file


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def left_behind(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if "unfinished" in file.name or file.suffix == ".tmp"}


# --- what comes out ---


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


def test_every_format_in_and_out_says_the_same(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    texts = ['the "lovely", red\ncircle', "a; b, c", "café 😀 त्योहार", "- '"]
    some = [{"id": f"i,{n}", "text": text, "image": f"{n}.png"} for n, text in enumerate(texts)]
    some.append({"id": "w", "words": ["so", "good", "a b"], "text": None})
    write_lines(tmp_path / "in.jsonl", some)
    with (tmp_path / "in.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["text", "words", "image", "ignored", "id"])
        table.writeheader()
        for record in some:
            table.writerow(record | {"words": json.dumps(record["words"])} if "words" in record else record)
    for form in ("jsonl", "csv"):
        for into in ("jsonl", "csv"):
            request = Request(tmp_path / f"in.{form}", tmp_path / f"{form}.{into}", images, regions=True)
            assert predict_corpus(predictor, request)[:2] == (5, 0)
    assert (tmp_path / "csv.jsonl").read_bytes() == (tmp_path / "jsonl.jsonl").read_bytes()
    assert (tmp_path / "csv.csv").read_bytes() == (tmp_path / "jsonl.csv").read_bytes()
    expected = read_lines(tmp_path / "jsonl.jsonl")
    with (tmp_path / "csv.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    for row, tweet in zip(found, expected, strict=True):
        cells = {"words": json.loads(row["words"]), "aspects": json.loads(row["aspects"])}
        assert row | cells | {"words_read": int(row["words_read"])} == tweet
    assert expected[4]["words"] == ["so", "good", "a b"]
    for tweet, text in zip(expected, texts, strict=False):
        assert all(text[a["start_char"] : a["end_char"]] == a["text"] for a in tweet["aspects"])


def test_parquet_in_and_out(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason='needs pyarrow: pip install ".[parquet]"')
    import pyarrow
    import pyarrow.parquet

    some = [*records(10), {"id": "none", "text": None}, {"id": "w", "text": None, "words": ["so", "good"]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"words": None} | r for r in some]), tmp_path / "in.parquet")
    write_lines(tmp_path / "in.jsonl", some)
    for form in ("jsonl", "parquet"):
        request = Request(tmp_path / f"in.{form}", tmp_path / f"{form}.parquet", images, regions=True)
        assert predict_corpus(predictor, request)[:2] == (12, 1)
        assert [e["line"] for e in read_lines(tmp_path / f"{form}.parquet.errors.jsonl")] == [11]
    predict_corpus(predictor, Request(tmp_path / "in.jsonl", tmp_path / "out.jsonl", images, regions=True))
    expected = read_lines(tmp_path / "out.jsonl")
    for form in ("jsonl", "parquet"):
        found = pyarrow.parquet.read_table(tmp_path / f"{form}.parquet").to_pylist()
        for tweet in found:
            for aspect in tweet["aspects"]:  # a struct has all its fields
                if aspect["start_char"] is None:
                    del aspect["start_char"], aspect["end_char"]
        assert found == expected


def test_parquet_faults(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason='needs pyarrow: pip install ".[parquet]"')
    import pyarrow
    import pyarrow.parquet

    broken = pyarrow.array([b"fine", b"\xff", b"good"]).cast(pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "bytes.parquet")
    assert [row.fault for row in read_rows(tmp_path / "bytes.parquet")] == ["", "not UTF-8", ""]
    pyarrow.parquet.write_table(pyarrow.table({"txt": ["a"]}), tmp_path / "columns.parquet")
    with pytest.raises(DataError, match=r"columns.parquet: it has no column text or words, nor tweet or sentence"):
        list(read_rows(tmp_path / "columns.parquet"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"no.parquet: record 1: "):
        list(read_rows(tmp_path / "no.parquet"))


def test_parquet_without_pyarrow_says_how_to_get_it(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    source = write_lines(tmp_path / "in.jsonl", records(2))
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    for corpus, out in ((source, "out.parquet"), (tmp_path / "in.parquet", "out.jsonl")):
        arguments = ["predict", "--model", str(model), str(corpus), "--images", str(images)]
        assert main([*arguments, "--out", str(tmp_path / out)]) == 2
        assert 'pip install "clamp-repro[parquet]"' in capsys.readouterr().err


def test_empty_corpus(predictor: Predictor, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [])
    assert predict_corpus(predictor, Request(source, tmp_path / "out.csv", tmp_path))[:2] == (0, 0)
    assert (tmp_path / "out.csv").read_text() == "id,words,words_read,aspects,image\n"


# --- what is left out ---

BAD_LINES: list[tuple[Any, str]] = [
    ("not json", "Invalid JSON: "),
    ("[" * 10_000, "Invalid JSON: recursion limit exceeded"),
    ("5", "Input should be an object"),
    ({"id": "a"}, "neither text nor words"),
    ({"text": ""}, "no words"),
    ({"words": ["a", ""]}, "empty word ''"),
    ({"words": "a b"}, "words: Input should be a valid array"),
    ({"text": "a", "id": [1]}, "id: Input should be a valid string"),
    ({"text": "a", "image": "none.png"}, "none.png: no such file"),
    ({"text": "a", "image": "../in.jsonl"}, "is not the name of a file within the images' folder"),
    ({"text": "a", "image": "x/../../in.jsonl"}, "is not the name of a file within the images' folder"),
    ({"text": "a", "image": "/etc/hostname"}, "is not the name of a file within the images' folder"),
    ({"text": "a", "image": "1\x00.png"}, "is not the name of a file within the images' folder"),
    ({"text": "a", "image": "." + "x" * 5000}, "…xxx"),
    ({"text": "a", "image": "broken.png"}, "broken.png: "),
    ({"text": "a", "image": "."}, "no such file"),
    ('{"text": "\\ud800"}', "Invalid JSON: "),
    ('{"text": "' + "x" * 1200 + '"}', "longer than 1000 bytes"),
]


def test_bad_records_are_named_and_the_rest_is_predicted(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readers, "LONGEST_LINE", 12_000)
    (images / "broken.png").write_bytes((images / "0.png").read_bytes()[:300])
    lines: list[Any] = []
    for record, (bad, _) in zip(records(len(BAD_LINES)), BAD_LINES, strict=True):
        lines += [record, bad.replace("x" * 1200, "x" * 13_000) if isinstance(bad, str) else bad]
    source = write_lines(tmp_path / "in.jsonl", ["", *lines, " "])
    out = tmp_path / "out.jsonl"
    arguments = ["predict", "--model", str(model), str(source), "--images", str(images), "--out", str(out)]
    arguments.append("--skip-without-image")
    assert main(arguments) == 1
    assert [tweet["id"] for tweet in read_lines(out)] == [f"t{number}" for number in range(len(BAD_LINES))]
    errors = read_lines(tmp_path / "out.jsonl.errors.jsonl")
    assert [error["line"] for error in errors] == [3 + 2 * number for number in range(len(BAD_LINES))]
    for error, (_, reason) in zip(errors, BAD_LINES, strict=True):
        assert reason.replace("1000", "12000") in error["reason"]
        assert len(error["reason"]) <= 201
    said = capsys.readouterr().err
    assert f"{len(BAD_LINES)} tweets predicted: {out}; {len(BAD_LINES)} left out, see {out}.errors.jsonl" in said

    write_lines(source, records(3))  # an errors file never outlives its cause
    assert main(arguments) == 0
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()


def test_bad_rows_of_csv(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(
        b"\xef\xbb\xbfid,text,words\n"
        b'a,"two\nlines",\n'  # lines 2 and 3
        b"\n"
        b"b,too,many,fields\n"
        b"c,few\n"
        b"d,\xff,\n"
        b"e,,\n"
        b"f,,so good\n"
        b'g,,"[""so"", ""\\ud800""]"\n'
        b'h,,"[""so"", ""good""]"\n'
    )
    assert predict_corpus(predictor, Request(source, tmp_path / "out.jsonl", images))[:2] == (8, 6)
    assert [(t["id"], t["words"]) for t in read_lines(tmp_path / "out.jsonl")] == [
        ("a", ["two", "lines"]),
        ("h", ["so", "good"]),
    ]
    errors = {error["line"]: error["reason"] for error in read_lines(tmp_path / "out.jsonl.errors.jsonl")}
    assert errors == {
        5: "4 fields instead of 3",
        6: "2 fields instead of 3",
        7: "not UTF-8",
        8: "neither text nor words",
        9: "words: Input should be a valid list",
        10: "not text: surrogates not allowed",
    }


def test_an_open_quote_swallows_no_more_than_a_field_may_hold(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\n" + '"open\n' + "a\n" * 100_000)
    found = list(read_rows(source))
    assert found[0].line == 2
    assert "a quote opens here and is not closed" in found[0].fault
    assert len(found) == 100_001
    assert found[-1].content == {"text": "a"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("in.doc", "", "its name ends in none of .jsonl, .csv, .parquet, .json, .txt, .conll, .tsv"),
        ("in.csv", "", "the header names no column text or words, nor tweet or sentence"),
        ("in.csv", "id,txt\n", "the header names no column text or words, nor tweet or sentence"),
        ("in.csv", "text,text\n", "the header names a column twice"),
        ("in.csv", "text" + "x" * 140_000, "header: field larger than field limit"),
        ("no.jsonl", None, "No such file or directory"),
    ],
)
def test_an_unusable_corpus_is_one_line_and_exit_code_2(
    model: Path, tmp_path: Path, name: str, content: str | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    arguments = ["predict", "--model", str(model), str(tmp_path / name), "--out", str(tmp_path / "out.jsonl")]
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"error: {tmp_path / name}: {reason}")


# --- what the field brings ---


def test_a_tweet_without_its_image_is_predicted_from_its_words(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = records(3)
    some[1]["image"] = "gone.png"
    some[2]["image_id"] = some[2].pop("image").removesuffix(".png")  # another name of the field, and no suffix
    out = tmp_path / "out.jsonl"
    source = write_lines(tmp_path / "in.jsonl", [*some, some[1] | {"image": None}])
    arguments = ["predict", "--model", str(model), str(source), "--images", str(images), "--out", str(out)]
    assert main(arguments) == 0
    assert "images: 1 absent, 1 none, 2 read" in capsys.readouterr().err
    found = read_lines(out)
    assert [tweet["image"] for tweet in found] == ["read", "absent", "read", "none"]
    assert found[1]["aspects"] == found[3]["aspects"]
    assert main([*arguments, "--skip-without-image"]) == 1
    assert [error["line"] for error in read_lines(tmp_path / "out.jsonl.errors.jsonl")] == [2]


@pytest.mark.parametrize(
    ("lines", "faulty", "readable"),
    [
        (["a,one", 'b,"two', "c,three", "d,four"], {3}, ["a", "c", "d"]),
        (["a,one", 'b,"two', "c,three", 'd,"four"', "e,five"], {3}, ["a", "c", "d", "e"]),
        (["a,one", 'b,"two', *(f"x{k},words" for k in range(4000))], {3}, ["a", *(f"x{k}" for k in range(4000))]),
        (["a,one", 'b,"two'], {3}, ["a"]),
        (['a,"one', 'two"', 'b,"three"', 'c,so "good"', 'd,"so" good'], set(), ["a", "b", "c", "d"]),
        (['a,"one', "c,three,four", 'x"', "d,four"], set(), ["a", "d"]),  # three lines of one tweet, by the rules
        (['a,"one', "x,two", 'y",b,c', "d,four"], {2, 4}, ["x", "d"]),
    ],
)
def test_an_open_quote_is_named_and_what_follows_is_read(
    tmp_path: Path, lines: list[str], faulty: set[int], readable: list[str]
) -> None:
    file = tmp_path / "in.csv"
    file.write_text("id,text\n" + "\n".join(lines) + "\n")
    found = list(read_rows(file))
    assert {row.line for row in found if row.fault} == faulty
    assert [record_of(row).id for row in found if not row.fault] == readable


def test_a_line_that_is_too_long_within_an_open_quote_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LONGEST_LINE", 50)
    (tmp_path / "in.csv").write_text('id,text\na,"open\nb,' + "x" * 80 + "\nc,fine\n")
    found = {row.line: row.fault for row in read_rows(tmp_path / "in.csv")}
    assert found.keys() == {2, 3, 4}
    assert found[2].startswith("a quote opens here")
    assert (found[3], found[4]) == ("longer than 50 bytes", "")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("column", "field"), [("Text", "text"), ("tweet", "text"), ("SENTENCE", "text"), ("tokens", "words")]
)
def test_tables_as_other_programs_write_them(
    tmp_path: Path, separator: str, encoding: str, column: str, field: str
) -> None:
    text = "the café" if field == "text" else "['the', 'café']".replace(", ", " ")  # as numpy writes a list
    (tmp_path / "in.csv").write_text(f"id{separator}{column}\n7.0{separator}{text}\n", encoding)
    (row,) = read_rows(tmp_path / "in.csv")
    assert record_of(row).words == ("the", "café")
    notes = [f"{field} from column {column!r}"]
    if separator != ",":
        notes.insert(0, f"columns are separated by {'tabs' if separator != ';' else 'semicolons'}")
    assert readers.notes_on(tmp_path / "in.csv") == notes


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("['so', \"it's\", 'good']", ("so", "it's", "good")),
        ("['so' \"it's\" 'good']", ("so", "it's", "good")),
        ("['so'\n 'good']", ("so", "good")),
        ('["so", "good"]', ("so", "good")),
    ],
)
def test_lists_as_pandas_and_numpy_write_them(tmp_path: Path, cell: str, words: tuple[str, ...]) -> None:
    with (tmp_path / "in.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["words"], [cell]])
    (row,) = read_rows(tmp_path / "in.csv")
    assert record_of(row).words == words


@pytest.mark.parametrize(("given", "identity"), [(7, "7"), (8.0, "8"), (9.5, "9.5"), ("x", "x"), (None, "1")])
def test_numbers_are_ids(tmp_path: Path, given: Any, identity: str) -> None:
    (row,) = read_rows(write_lines(tmp_path / "in.jsonl", [{"id": given, "text": "a"}]))
    assert record_of(row).id == identity


def test_images_in_a_table_are_read(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason='needs pyarrow: pip install ".[parquet]"')
    import pyarrow
    import pyarrow.parquet

    some = records(3)
    inside = [r | {"image": {"bytes": (images / r["image"]).read_bytes(), "path": None}} for r in some]
    inside[1]["image"] = {"bytes": None, "path": some[1]["image"]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(inside), tmp_path / "in.parquet")
    write_lines(tmp_path / "in.jsonl", some)
    for form in ("parquet", "jsonl"):
        request = Request(tmp_path / f"in.{form}", tmp_path / f"{form}.jsonl", images)
        assert predict_corpus(predictor, request) == Summary(3, 0, {"read": 3})
    assert (tmp_path / "parquet.jsonl").read_bytes() == (tmp_path / "jsonl.jsonl").read_bytes()


def test_annotated_tweets_are_a_corpus_and_conll_comes_out(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    annotated = [AnnotatedTweet(f"{k}.png", tweet.words, (Aspect(0, 1, "POS"),)) for k, tweet in enumerate(tweets(5))]
    found = {}
    for name in ("in.json", "in.txt", "in.conll", "in.tsv"):
        write_annotations(tmp_path / name, annotated)
        request = Request(tmp_path / name, tmp_path / f"{name}.conll", images)
        assert predict_corpus(predictor, request) == Summary(5, 0, {"read": 5})
        found[name] = read_annotations(tmp_path / f"{name}.conll")
    expected = predictor.predict([{"words": list(t.words), "image": images / t.image_id} for t in annotated])
    assert [(t.image_id, t.words, [(a.start, a.end, a.polarity) for a in t.aspects]) for t in found["in.json"]] == [
        (t.image_id, t.words, [(a.start, a.end, a.polarity) for a in p.aspects])
        for t, p in zip(annotated, expected, strict=True)
    ]
    assert all(tweets_ == found["in.json"] for tweets_ in found.values())


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


def test_rows_that_are_neither_predicted_nor_named_are_noticed(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    request = Request(write_lines(tmp_path / "in.jsonl", records()), tmp_path / "out.jsonl", images)
    with job.begun(predictor, request) as count:
        job.predict_windows(predictor, request, job.missing_windows(request, count), lambda _: None)
        part = request.part(1)
        part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.raises(DataError, match=r"19 of 20 rows predicted and 0 named: .*unfinished is damaged"):
            job.merge(request, count)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hi \U0001f468\u200d\U0001f469\u200d\U0001f467!", ["hi", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "!"]),
        ("\u2764\ufe0f\u2764\ufe0f", ["\u2764\ufe0f", "\u2764\ufe0f"]),
        ("\U0001f44d\U0001f3fdok", ["\U0001f44d\U0001f3fd", "ok"]),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"]),
        ("1\ufe0f\u20e3", ["1\ufe0f\u20e3"]),
    ],
)
def test_an_emoji_is_one_word(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in split_words(text)] == words


# --- any input ---

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.text(max_size=30) | st.lists(st.text(max_size=5), max_size=5)
        for name in ("id", "text", "words", "image", "proxy")
    },
)
lines = st.lists(st.one_of(json_values, fields).map(json.dumps) | st.text(max_size=20), max_size=6)


@given(
    content=st.binary(max_size=200) | lines.map(lambda some: "\n".join(some).encode()),
    form=st.sampled_from([".jsonl", ".csv"]),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_give_rows_that_hold_a_record_or_a_reason(content: bytes, form: str, tmp_path: Path) -> None:
    file = tmp_path / f"in{form}"
    file.write_bytes(b"text,words,id,image,x\n" * (form == ".csv") + content)
    found = list(read_rows(file))
    assert [row.line for row in found] == sorted({row.line for row in found})
    for row in found:
        record = record_or_reason(row)
        if isinstance(record, str):
            assert record
            assert "\n" not in record
        else:
            assert record.words
            text = record.text
            assert text is None or [text[start:end] for start, end in record.places] == list(record.words)


def record_or_reason(row: CorpusRow) -> RequestRecord | str:
    try:
        return record_of(row)
    except BadRecord as error:
        return one_line(str(error))


@given(some=lines)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_row_is_predicted_or_left_out(some: list[str], predictor: Predictor, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [line.replace("\n", " ") for line in some])
    out = tmp_path / "out.jsonl"
    summary = predict_corpus(predictor, Request(source, out, tmp_path))
    errors = tmp_path / "out.jsonl.errors.jsonl"
    assert len(read_lines_of(out)) == summary.rows - summary.left_out
    assert (len(read_lines_of(errors)) if errors.exists() else 0) == summary.left_out


def read_lines_of(file: Path) -> list[Any]:
    """Not splitlines(): JSON may hold the other line ends of Unicode."""
    return [json.loads(line) for line in file.read_bytes().split(b"\n") if line]


@given(text=st.text(max_size=60))
@settings(max_examples=100)
def test_words_are_all_of_the_text_but_its_spaces(text: str) -> None:
    places = split_words(text)
    assert "".join(text[start:end] for start, end in places) == "".join(text.split())
    assert all(start < end for start, end in places)
    assert all(before[1] <= after[0] for before, after in pairwise(places))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RT @a_b: #Sale's 1.2!", "RT @ a_b : # Sale ' s 1 . 2 !"),
        ("हिन्दी में é ok", "हिन्दी में é ok"),
        ("a-b…😂😂", "a - b … 😂 😂"),
    ],
)
def test_words_are_split_as_the_annotated_tweets_are(text: str, words: str) -> None:
    assert [text[start:end] for start, end in split_words(text)] == words.split()


# --- killed at any moment ---


def killed_after(steps: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process that is killed right before its next change on disk after `steps` of them; was it?

    The changes of a process of its own count too.
    """
    left = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)
    left[0] = steps
    process = os.fork()
    if process == 0:
        first = os.getpid()

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def count(*arguments: Any, **options: Any) -> Any:
                if left[0] == 0:
                    for each in (first, os.getpid()):
                        os.kill(each, signal.SIGKILL)
                left[0] -= 1
                return change(*arguments, **options)

            return count

        code = 1
        try:
            for module, name in ((os, "replace"), (Path, "unlink"), (Path, "rmdir")):
                setattr(module, name, counted(getattr(module, name)))
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) != 0


def test_killed_before_any_change_on_disk_it_goes_on_and_ends_the_same(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    some: list[Any] = records()
    some[5] = some[12] = "broken"
    source = write_lines(tmp_path / "in.jsonl", some)
    expected = Request(source, tmp_path / "whole.jsonl", images)
    predict_corpus(predictor, expected)
    for kill in range(100):
        request = Request(source, tmp_path / f"{kill}.jsonl", images)
        killed = killed_after(kill, lambda request=request: predict_corpus(predictor, request))
        if not killed:
            break
        done_before = len(list(request.folder.glob("part-???????.jsonl")))
        told: list[int] = []
        assert predict_corpus(predictor, request, told.append)[:2] == (COUNT, 2)
        assert sum(told) == COUNT
        assert told[0] == min(8 * done_before, COUNT) or not (request.folder / "state.json").exists()
        assert request.out.read_bytes() == expected.out.read_bytes()
        assert request.errors.read_bytes() == expected.errors.read_bytes()
    assert kill > 12  # the state, three parts, two of them with errors, two outputs, and all of it removed
    assert left_behind(tmp_path) == set()


@pytest.fixture
def unfinished(predictor: Predictor, images: Path, tmp_path: Path) -> Request:
    """A prediction of which the state and the first part are on disk."""
    request = Request(write_lines(tmp_path / "in.jsonl", records()), tmp_path / "out.jsonl", images)
    assert killed_after(2, lambda: predict_corpus(predictor, request))
    assert len(list(request.folder.glob("part-*.jsonl"))) == 1
    return request


def test_what_is_done_is_not_done_again(
    predictor: Predictor, unfinished: Request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = tmp_path / "stored"
    store = job._store

    def noted(request: Request, window: int, *rest: Any) -> None:
        with stored.open("a") as stream:  # another process stores
            stream.write(f"{window} ")
        store(request, window, *rest)

    monkeypatch.setattr(job, "_store", noted)
    predict_corpus(predictor, unfinished)
    assert stored.read_text() == "1 2 "


def test_errors_of_a_try_that_was_killed_do_not_outlive_what_caused_them(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    some = records()
    missing = images / some[0]["image"]
    content = missing.read_bytes()
    missing.unlink()
    source = write_lines(tmp_path / "in.jsonl", some)
    request = Request(source, tmp_path / "out.jsonl", images, skip_without_image=True)
    try:
        assert killed_after(2, lambda: predict_corpus(predictor, request))  # between the errors and the results
        assert request.part_errors(0).exists()
        assert not request.part(0).exists()
    finally:
        missing.write_bytes(content)
    assert predict_corpus(predictor, request)[:2] == (COUNT, 0)
    assert not request.errors.exists()


def test_an_unfinished_prediction_of_something_else_is_refused(
    predictor: Predictor, unfinished: Request, tmp_path: Path
) -> None:
    other = Predictor(tiny_model(tiny_config().model, seed=1))
    with pytest.raises(ConfigError, match=r"out.jsonl.unfinished: holds an unfinished prediction with another model;"):
        predict_corpus(other, unfinished)
    with pytest.raises(ConfigError, match="with another folder of images and regions"):
        predict_corpus(predictor, Request(unfinished.source, unfinished.out, tmp_path, regions=True))
    write_lines(unfinished.source, records(19))
    with pytest.raises(ConfigError, match="with another corpus;"):
        predict_corpus(predictor, unfinished)
    write_lines(unfinished.source, records())
    assert predict_corpus(predictor, unfinished)[:2] == (COUNT, 0)


def test_a_corpus_that_changes_meanwhile_gives_no_output(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    request = Request(write_lines(tmp_path / "in.jsonl", records()), tmp_path / "out.jsonl", images)

    def change(_: int) -> None:
        write_lines(request.source, records(19))

    with pytest.raises(DataError, match=r"in.jsonl: changed while it was predicted"):
        predict_corpus(predictor, request, change)
    assert not request.out.exists()


def test_two_processes_do_not_share_an_output(predictor: Predictor, unfinished: Request) -> None:
    process = os.fork()
    if process == 0:
        with job.begun(predictor, unfinished):
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
    os.waitpid(process, os.WUNTRACED)  # it stopped while it holds the folder
    try:
        with pytest.raises(ConfigError, match=r"out.jsonl: another process is predicting to this file"):
            predict_corpus(predictor, unfinished)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert predict_corpus(predictor, unfinished)[:2] == (COUNT, 0)


def test_a_kill_leaves_no_process_behind(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", records() * 20)  # more than a pipe holds
    process = os.fork()
    if process == 0:

        def kill(rows: int) -> None:
            if rows:
                started = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
                (tmp_path / "started").write_text(started)
                os.kill(os.getpid(), signal.SIGKILL)

        predict_corpus(predictor, Request(source, tmp_path / "out.jsonl", images), kill)
    os.waitpid(process, 0)
    (worker,) = (tmp_path / "started").read_text().split()
    until = time.monotonic() + 20
    while command_of(worker):
        assert time.monotonic() < until
        time.sleep(0.02)


def command_of(process: str) -> str:
    """Empty for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


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


# --- the command ---


def test_one_tweet(model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = records(1)[0]
    arguments = ["predict", "--model", str(model), "--text", record["text"], "--image", str(images / record["image"])]
    assert main(arguments) == 0
    readable = capsys.readouterr().out
    assert main([*arguments, "--json", "--regions"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["words"] == record["text"].split()
    assert found["aspects"]
    for aspect in found["aspects"]:
        assert f"{aspect['text']}: " in readable
        assert len(aspect["regions"]) == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give either a file of tweets or --text"),
        (["in.jsonl", "--text", "a"], "give either a file of tweets or --text"),
        (["in.jsonl"], "say with --out where the predictions go"),
        (["in.jsonl", "--out", "o.jsonl", "--json"], "--json goes with --text"),
        (["--text", "a", "--out", "o.jsonl"], "--out goes with a file of tweets"),
        (["--text", "a", "--proxy", "a kite"], "--proxy: this clamp model reads nothing that was said of an image"),
        (["--text", "a", "--image", "no.png"], "no.png: no such file"),
        (["--text", " "], "no words"),
        (
            ["in.jsonl", "--out", "o.txt"],
            "o.txt: the name of the output must end in one of .jsonl, .csv, ",
        ),
        (["in.jsonl", "--out", "in.jsonl"], "in.jsonl: the output would overwrite the corpus"),
        (["in.jsonl", "--out", "o.jsonl", "--images", "no"], "no: no such folder of images"),
        (["in.jsonl", "--out", "folder.jsonl"], "folder.jsonl: is a folder"),
    ],
)
def test_options_that_cannot_be_met_are_one_line(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "in.jsonl", records(2))
    (tmp_path / "folder.jsonl").mkdir()
    assert main(["predict", "--model", str(model), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert reason in said
    assert said.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"in.jsonl", "folder.jsonl"}


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "--model", "x", "--batch-size", "0"], ["nothing"]])
def test_usage_errors_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
