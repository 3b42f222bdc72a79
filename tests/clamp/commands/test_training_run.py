"""`clamp sample`, `train` and `evaluate`: from files to a model and its scores, and one line where that cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import BERT
from transformers import BertConfig, BertModel

from clamp.__main__ import main
from clamp.commands.training_run import own_config
from clamp.config import ConfigError, EncoderConfig
from clamp.data import VOCABULARY
from clamp.encoders import load_tokenizer, word_level_tokenizer
from clamp.system.files import locked
from clamp.training.train import TrainingDiverged

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "train": {"epochs": 2, "threads": 1},
    "model": {"dropout": 0.0, "vision": {"channels": [4, 8]}, "text": {"max_tokens": 64}, "heads": 2},
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated tweets as files, beside the weights of a tiny encoder and settings to train it with."""
    folder = tmp_path_factory.mktemp("own")
    assert main(["sample", "--out", str(folder / "sample"), "--tweets", "24"]) == 0
    weights = folder / "weights"
    values = {name: value for name, value in BERT.items() if name != "model_type"}
    undropped = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tokenizer = word_level_tokenizer(VOCABULARY)
    BertModel(BertConfig(**values, **undropped, vocab_size=len(tokenizer))).save_pretrained(weights)
    tokenizer.save_pretrained(weights)
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    return folder


def training(folder: Path, out: Path, *more: str) -> list[str]:
    settings = ["--text", str(folder / "weights"), "--config", str(folder / "settings.json")]
    return ["train", "--data", str(folder / "sample"), "--out", str(out), *settings, *more]


