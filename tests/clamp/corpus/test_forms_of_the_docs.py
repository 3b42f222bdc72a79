"""Every row of the tables of forms in docs/data.md, held to what the code does with a small file of that form."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from clamp.__main__ import main
from clamp.corpus.convertible import read_any, refuse_convertible
from clamp.corpus.readers import read_rows
from clamp.data import load_twitter
from clamp.data.annotations import AnnotatedTweet, read_annotations
from clamp.data.images import find_image, read_picture
from clamp.data.labels import Labels
from clamp.data.schema import Aspect, DataError
from clamp.inference.request_record import BadRecord, record_of

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
WORDS = ("so", "proud", "of", "Ada", "Lovelace", "not", "of", "Fog")
SEEN = AnnotatedTweet("a.jpg", WORDS, (Aspect(3, 5, "POS"), Aspect(7, 8, "NEG")))
TEXT = " ".join(WORDS)
ADA, FOG = "so proud of $T$ not of Fog", "so proud of Ada Lovelace not of $T$"
HEAD = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n"
ROWS = f"1\t2\ta.jpg\t{ADA}\tAda Lovelace\n2\t0\ta.jpg\t{FOG}\tFog\n"


def rows_of_the_docs() -> dict[str, str]:
    """form -> verdict, of both tables."""
    section = DOCS.read_text().split("\n## Forms\n")[1]
    rows = re.findall(r"^\| (.+?) \| (\w*) \| .*\|$", section, re.MULTILINE)
    return {form: verdict for form, verdict in rows if form != "form"}


def record(**more: object) -> dict[str, object]:
    aspects = [
        {"from": 3, "to": 5, "polarity": "POS", "term": ["Ada", "Lovelace"]},
        {"from": 7, "to": 8, "polarity": "NEG", "term": ["Fog"]},
    ]
    return {"words": list(WORDS), "image_id": "a.jpg", "aspects": aspects} | more


def conll(tags: str) -> str:
    return "IMGID:a\n" + "".join(f"{word}\t{tag}\n" for word, tag in zip(WORDS, tags.split(), strict=True))


def verdict(file: Path, content: str | bytes) -> tuple[str, str]:
    """What becomes of a file of SEEN, and what is said where it is refused."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        assert read_annotations(file) == [SEEN]
        return "read", ""
    except DataError as error:
        said = str(error)
    if main(["convert", str(file), str(file.parent / "converted.json")]) == 0:
        assert read_annotations(file.parent / "converted.json") == [SEEN]
        return "converted", said
    try:
        for row in read_rows(file):
            assert record_of(row).words == WORDS
        return "predicted", said
    except (DataError, BadRecord) as error:
        return "no", str(error)


