"""The way that docs/add-a-data-set.md leads, gone with a few tweets of one's own and pictures from a phone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import tiny_config, tiny_model
from PIL import Image

from clamp.__main__ import main
from clamp.corpus.readers import notes_on
from clamp.inference.demo import picture_of
from clamp.inference.predictor import Predictor
from clamp.inference.request_record import CorpusRow, record_of
from repro.__main__ import main as repro_main

DOCS = Path(__file__).parents[3] / "docs" / "add-a-data-set.md"
TWEETS = [
    ("The new tram to Old Harbour finally runs", "IMG_1.jpg", (5, 7, "POS")),
    ("Cold soup again at Mill Street Diner", "Screenshot_2.png", (4, 7, "NEG")),
    ("Sunset over Lake Verin from my window", "IMG_3.HEIC", (2, 4, "NEU")),
    ("Paint fell off the wall of Hotel Aurora", "IMG_4.jpg", (6, 8, "NEG")),
]  # the last picture is not there


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of annotated tweets, their pictures, and a model that learned on them."""
    folder = tmp_path_factory.mktemp("newcomer") / "mine"
    (folder / "images").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 20).convert("RGB").save(folder / "images/IMG_1.jpg", exif=exif)
    Image.new("RGBA", (30, 60), (0, 0, 0, 0)).save(folder / "images/Screenshot_2.png")
    (folder / "images/IMG_3.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    records = [
        {"words": text.split(), "image_id": image, "aspects": [{"from": a, "to": b, "polarity": polarity}]}
        for text, image, (a, b, polarity) in TWEETS
    ]
    for split in ("train", "dev", "test"):
        (folder / f"{split}.json").write_text(json.dumps(records))
    (block,) = re.findall(r"```json\n(\{\"model\.text\".*?)```", DOCS.read_text(), re.DOTALL)
    (folder.parent / "tiny.json").write_text(block)
    out = str(folder.parent / "run")
    config = ["--config", str(folder.parent / "tiny.json"), "--epochs", "1", "--workers", "1"]
    assert main(["train", "--data", str(folder), "--out", out, *config]) == 0
    return folder


