"""Rows that hold no tweet: each is named with its reason, and everything else is predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from corpora import read_lines, records, write_lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamp.__main__ import main
from clamp.corpus import job
from clamp.corpus import lines as lines_of_text
from clamp.corpus.job import predict_corpus
from clamp.corpus.readers import read_rows
from clamp.corpus.request import Request
from clamp.data import DataError
from clamp.inference.predictor import Predictor
from clamp.inference.request_record import BadRecord, CorpusRow, RequestRecord, one_line, record_of

pytestmark = pytest.mark.usefixtures("small_windows")

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
    monkeypatch.setattr(lines_of_text, "LONGEST_LINE", 12_000)
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
    monkeypatch.setattr(lines_of_text, "LONGEST_LINE", 50)
    (tmp_path / "in.csv").write_text('id,text\na,"open\nb,' + "x" * 80 + "\nc,fine\n")
    found = {row.line: row.fault for row in read_rows(tmp_path / "in.csv")}
    assert found.keys() == {2, 3, 4}
    assert found[2].startswith("a quote opens here")
    assert (found[3], found[4]) == ("longer than 50 bytes", "")


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
