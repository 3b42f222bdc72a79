"""The three annotation forms: what is well formed comes back, and every fault is one line that names it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamp.data.annotations import (
    AnnotatedTweet,
    read_annotations,
    read_conll_records,
    read_json_records,
    read_target_records,
)
from clamp.data.labels import Labels
from clamp.data.schema import POLARITIES, Aspect, DataError
from clamp.data.write_annotations import write_annotations

files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
LABELS = {"NEG": "0", "NEU": "1", "POS": "2"}

# No separators: a word of the tab-separated forms cannot hold them.
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6).filter(
    lambda word: word != "$T$"
)
image_ids = st.from_regex(r"[A-Za-z0-9_]{1,12}\.jpg", fullmatch=True)


@st.composite
def records(draw: st.DrawFn, fewest_aspects: int = 0) -> AnnotatedTweet:
    tweet = draw(st.lists(words, min_size=3, max_size=12))
    cuts = draw(st.lists(st.integers(0, len(tweet)), unique=True, min_size=2 * fewest_aspects, max_size=6))
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    aspects = [Aspect(*span, draw(st.sampled_from(POLARITIES))) for span in zip(cuts[::2], cuts[1::2], strict=True)]
    return AnnotatedTweet(draw(image_ids), tuple(tweet), tuple(aspects))


def as_json(record: AnnotatedTweet) -> dict[str, Any]:
    aspects = [
        {"from": a.start, "to": a.end, "polarity": a.polarity, "term": list(record.words[a.start : a.end])}
        for a in record.aspects
    ]
    return {"words": list(record.words), "image_id": record.image_id, "aspects": aspects, "noun": []}


def as_conll(record: AnnotatedTweet) -> str:
    tags = ["O"] * len(record.words)
    for a in record.aspects:
        tags[a.start : a.end] = [f"B-{a.polarity}"] + [f"I-{a.polarity}"] * (a.end - a.start - 1)
    rows = [f"{word}\t{tag}\tO\n" for word, tag in zip(record.words, tags, strict=True)]
    return f"IMGID:{record.image_id.removesuffix('.jpg')}\n" + "".join(rows) + "\n"


def as_rows(record: AnnotatedTweet) -> str:
    rows = []
    for a in record.aspects:
        sentence = " ".join([*record.words[: a.start], "$T$", *record.words[a.end :]])
        target = " ".join(record.words[a.start : a.end])
        rows.append(f"7\t{LABELS[a.polarity]}\t{record.image_id}\t{sentence}\t{target}\n")
    return "".join(rows)


@files
@given(st.lists(records(), max_size=4))
def test_json_round_trip(tmp_path: Path, expected: list[AnnotatedTweet]) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([as_json(record) for record in expected]), encoding="utf-8")
    assert read_json_records(file) == expected


@files
@given(st.lists(records(), max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_conll_round_trip(tmp_path: Path, expected: list[AnnotatedTweet], end: str) -> None:
    file = tmp_path / "train.txt"
    file.write_text("".join(map(as_conll, expected)), encoding="utf-8", newline=end)
    assert read_conll_records(file) == expected


@files
@given(st.lists(records(fewest_aspects=1), max_size=4, unique_by=lambda r: (r.image_id, r.words)))
def test_rows_round_trip(tmp_path: Path, expected: list[AnnotatedTweet]) -> None:
    file = tmp_path / "train.tsv"
    file.write_text("index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n" + "".join(map(as_rows, expected)), "utf-8")
    assert read_target_records(file) == expected


def test_aspects_come_in_the_order_of_the_words(tmp_path: Path) -> None:
    record = AnnotatedTweet("1.jpg", ("a", "b", "c"), (Aspect(0, 1, "POS"), Aspect(2, 3, "NEG")))
    raw = as_json(record)
    raw["aspects"].reverse()
    (tmp_path / "dev.json").write_text(json.dumps([raw]))
    assert read_json_records(tmp_path / "dev.json") == [record]


def test_the_term_may_be_absent(tmp_path: Path) -> None:
    raw = as_json(AnnotatedTweet("1.jpg", ("a", "b"), (Aspect(0, 1, "POS"),)))
    del raw["aspects"][0]["term"]
    (tmp_path / "dev.json").write_text(json.dumps([raw]))
    assert read_json_records(tmp_path / "dev.json")[0].aspects == (Aspect(0, 1, "POS"),)


def sound() -> dict[str, Any]:
    return as_json(AnnotatedTweet("1.jpg", ("Joe", "met", "Ann", "Lee"), (Aspect(0, 1, "POS"), Aspect(2, 4, "NEG"))))


def broken(*path: str | int, value: Any) -> dict[str, Any]:
    """The sound record with one place replaced, or removed (value ...)."""
    record = sound()
    node: Any = record
    for step in path[:-1]:
        node = node[step]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (broken("aspects", 1, "to", value=5), "aspect 2:5 lies outside the 4 words"),
        (broken("aspects", 0, "from", value=-1), "aspect -1:1 lies outside the 4 words"),
        (broken("aspects", 1, "to", value=2), "aspect 2:2 is empty"),
        (broken("aspects", 1, "to", value=1), "aspect 2:1 is empty"),
        (broken("aspects", 0, "to", value=3), "aspect 2:4 overlaps the one before it"),
        (broken("aspects", 1, value=sound()["aspects"][0]), "aspect 0:1 overlaps the one before it"),
        (
            broken("aspects", 0, "polarity", value="GOOD"),
            "aspects.0.polarity: unknown label 'GOOD'; known are POS,",
        ),
        (broken("aspects", 0, "polarity", value=...), "aspects.0.polarity: Field required"),
        (broken("aspects", 0, "from", value=...), "aspects.0.from: Field required"),
        (broken("aspects", 0, "from", value="0"), "aspects.0.from: Input should be a valid integer"),
        (broken("aspects", 0, "from", value=False), "aspects.0.from: Input should be a valid integer"),
        (broken("aspects", 0, "term", value=["Jo"]), "term ['Jo'] is not ['Joe'], words 0:1"),
        (broken("aspects", value={}), "aspects: Input should be a valid"),
        (broken("aspects", value=...), "aspects: Field required"),
        (broken("words", value=[]), "no words"),
        (broken("words", 1, value=""), "empty word ''"),
        (broken("words", 1, value=" "), "empty word ' '"),
        (broken("words", 1, value=3), "words.1: Input should be a valid string"),
        (broken("words", value="Joe"), "words: Input should be a valid"),
        (broken("words", value=...), "words: Field required"),
        (broken("image_id", value=...), "image_id: Field required"),
        (broken("image_id", value=1.7), "image_id: Input should be a valid string"),
        (broken("image_id", value=""), "image_id '' is not a file name"),
        (broken("image_id", value=".."), "image_id '..' is not a file name"),
        (broken("image_id", value="../../etc/passwd"), "image_id '../../etc/passwd' is not a file name"),
        (broken("image_id", value="a\\b.jpg"), r"image_id 'a\\b.jpg' is not a file name"),
        (broken("image_id", value="a\0.jpg"), r"image_id 'a\x00.jpg' is not a file name"),
        ([], "Input should be"),
        (None, "Input should be"),
    ],
)
def test_a_faulty_json_record(tmp_path: Path, record: Any, reason: str) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([sound(), record]))
    with pytest.raises(DataError, match="^" + re.escape(f"{file}: record 1: {reason}")):
        read_json_records(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps([sound()]).encode()[:60], "Invalid JSON: EOF while parsing"),
        (b"", "Invalid JSON: EOF while parsing"),
        (json.dumps([sound()]).encode("utf-16-le"), "Invalid JSON: "),
        (json.dumps([sound()]).encode("utf-16")[:-1], "not UTF-16 at byte "),
        ('["é"]'.encode("latin-1"), "not UTF-8 at byte 2"),
        (b'{"words": []}', "Input should be a valid"),
        (b"[" * 100_000, "Invalid JSON: recursion limit"),
        (b'[{"words": ["\\ud83d"], "image_id": "1.jpg", "aspects": []}]', "Invalid JSON: "),
    ],
)
def test_a_faulty_json_file(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "train.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match="^" + re.escape(f"{file}: {reason}")):
        read_json_records(file)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["IMGID:1", "Joe\tI-POS"], "I-POS at word 0 continues no POS span"),
        (["IMGID:1", "Joe\tB-POS", "Lee\tI-NEG"], "I-NEG at word 1 continues no NEG span"),
        (["IMGID:1", "Joe\tB-POS", "and\tO", "Lee\tI-POS"], "I-POS at word 2 continues no POS span"),
        (
            ["IMGID:1", "Joe\tB-PER"],
            "unknown label 'PER'; known are POS, NEU and NEG, positive, neutral",
        ),
        (["IMGID:1", "Joe\tB"], "unknown tag 'B'"),
        (["IMGID:1", "Joe\t"], "unknown tag ''"),
        (["IMGID:1", "Joe"], "no tag in 'Joe'"),
        (["IMGID:1", "\tO"], "empty word ''"),
        (["Joe\tB-POS"], r"starts with 'Joe\tB-POS', not with IMGID:"),
        (["IMGID:", "Joe\tO"], "image_id '' is not a file name"),
        (["IMGID:../1", "Joe\tO"], "image_id '../1.jpg' is not a file name"),
        (["IMGID:1"], "no words"),
    ],
)
def test_a_faulty_conll_record(tmp_path: Path, lines: list[str], reason: str) -> None:
    file = tmp_path / "train.txt"
    file.write_text("IMGID:0\nAnn\tB-POS\n\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="^" + re.escape(f"{file}: record 1: {reason}")):
        read_conll_records(file)


def test_conll_spans_touch_without_merging(tmp_path: Path) -> None:
    rows = ["IMGID:1.png", "a\tB-POS\tB-AE", "b\tI-POS\tI-AE", "c\tB-POS\tB-AE", "d\tB-NEU\tB-AE"]
    (tmp_path / "dev.txt").write_text("\n\n" + "\n".join(rows))  # no line break at the end
    (record,) = read_conll_records(tmp_path / "dev.txt")
    assert record.image_id == "1.png"
    assert record.aspects == (Aspect(0, 2, "POS"), Aspect(2, 3, "POS"), Aspect(3, 4, "NEU"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1\t3\t1.jpg\t$T$ ran\tJoe", "line 3: unknown label '3'; known are POS, NEU and NEG, positive, neutral and"),
        ("1\tconflict\t1.jpg\t$T$ ran\tJoe", "line 3: label 'conflict' is no polarity; --drop-conflict leaves such"),
        ("1\t1\t1.jpg\tJoe ran\tJoe", "line 3: $T$ occurs 0 times instead of once"),
        ("1\t1\t1.jpg\t$T$ or $T$\tJoe", "line 3: $T$ occurs 2 times instead of once"),
        ("1\t1\t1.jpg\t$T$ ran", "line 3: 4 fields instead of index, label, image, sentence, target"),
        ("1\t1\t1.jpg\t$T$ ran\t ", "line 3: the target is empty"),
        ("1\t1\t../1.jpg\t$T$ ran\tJoe", "line 3: image_id '../1.jpg' is not a file name"),
        ("0\t2\t0.jpg\t$T$ ran\tAnn", "line 3: 'Ann' has polarity POS, in line 2 it has NEU"),
        ("0\t1\t0.jpg\t$T$\tAnn ran", "line 3: 'Ann ran' overlaps 'Ann' of line 2"),
    ],
)
def test_a_faulty_row(tmp_path: Path, row: str, reason: str) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(f"index\tlabel\n0\t1\t0.jpg\t$T$ ran\tAnn\n{row}\n")
    with pytest.raises(DataError, match="^" + re.escape(f"{file}: {reason}")):
        read_target_records(file)


def test_rows_without_their_header(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("0\t1\t0.jpg\t$T$ ran\tAnn\n")
    with pytest.raises(DataError, match=r"train\.tsv: the header does not start with 'index'$"):
        read_target_records(tmp_path / "train.tsv")


READERS = {
    "train.json": (read_json_records, json.dumps([sound(), sound()], ensure_ascii=False)),
    "train.txt": (read_conll_records, as_conll(AnnotatedTweet("1.jpg", ("Zoë", "ran"), (Aspect(0, 1, "POS"),))) * 2),
    "train.tsv": (
        read_target_records,
        "index\n" + as_rows(AnnotatedTweet("1.jpg", ("Zoë", "ran"), (Aspect(0, 1, "POS"),))),
    ),
}


@settings(files, max_examples=150)
@given(name=st.sampled_from(sorted(READERS)), data=st.data())
def test_corrupt_bytes_are_read_or_refused_in_one_line(tmp_path: Path, name: str, data: st.DataObject) -> None:
    reader, content = READERS[name]
    raw = bytearray(content.encode())
    start = data.draw(st.integers(0, len(raw)))
    raw[start : start + data.draw(st.integers(0, 8))] = data.draw(
        st.one_of(
            st.binary(max_size=6), st.sampled_from([b"\t", b"\n\n", b"}", b"]", b'"', b"NaN", b"1e999", b"9" * 5000])
        )
    )
    file = tmp_path / name
    file.write_bytes(raw)
    try:
        reader(file)
    except DataError as error:
        refusal = str(error)
    else:
        return
    assert refusal.startswith(str(file))
    assert len(refusal.splitlines()) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
json_paths = st.sampled_from(
    [("words",), ("words", 0), ("image_id",), ("aspects",), ("aspects", 1)]
    + [("aspects", 0, key) for key in ("from", "to", "polarity", "term")]
)


@settings(files, max_examples=150)
@given(path=json_paths, value=json_values)
def test_any_json_value_in_any_place_is_read_or_refused_in_one_line(tmp_path: Path, path: tuple, value: Any) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([broken(*path, value=value)]))
    try:
        (record,) = read_json_records(file)
    except DataError as error:
        refusal = str(error)
    else:
        assert all(0 <= a.start < a.end <= len(record.words) for a in record.aspects)
        return
    assert len(refusal.splitlines()) == 1


# --- what releases hold ---

NAMES = ("so", "proud", "of", "Ada", "Lovelace", "not", "of", "Fog")
SEEN = AnnotatedTweet("a.jpg", NAMES, (Aspect(3, 5, "POS"), Aspect(7, 8, "NEG")))


def conll(tags: str, between: str = "\t") -> str:
    return "IMGID:a\n" + "".join(f"{word}{between}{tag}\n" for word, tag in zip(NAMES, tags.split(), strict=True))


@pytest.mark.parametrize(
    "tags",
    [
        "O O O B-POS I-POS O O B-NEG",
        "O O O B-Positive I-positive O O B-NEGATIVE",
        "O O O POS-B POS-I O O NEG-B",
        "O O O T-POS T-POS O O T-NEG",
        "O O O B-POS E-POS O O S-NEG",
        "O O O B-POS L-POS O O U-NEG",
        "O O O B_POS I_POS O O B_NEG",
        "o o o b-pos i-pos o o b-neg",
    ],
)
@pytest.mark.parametrize("between", ["\t", " ", "  "])
def test_tags_in_every_scheme_and_spelling(tmp_path: Path, tags: str, between: str) -> None:
    (tmp_path / "a.txt").write_text(conll(tags, between))
    assert read_annotations(tmp_path / "a.txt") == [SEEN]


def test_a_scheme_with_ends_keeps_neighbours_apart(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("IMGID:a\na\tB-POS\nb\tE-POS\nc\tS-POS\nd\tT-POS\ne\tT-NEG\nf\tT-NEG\n")
    (tweet,) = read_annotations(tmp_path / "a.conll")
    assert tweet.aspects == (Aspect(0, 2, "POS"), Aspect(2, 3, "POS"), Aspect(3, 4, "POS"), Aspect(4, 6, "NEG"))
    (tmp_path / "b.conll").write_text("IMGID:a\na\tS-POS\nb\tI-POS\n")
    with pytest.raises(DataError, match="record 0: I-POS at word 1 continues no POS span"):
        read_annotations(tmp_path / "b.conll")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_form_in_every_encoding_with_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([as_json(SEEN)]), encoding)
    (tmp_path / "b.txt").write_text(conll("O O O B-POS I-POS O O B-NEG") + " \t\n", encoding)
    (tmp_path / "c.tsv").write_text(ROW_HEAD + as_rows(SEEN), encoding)
    for name in ("a.json", "b.txt", "c.tsv"):
        assert read_annotations(tmp_path / name) == [SEEN]


ROW_HEAD = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n"
FOUR = "so proud of $T$ not of Fog\nAda Lovelace\n1\na.jpg\nso proud of Ada Lovelace not of $T$\nFog\n-1\na.jpg\n"


def test_four_lines_a_target(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FOUR)
    labels = Labels()
    assert read_annotations(tmp_path / "a.txt", labels) == [SEEN]
    assert labels.notes == ["labels are numbers: -1 = NEG, 0 = NEU, 1 = POS, as in the TomBERT release"]
    (tmp_path / "b.txt").write_text(FOUR + "$T$ ran\nJoe\n")
    with pytest.raises(DataError, match=r"b\.txt: line 9: 2 lines instead of four"):
        read_annotations(tmp_path / "b.txt")
    (tmp_path / "c.txt").write_text(FOUR.replace("-1", "2"))
    with pytest.raises(DataError, match=r"line 5: unknown label '2'; .* -1 = NEG, 0 = NEU, 1 = POS"):
        read_annotations(tmp_path / "c.txt")


def test_a_tweet_twice_in_a_table_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(ROW_HEAD + as_rows(SEEN) + as_rows(SEEN))
    assert read_annotations(tmp_path / "a.tsv") == [SEEN]


def test_numbers_and_words_in_json(tmp_path: Path) -> None:
    raw = as_json(SEEN) | {"image_id": 12}
    raw["aspects"][0]["polarity"], raw["aspects"][1]["polarity"] = 2, "negative"
    (tmp_path / "a.json").write_text(json.dumps([raw]))
    labels = Labels()
    (tweet,) = read_annotations(tmp_path / "a.json", labels)
    assert (tweet.image_id, tweet.aspects) == ("12", SEEN.aspects)
    assert labels.notes == ["labels are numbers: 0 = NEG, 1 = NEU, 2 = POS, as in the TomBERT release"]


def test_conflict_is_refused_or_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(conll("B-conflict I-conflict O B-POS I-POS O O B-NEG"))
    with pytest.raises(DataError, match="label 'conflict' is no polarity; --drop-conflict"):
        read_annotations(tmp_path / "a.txt")
    assert read_annotations(tmp_path / "a.txt", Labels(drop_conflict=True)) == [replace(SEEN, dropped=1)]
    rows = as_rows(SEEN) + "9\tconflict\ta.jpg\t$T$ proud of Ada Lovelace not of Fog\tso\n"
    (tmp_path / "b.tsv").write_text(ROW_HEAD + rows)
    assert read_annotations(tmp_path / "b.tsv", Labels(drop_conflict=True)) == [replace(SEEN, dropped=1)]


def test_labels_are_mapped_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps({"Gut": "POS", "bad": "NEG", "PER": "drop"}))
    labels = Labels.read(tmp_path / "labels.json", drop_conflict=False)
    (tmp_path / "a.txt").write_text(conll("B-PER O O B-gut I-gut O O B-BAD"))
    assert read_annotations(tmp_path / "a.txt", labels) == [replace(SEEN, dropped=1)]
    (tmp_path / "labels.json").write_text(json.dumps({"gut": "GOOD"}))
    with pytest.raises(DataError, match=r"labels.json: record 'gut': Input should be 'POS', 'NEU', 'NEG' or 'drop'"):
        Labels.read(tmp_path / "labels.json", drop_conflict=False)


@files
@given(st.lists(records(fewest_aspects=1), max_size=4, unique_by=lambda r: (r.image_id, r.words)))
def test_what_is_written_is_read(tmp_path: Path, expected: list[AnnotatedTweet]) -> None:
    for name in ("a.json", "a.conll", "a.tsv"):
        assert write_annotations(tmp_path / name, expected) == 0
        assert read_annotations(tmp_path / name) == expected


def test_what_a_form_cannot_hold_is_named(tmp_path: Path) -> None:
    spaced = AnnotatedTweet("a.jpg", ("a b", "c\td"), (Aspect(0, 1, "POS"),))
    bare = AnnotatedTweet("a.jpg", ("a",), ())
    assert write_annotations(tmp_path / "a.json", [spaced]) == 0
    for name in ("a.conll", "a.tsv"):
        with pytest.raises(DataError, match=f"{name}: record 1: a word holds a "):
            write_annotations(tmp_path / name, [bare, spaced])
        assert not (tmp_path / name).exists()
    assert write_annotations(tmp_path / "b.tsv", [bare]) == 1