def test_images_are_found_where_training_finds_them(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = mine.parent / "found.jsonl"
    assert main(["predict", "--model", str(mine.parent / "run"), str(mine / "test.json"), "--out", str(out)]) == 0
    told = f"images: 1 absent, 2 read, 1 unread (sought in {mine} and {mine / 'images'})"
    assert told in capsys.readouterr().err
    states = [json.loads(line)["image"].partition(":")[0] for line in out.read_text().splitlines()]
    assert states == ["read", "read", "unread", "absent"]
    lines = [{"text": "Old Harbour", "image": name} for name in ("images/IMG_1.jpg", "IMG_1.jpg", "a" * 300)]
    (mine / "more.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert main(["predict", "--model", str(mine.parent / "run"), str(mine / "more.jsonl"), "--out", str(out)]) == 0
    states = [json.loads(line)["image"].partition(":")[0] for line in out.read_text().splitlines()]
    assert states == ["read", "read", "unread"]


def test_a_folder_that_was_given_is_the_only_one_that_is_looked_in(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "predict",
        "--model",
        str(mine.parent / "run"),
        str(mine / "test.json"),
        "--out",
        str(tmp_path / "a.csv"),
    ]
    assert main([*command, "--images", str(tmp_path)]) == 0
    assert f"images: 4 absent (sought in {tmp_path})" in capsys.readouterr().err


def test_the_explorer_takes_a_run_and_finds_its_images(mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert repro_main(["explore", "--model", str(mine.parent / "run"), str(mine / "test.json"), "--out", str(out)]) == 0
    assert "2 of the tweets have no image that could be read" in out.read_text()


def test_evaluation_says_which_images_it_lacks(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", str(mine.parent / "run"), "--data", str(mine)]) == 0
    assert "images: 2 read, 1 absent, 1 unread" in capsys.readouterr().err


def test_what_was_predicted_is_written_beside_what_is_annotated(mine: Path, tmp_path: Path) -> None:
    file = tmp_path / "beside.jsonl"
    command = ["evaluate", "--model", str(mine.parent / "run"), "--data", str(mine), "--predictions", str(file)]
    assert main(command) == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["words"] for line in lines] == [text.split() for text, *_ in TWEETS]
    for line, (_, _, (start, end, polarity)) in zip(lines, TWEETS, strict=True):
        (said,) = line["annotated"]
        assert (said["start"], said["end"], said["polarity"]) == (start, end, polarity)
        assert said["text"] == " ".join(line["words"][start:end])
        assert sum(said["probabilities"].values()) == pytest.approx(1)
        assert all(one["end"] <= len(line["words"]) for one in line["predicted"])


def test_why_one_image_is_not_read_is_said_once(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = mine / "images" / "IMG_3.HEIC"
    assert main(["predict", "--model", str(mine.parent / "run"), "--text", "Lake Verin", "--image", str(image)]) == 2
    assert f"error: {image}: HEIC, which is not read here: save it as JPEG\n" in capsys.readouterr().err


def test_an_image_for_a_model_that_reads_none_is_refused(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Predictor(tiny_model(tiny_config(model__architecture="text_only").model)).save_pretrained(tmp_path)
    image = str(mine / "images" / "IMG_1.jpg")
    assert main(["predict", "--model", str(tmp_path), "--text", "Old Harbour", "--image", image]) == 2
    assert capsys.readouterr().err == "error: --image: this text_only model reads no image\n"


def test_columns_that_are_not_used_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("tweet,photo,mood\nhello,a.jpg,glad\n")
    assert notes_on(tmp_path / "a.csv") == [
        "text from column 'tweet'", "image from column 'photo'", "column 'mood' is not used"
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text('\n{"text": "hello", "pic": "a.jpg"}\n')
    assert notes_on(tmp_path / "a.jsonl") == ["column 'pic' is not used"]
    for content in ("", "{", "[1]", '{"text": "hello"}'):
        (tmp_path / "b.jsonl").write_text(content)
        assert notes_on(tmp_path / "b.jsonl") == []


def test_columns_of_parquet_that_are_not_used_are_said(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs pyarrow: pip install ".[parquet]"')
    parquet.write_table(
        pytest.importorskip("pyarrow").table({"tweet": ["hello"], "mood": ["glad"]}), tmp_path / "a.parquet"
    )
    assert notes_on(tmp_path / "a.parquet") == ["text from column 'tweet'", "column 'mood' is not used"]


@pytest.mark.parametrize("name", ["photo", "Picture", "FILE_NAME", "filename"])
def test_an_image_by_another_name_is_not_lost(name: str) -> None:
    row = json.dumps({"text": "Old Harbour", name: "IMG_1.jpg"}).encode()
    assert record_of(CorpusRow(1, row)).image == "IMG_1.jpg"


def test_a_log_that_is_missing_is_said_before_anything_is_made(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = ["--config", str(mine.parent / "tiny.json"), "--log", "wandb"]
    capsys.readouterr()
    assert main(["train", "--data", str(mine), "--out", str(tmp_path / "run"), *config]) == 2
    assert capsys.readouterr().err == "error: --log wandb: not installed here; run: pip install wandb\n"
    assert not (tmp_path / "run").exists()


def test_the_page_sees_a_picture_as_training_does(mine: Path) -> None:
    seen = picture_of(str(mine / "images" / "Screenshot_2.png"), ValueError)
    assert seen is not None
    assert np.array_equal(seen, np.full((60, 30, 3), 255))
    assert picture_of(None, ValueError) is None
    with pytest.raises(ValueError, match=r"^Picture: HEIC, which is not read here: save it as JPEG$"):
        picture_of(str(mine / "images" / "IMG_3.HEIC"), ValueError)
