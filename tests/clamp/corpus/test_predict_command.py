"""`clamp predict` of one tweet, and options that cannot be met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpora import read_lines, records, write_lines

from clamp.__main__ import main

pytestmark = pytest.mark.usefixtures("small_windows")


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