FILES: dict[str, list[tuple[str, str | bytes, str]]] = {
    "`.json` of VLP-MABSA, AoM and others: `words`, `image_id`, `aspects` with `from`, `to`": [
        ("a.json", json.dumps([record(opinions=[{"term": []}], caption="a fog")]), ""),
        ("b.json", json.dumps([record()]).replace('"POS"', "2").replace('"NEG"', '"Negative"'), ""),
    ],
    "`.tsv` of TomBERT and ESAFN: index, label, image, sentence with `$T$`, target": [
        ("a.tsv", HEAD + ROWS + ROWS, "")
    ],
    "`test.tsv` of TomBERT: the same, without the index": [
        ("a.tsv", "index\t#1 ImageID\t#2 String\t#2 String\n" + re.sub(r"^\d\t", "", ROWS * 2, flags=re.MULTILINE), ""),
    ],
    "`.txt` of TomBERT: sentence, target, label, image, a line each": [
        ("a.txt", f"{ADA}\nAda Lovelace\n1\na.jpg\n{FOG}\nFog\n-1\na.jpg\n", ""),
    ],
    "`.txt`, `.conll` of CMMT and others: `IMGID:` blocks, a word and its tag a line": [
        ("a.txt", conll("O O O B-POS I-POS O O B-NEG").replace("POS\n", "POS\tB-AE\n"), ""),
        ("b.conll", conll("O O O B-POS I-POS O O B-NEG").replace("\t", " "), ""),
    ],
    "tags as `B-POS`, `POS-B`, `B-Positive`, `B_POS`, `T-POS`; BIO, BIOES, BMES, BILOU": [
        (f"{number}.txt", conll(tags), "")
        for number, tags in enumerate(
            [
                "O O O POS-B POS-I O O NEG-B",
                "O O O B-Positive I-Positive O O B-Negative",
                "O O O B_POS I_POS O O B_NEG",
                "O O O T-POS T-POS O O T-NEG",
                "O O O B-POS E-POS O O S-NEG",
                "O O O B-POS L-POS O O U-NEG",
            ]
        )
    ],
    "`.txt` of named entities (MNER): `IMGID:` blocks with `B-PER`": [
        ("a.txt", conll("O O O B-PER I-PER O O B-LOC"), "unknown label 'PER'"),
    ],
    "`.txt` of named entities without `IMGID:` lines (CoNLL-2003)": [
        ("a.txt", conll("O O O B-PER I-PER O O B-LOC").removeprefix("IMGID:a\n"), "neither starts with IMGID:"),
    ],
    "`.json` of a record an aspect (MASC): image, tweet, aspect, polarity": [
        (
            "a.json",
            json.dumps(
                [
                    {
                        "img": "a.jpg",
                        "image_tweets_intensity": 85,
                        "tweet": ADA,
                        "aspect": "Ada Lovelace",
                        "polarity": "POS",
                    },
                    {"img": "a.jpg", "image_tweets_intensity": 85, "tweet": TEXT, "aspect": "Fog", "polarity": "NEG"},
                ]
            ),
            "",
        ),
    ],
    "`.jsonl` of annotated records, of either kind": [
        ("a.jsonl", json.dumps(record()) + "\n\n", ""),
        (
            "b.jsonl",
            "".join(
                json.dumps({"image": "a.jpg", "text": TEXT, "target": term, "label": label}) + "\n"
                for term, label in (("Ada Lovelace", 2), ("Fog", 0))
            ),
            "",
        ),
    ],
    "`.csv` of a row an aspect (Kaggle): text, aspect, sentiment, image": [
        (
            f"{number}.csv",
            sign.join(["Text", "Aspect", "Sentiment", "Image"])
            + "\n"
            + sign.join([TEXT, "Ada Lovelace", "positive", "a.jpg"])
            + "\n"
            + sign.join([f'"{TEXT}"', "Fog", "Negative", "a.jpg"]),
            "",
        )
        for number, sign in enumerate(",;\t")
    ],
    "`.csv` of a polarity a tweet (Kaggle, MVSA as a table)": [("a.csv", f"text,sentiment\n{TEXT},positive\n", "")],
    "`labelResultAll.txt` of MVSA": [
        ("labelResultAll.txt", "ID\ttext,image\n1\tpositive,neutral\n", "neither starts with IMGID:")
    ],
    "`.jsonl`, `.csv`, `.tsv`, `.parquet` of tweets": [
        ("a.jsonl", json.dumps({"text": TEXT}), ""),
        ("a.csv", f"tweet\n{TEXT}\n", ""),
        ("a.tsv", f"id\tsentence\n1\t{TEXT}\n", ""),
    ],
    "`.txt` of a tweet a line": [("a.txt", f"{TEXT}\n{TEXT}\n", "write `text` above them and name it .tsv")],
    "`.xml` of SemEval, boxes of GMNER": [("a.xml", f"<sentence><text>{TEXT}</text></sentence>", "ends in none of")],
    "`.pkl`, `.npz`, `.xlsx`": [(f"a.{suffix}", b"PK\3\4", "ends in none of") for suffix in ("pkl", "npz", "xlsx")],
    "UTF-8 with or without a byte order mark, UTF-16 with one": [
        (f"{encoding}{suffix}", content.encode(encoding), "")
        for suffix, content in ((".json", json.dumps([record()])), (".tsv", HEAD + ROWS))
        for encoding in ("utf-8", "utf-8-sig", "utf-16")
    ],
    "UTF-16 without a mark, Latin-1 and other encodings": [
        ("a.tsv", (HEAD + ROWS).encode("utf-16-le"), ""),
        ("b.txt", conll("O " * 8).replace("Fog", "é").encode("latin-1"), "not UTF-8"),
    ],
    "label `conflict`": [("a.tsv", HEAD + ROWS.replace("\t0\t", "\tconflict\t"), "--drop-conflict leaves")],
    "other labels": [("a.tsv", HEAD + ROWS.replace("\t0\t", "\tsour\t"), "--labels FILE maps others")],
    "two rows of one tweet that contradict each other": [
        ("a.tsv", HEAD + ROWS + ROWS.replace("2\t0\t", "2\t1\t"), "in line 3 it has NEG"),
    ],
}