def scores(capsys: pytest.CaptureFixture[str], model: Path, data: Path, split: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", "--model", str(model), "--data", str(data), "--split", split, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("more", [[], ["--architecture", "text_only"], ["--vision", "none"]])
def test_a_model_is_trained_and_scores_as_its_record_says(
    sample: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(training(sample, tmp_path / "out", *more)) == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["config"]["data"]["visual"] == ("none" if more else "image")
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()
    for split in ("dev", "test"):
        found = scores(capsys, tmp_path / "out" / "model", sample / "sample", split)
        assert found["tweets"] == 24
        for task in ("joint", "mate"):
            assert found[task] == record["result"]["metrics"][split][task]
    f1 = record["result"]["metrics"]["test"]["joint"]["f1"]
    assert f"{100 * f1:.1f}" in (tmp_path / "out" / "model" / "README.md").read_text()
    before = (tmp_path / "out" / "result.json").read_bytes()
    capsys.readouterr()
    assert main(training(sample, tmp_path / "out", *more)) == 0  # given again: it is left as it is
    assert f"was trained before: {tmp_path / 'out'}" in capsys.readouterr().err
    assert (tmp_path / "out" / "result.json").read_bytes() == before
    assert "holds a run of other data or settings that is done" in refusal(
        capsys, training(sample, tmp_path / "out", *more, "--seed", "5")
    )
    counts = {"read": 0 if more else 24, "unused": 24 if more else 0}
    assert {name: record["images"]["dev"][name] for name in counts} == counts
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    told = f"train: {counts['read']} read, 0 absent, 0 unread; dev: {counts['read']} read"
    assert told in card
    if more == ["--vision", "none"]:
        assert "| image | not read: trained on words alone |" in card


def test_what_was_said_of_the_images_is_read_where_it_lies_there(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    names = []
    for split in ("train", "dev", "test"):
        text = (sample / "sample" / f"{split}.json").read_text()
        (data / f"{split}.json").write_text(text)
        names += [one["image_id"] for one in json.loads(text)]
    folder = tmp_path / "home"
    folder.mkdir()
    (data / "visual_proxy.json").write_text(json.dumps({n: {"caption": "a kite"} for n in names} | {"other": {}}))
    (folder / "sample").symlink_to(data)
    for name in ("weights", "settings.json"):
        (folder / name).symlink_to(sample / name)
    assert "none of caption, faces, description" in refusal(capsys, training(folder, tmp_path / "out"))
    (data / "visual_proxy.json").write_text(json.dumps({name: {"caption": "a red kite"} for name in names}))
    assert main(training(folder, tmp_path / "out")) == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["config"]["data"]["visual"] == "proxy"
    assert record["result"]["images"]["train"] == {"present": 24, "absent": 0}
    model = tmp_path / "out" / "model"
    before = scores(capsys, model, data, "test")
    more = {name: {"caption": "a red kite", "description": "what it was not trained on"} for name in names}
    (data / "visual_proxy.json").write_text(json.dumps(more))
    assert scores(capsys, model, data, "test") == before
    assert main(["evaluate", "--model", str(model), "--data", str(data)]) == 0
    assert "of images is read: caption\n" in capsys.readouterr().err
    (tmp_path / "out" / "result.json").unlink()
    assert main(["evaluate", "--model", str(model), "--data", str(data)]) == 0
    assert "of images is read: caption, description\n" in capsys.readouterr().err


def test_one_process_trains_in_a_folder(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "out"):
        assert "another process is training there" in refusal(capsys, training(sample, tmp_path / "out"))
    assert main(training(sample, tmp_path / "out")) == 0


def test_a_run_goes_on_with_the_threads_that_it_began_with(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.sched_getaffinity", lambda _: {0})
        patched.setattr("clamp.commands.training_run.train", stop)
        assert main(training(sample, tmp_path / "out")) == 130
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert main(training(sample, tmp_path / "out")) == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["config"]["train"]["threads"] == 1


def test_a_loss_beyond_all_bounds_is_one_line(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise TrainingDiverged("step 3: the loss is nan")

    monkeypatch.setattr("clamp.commands.training_run.train", diverge)
    assert main(training(sample, tmp_path / "out")) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "step 3: the loss is nan; lower rates in --config may help" in line


def test_an_unfinished_run_goes_on_and_no_other_takes_its_place(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"""
import clamp.training.train, os, signal, sys
from clamp.__main__ import main
write = clamp.training.train.write_checkpoint
def die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
clamp.training.train.write_checkpoint = die
main({training(sample, tmp_path / "killed")!r})
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True).returncode == -9
    line = refusal(capsys, training(sample, tmp_path / "killed", "--seed", "1"))
    assert "an unfinished run of other data or settings" in line
    assert main(training(sample, tmp_path / "killed")) == 0
    assert main(training(sample, tmp_path / "whole")) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_torchrun_trains_the_same_over_two_processes(sample: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "clamp"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *training(sample, tmp_path / "two")], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert main(training(sample, tmp_path / "one")) == 0
    curves = [json.loads((tmp_path / n / "result.json").read_text())["result"]["curve"] for n in ("one", "two")]
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["test_f1"] == pytest.approx(one["test_f1"], abs=1e-5)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"train": {"epoch": 3}}, "train.epoch: Unexpected keyword argument"),
        ({"train.epoch": 3}, "train.epoch: Unexpected keyword argument"),
        ({"train": {"epo\nch": 3}}, "train.epo ch: Unexpected keyword argument"),
        ({"model": {"width": 15}}, "does not divide into"),
        ([], "expected an object of config fields"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"train": {"lr_head": Infinity}}', "Infinity is no number of JSON"),
    ],
)
def test_settings_that_cannot_be_used(
    sample: Path, tmp_path: Path, broken: object, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.json"
    file.write_text(broken if isinstance(broken, str) else json.dumps(broken))
    command = training(sample, tmp_path / "out", "--config", str(file))
    line = refusal(capsys, command)
    assert str(file) in line
    assert reason in line
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_used(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = training(sample, tmp_path / "out")
    arguments[2] = str(tmp_path)
    assert "no annotations" in refusal(capsys, arguments)
    assert "no such folder" in refusal(capsys, training(sample, tmp_path / "out", "--text", "./nowhere"))
    model = tmp_path / "nothing"
    model.mkdir()
    assert "options: train.seed: Input should be greater" in refusal(
        capsys, training(sample, tmp_path / "out", "--seed", "-1")
    )
    for name, option in (("hidden_size", "--text"), ("image_size", "--vision")):
        other = tmp_path / option
        other.mkdir()
        kind = "clip" if option == "--text" else "resnet"
        (other / "config.json").write_text(json.dumps({"model_type": kind}))
        line = refusal(capsys, training(sample, tmp_path / "out", option, str(other)))
        assert f"its config has no {name}" in line
    assert "no config.json" in refusal(capsys, ["evaluate", "--model", str(model), "--data", str(sample / "sample")])
    assert "exists already" in refusal(capsys, ["sample", "--out", str(sample)])
    assert "at least one" in refusal(capsys, ["sample", "--out", str(tmp_path / "s"), "--tweets", "0"])


def test_an_encoder_of_any_width_gets_heads_that_divide_it(sample: Path) -> None:
    config = own_config(sample / "sample", "clamp", str(_of_width(sample, 90)), None, None, {})
    assert (config.model.width, config.model.heads) == (90, 1)


def _of_width(folder: Path, width: int) -> Path:
    weights = folder / f"width{width}"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": width}))
    return weights


def test_an_encoder_from_scratch_needs_no_weights(sample: Path, tmp_path: Path) -> None:
    file = tmp_path / "scratch.json"
    file.write_text(json.dumps({"model.text": {"weights": None, "architecture": BERT, "max_tokens": 64}}))
    config = own_config(sample / "sample", "clamp", "wheel:not-installed-here", None, file, {"train.epochs": 3})
    assert (config.model.width, config.model.text.weights, config.train.epochs) == (16, None, 3)
    file.write_text(json.dumps({"model.text": {"weights": None, "architecture": {"model_type": "bert"}}}))
    with pytest.raises(ConfigError, match=r"^model.text: without weights its architecture needs model_type and hidden"):
        own_config(sample / "sample", "clamp", "wheel:not-installed-here", None, file, {})
    with pytest.raises(ConfigError, match=r"^wheel:not-installed-here: not installed; try: pip install"):
        own_config(sample / "sample", "clamp", "wheel:not-installed-here", None, None, {})


def test_images_beside_the_folder_are_trained_on(sample: Path, tmp_path: Path) -> None:
    data = tmp_path / "tw"
    data.mkdir()
    (tmp_path / "tw_images").symlink_to((sample / "sample" / "images").resolve())
    config = own_config(data, "clamp", str(sample / "weights"), None, None, {})
    assert (config.data.visual, config.model.vision.kind) == ("image", "conv")
    (tmp_path / "tw_images").unlink()
    assert own_config(data, "clamp", str(sample / "weights"), None, None, {}).data.visual == "none"


def test_options_have_the_last_word_and_a_log_is_kept(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "sample"
    data.mkdir()
    rows = json.loads((sample / "sample" / "train.json").read_text())
    rows[0]["aspects"][0]["polarity"] = "conflict"
    rows[1]["image_id"] = "gone.png"
    (data / "train.json").write_text(json.dumps(rows))
    (data / "valid.json").write_text((sample / "sample" / "dev.json").read_text())  # and no test
    (data / "images").symlink_to(sample / "sample" / "images")
    for name in ("weights", "settings.json"):
        (tmp_path / name).symlink_to(sample / name)
    more = ["--epochs", "3", "--batch-size", "8", "--lr", "2e-4", "--workers", "1", "--device", "cpu", "--log", "csv"]
    assert "--drop-conflict" in refusal(capsys, training(tmp_path, tmp_path / "out", *more))
    assert main(training(tmp_path, tmp_path / "out", *more, "--drop-conflict")) == 0
    told = capsys.readouterr()
    assert "1 left out because of their labels; images: 23 read, 1 absent, 0 unread" in told.err
    assert "epoch 3 of 3: dev F1" in told.err
    assert told.out.startswith("dev: joint precision")
    assert "test:" not in told.out
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    wanted = {"epochs": 3, "batch_size": 8, "lr_encoder": 2e-4, "lr_head": 2e-3, "threads": 1}
    assert {name: record["config"]["train"][name] for name in wanted} == pytest.approx(wanted)
    assert "test" not in record["result"]["metrics"]
    assert all("test_f1" not in epoch for epoch in record["result"]["curve"])
    rows_of_log = (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert rows_of_log[0] == "epoch,dev_f1,best_dev_f1"
    assert [row.split(",")[0] for row in rows_of_log[1:]] == ["1", "2", "3"]


def test_a_log_that_is_not_installed_is_named(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(training(sample, tmp_path / "out", "--log", "wandb")) == 2
    assert "--log wandb: not installed here; run: pip install wandb" in capsys.readouterr().err


def test_more_sub_words_than_the_encoder_has_positions_for_are_refused(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS | {"model": {**SETTINGS["model"], "text": {"max_tokens": 65}}}  # type: ignore[dict-item]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert main(training(sample, tmp_path / "out", "--config", str(tmp_path / "settings.json"))) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("model.text.max_tokens: 65, but the encoder has 64 positions")


def test_a_tokenizer_without_a_fast_form_is_refused(monkeypatch: pytest.MonkeyPatch, sample: Path) -> None:
    class Slow:
        is_fast = False

    monkeypatch.setattr("clamp.encoders.AutoTokenizer.from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(ConfigError, match=r"its tokenizer has no fast form \(tokenizer.json\)"):
        load_tokenizer(EncoderConfig(weights=str(sample / "weights")), VOCABULARY)


def test_a_text_encoder_from_scratch_learns_the_words_of_its_tweets(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch.json").write_text(
        json.dumps({"model.text": {"weights": None, "architecture": BERT, "max_tokens": 64}, "model.heads": 2})
    )
    command = ["train", "--data", str(sample / "sample"), "--out", str(tmp_path / "out"), "--architecture", "text_only"]
    assert main([*command, "--config", str(tmp_path / "scratch.json"), "--epochs", "1"]) == 0
    tokenizer = json.loads((tmp_path / "out" / "model" / "tokenizer.json").read_text())
    words = [word for row in json.loads((sample / "sample" / "train.json").read_text()) for word in row["words"]]
    expected = {word for word in words if words.count(word) > 1}
    assert set(tokenizer["model"]["vocab"]) == {"[PAD]", "[UNK]"} | expected
