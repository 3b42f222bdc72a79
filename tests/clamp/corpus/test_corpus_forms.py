"""A corpus in every form that is read, and predictions in every form that is written."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import tweets
from corpora import read_lines, records, write_lines

from clamp.__main__ import main
from clamp.corpus import readers
from clamp.corpus.job import Summary, predict_corpus
from clamp.corpus.readers import read_rows
from clamp.corpus.request import Request
from clamp.data import Aspect, DataError
from clamp.data.annotations import AnnotatedTweet, read_annotations
from clamp.data.write_annotations import write_annotations
from clamp.inference.predictor import Predictor
from clamp.inference.request_record import record_of

pytestmark = pytest.mark.usefixtures("small_windows")


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