@pytest.mark.parametrize(
    ("form", "case"), [pytest.param(form, case, id=f"{form[:40]}-{case[0]}") for form in FILES for case in FILES[form]]
)
def test_a_form_is_what_the_docs_say(tmp_path: Path, form: str, case: tuple[str, str | bytes, str]) -> None:
    name, content, reason = case
    documented = rows_of_the_docs()[form]
    if form.startswith(("label", "other", "two rows")):  # a corpus leaves labels aside, whatever they are
        (tmp_path / name).write_text(str(content))
        with pytest.raises(DataError, match=re.escape(reason)):
            read_annotations(tmp_path / name)
        assert documented == "no"
        return
    found, said = verdict(tmp_path / name, content)
    assert found == documented, said
    assert reason in said
    assert len(said.splitlines()) <= 1


def _picture(form: str = "JPEG") -> bytes:
    stream = BytesIO()
    Image.effect_mandelbrot((240, 160), (-2, -1, 1, 1), 20).convert("RGB").save(stream, form)
    return stream.getvalue()


def _every_picture(_: Path) -> str:
    forms = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else [])]
    assert all(read_picture(_picture(form)).pixels_HW3.shape == (160, 240, 3) for form in forms)
    return "read"


def _names(folder: Path) -> str:
    for name in ("a.jpg", "b.PNG"):
        (folder / name).write_bytes(_picture())
    assert find_image(folder, "a") == find_image(folder, "a.png") == folder / "a.jpg"
    assert find_image(folder, "b.PNG").is_file()
    return "read"


def _shortened(keep: float) -> Callable[[Path], str]:
    def judge(_: Path) -> str:
        content = _picture()
        try:
            return "read" if read_picture(content[: int(keep * len(content))]).is_truncated else "whole"
        except DataError:
            return "no"

    return judge


def _heic(_: Path) -> str:
    with pytest.raises(DataError, match="HEIC, which is not read here: save it as JPEG"):
        read_picture(struct.pack(">I", 24) + b"ftypheic" + bytes(100))
    return "no"


def _dev_by_another_name(folder: Path) -> str:
    for name in ("valid", "val", "validation"):
        (folder / name).mkdir()
        (folder / name / f"{name}.json").write_text(json.dumps([record()]))
        assert [tweet.words for tweet in load_twitter(folder / name, "dev", visual="none")] == [WORDS]
    return "read"


OTHERS: dict[str, Callable[[Path], str]] = {
    "`dev` called `valid`, `val` or `validation`": _dev_by_another_name,
    "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF": _every_picture,
    "names without a suffix, or with another usual one": _names,
    "a JPEG that lacks its end": _shortened(0.999),
    "a JPEG that lacks more than a twentieth": _shortened(0.7),
    "HEIC": _heic,
}


@pytest.mark.parametrize("form", OTHERS)
def test_a_name_or_picture_is_what_the_docs_say(tmp_path: Path, form: str) -> None:
    assert OTHERS[form](tmp_path) == rows_of_the_docs()[form]


def test_every_row_has_a_case_and_every_case_a_row() -> None:
    documented = rows_of_the_docs()
    assert set(documented) == {*FILES, *OTHERS}
    assert set(documented.values()) == {"read", "converted", "predicted", "no"}


def test_of_the_two_files_that_tombert_has_of_a_split_either_will_do(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text(f"{ADA}\nAda Lovelace\n1\na.jpg\n{FOG}\nFog\n-1\na.jpg\n")
    (tmp_path / "test.tsv").write_text("index\t#1 ImageID\t#2 String\t#2 String\n")
    refuse_convertible(tmp_path)
    assert [(tweet.words, tweet.aspects) for tweet in load_twitter(tmp_path, "test", visual="none")] == [
        (SEEN.words, SEEN.aspects)
    ]


@pytest.mark.parametrize("name", ["train.jsonl", "valid.csv", "test.json", "test.tsv"])
def test_a_split_to_convert_is_not_passed_over(tmp_path: Path, name: str) -> None:
    content = {
        "train.jsonl": json.dumps(record()),
        "valid.csv": f"text,aspect,polarity,image\n{TEXT},Fog,NEG,a.jpg\n",
        "test.json": json.dumps([{"tweet": ADA, "aspect": "Ada", "polarity": "POS", "img": "a.jpg"}]),
        "test.tsv": f"index\t#1 ImageID\t#2 String\t#2 String\n2\ta.jpg\t{ADA}\tAda\n",
    }
    (tmp_path / name).write_text(content[name])
    file = str(tmp_path / name)
    way_out = f"{file}: not read in this form; convert it first: clamp convert {file} {tmp_path / Path(name).stem}.json"
    with pytest.raises(DataError, match=re.escape(way_out)):
        refuse_convertible(tmp_path)
    if not name.endswith(".json"):  # once converted, the other file counts
        assert main(["convert", file, file.rpartition(".")[0] + ".json"]) == 0
        refuse_convertible(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "{}\n{", "line 1: no aspect, aspect_term, target, term"),
        ("a.jsonl", json.dumps(record()) + "\n{", "line 2: Invalid JSON"),
        ("a.jsonl", "[1]", "line 1: no JSON object"),
        ("a.jsonl", json.dumps(record(image_id="../a.jpg")), "line 1: image '../a.jpg' is not the name"),
        ("a.jsonl", json.dumps(record(image_id="")), "line 1: it names no image"),
        ("a.jsonl", json.dumps(record(aspects=["Ada"])), "line 1: aspects: not a list of objects"),
        ("a.jsonl", "\n", "no tweets"),
        (
            "a.csv",
            "text,aspect,label,image\nFog and Fog,Fog,POS,a.jpg",
            "line 2: 'Fog' occurs 2 times in the text; $T$",
        ),
        ("a.csv", "text,aspect,label,image\nFog,Fog,sour,a.jpg", "line 2: unknown label 'sour'"),
        ("a.csv", "text,aspect,label,image\nFog,Fog,POS", "line 2: 3 fields instead of 4"),
        ("a.csv", 'text,aspect,label,image\n"Fog,Fog,POS,a.jpg', "line 2: unexpected end of data"),
        (
            "a.csv",
            "text,aspect,label,image\nFog,Fog,POS,a\nFog,Fog,NEG,a",
            "line 3: aspect 0:1 NEG contradicts 0:1 POS of",
        ),
        ("a.tsv", "index\t#1 ImageID\t#2 String\t#2 String\n2\ta\tFog\tFog\n", "line 2: $T$ is to occur once"),
        ("a.tsv", "index\t#1 ImageID\t#2 String\t#2 String\n2\ta\n", "line 2: 2 fields instead of label, image"),
        ("a.json", json.dumps([{"aspect": "x", "label": "POS", "img": "a.jpg"}]), "record 0: 'x' occurs 0 times"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / name}: {reason}")):
        read_any(tmp_path / name, Labels())


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,aspect,label,image\nFog,Fog,conflict,a.jpg\n")
    assert read_any(tmp_path / "a.csv", Labels(drop_conflict=True)) == [AnnotatedTweet("a.jpg", ("Fog",), (), 1)]


def test_the_pixels_of_a_picture_are_those_that_were_saved() -> None:
    assert np.array_equal(read_picture(_picture("PNG")).pixels_HW3, read_picture(_picture("BMP")).pixels_HW3)
