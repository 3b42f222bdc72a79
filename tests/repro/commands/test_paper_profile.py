"""The profile `paper` from its command to its tables, at full size: its architectures with random weights, a hundred
real tweets, the few images that are at hand, one epoch. It says nothing of F1; it says that everything fits together.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from repro.efficiency.systems import PAPER
from repro.run.source_hash import package_folder

_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # in RoBERTa's order
_SIZES = {"train": 64, "dev": 20, "test": 16}
_PARAMETERS = {"full": 234_862_352, "text_only": 124_061_959}  # docs/efficiency.md's systems, of the same architecture


@pytest.fixture
def own_data(data_root: Path, tmp_path: Path) -> Path:
    """A folder of a hundred tweets of both data sets as if all were of one, with the sample images in every split."""
    images = sorted((data_root / "images").glob("*.jpg"))
    if len(images) < 3:
        pytest.skip(f"needs a few of the data sets' images in {data_root / 'images'}")
    records = [
        record
        for dataset in ("twitter2015", "twitter2017")
        for split in ("train", "test")
        for record in json.loads((data_root / dataset / f"{split}.json").read_text())
    ]
    at_hand = {image.name for image in images}
    shown = [record for record in records if record["image_id"] in at_hand]
    others = [record for record in records if record["image_id"] not in at_hand][:: len(records) // 100]
    folder = tmp_path / "data" / "twitter2015"
    folder.mkdir(parents=True)
    for k, (split, size) in enumerate(_SIZES.items()):
        own = shown[k::3]
        chosen, others = others[: size - len(own)], others[size - len(own) :]
        assert own
        assert len(own) + len(chosen) == size
        (folder / f"{split}.json").write_text(json.dumps(own + chosen))
    shutil.copytree(data_root / "images", tmp_path / "data" / "twitter2015_images")
    return tmp_path / "data"


@pytest.fixture
def own_weights(own_data: Path, tmp_path: Path) -> dict[str, object]:
    """Config fields that name local folders in place of the hub's: random weights, a tokenizer of these tweets."""
    words = [record["words"] for file in own_data.glob("*/*.json") for record in json.loads(file.read_text())]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((" ".join(row) for row in words), trainer)
    bpe.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )
    text, vision = tmp_path / "roberta", tmp_path / "vit"
    tokenizer.save_pretrained(text)
    torch.manual_seed(0)
    for values, folder in ((PAPER.text, text), (PAPER.vision, vision)):
        architecture = {name: value for name, value in values.items() if name != "model_type"}
        AutoModel.from_config(AutoConfig.for_model(values["model_type"], **architecture)).save_pretrained(folder)
    return {
        "model.text.weights": str(text),
        "model.text.revision": None,
        "model.vision.encoder.weights": str(vision),
        "model.vision.encoder.revision": None,
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_one_command_from_folders_of_weights_to_tables(
    own_data: Path, own_weights: dict[str, object], tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(own_weights | {"train.epochs": 1, "train.batch_size": 8, "train.patience": 1}))
    command = [
        *(sys.executable, "-m", "repro", "run", "--profile", "paper", "--dataset", "twitter2015", "--seeds", "1"),
        *("--only", "full", "text_only", "--processes", "1", "--config", str(config), "--data", str(own_data)),
    ]
    environment = os.environ | {"PYTHONPATH": str(package_folder("repro").parent)}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    estimated = re.search(r"estimate: training 2 runs takes about .* about ([\d.]+) GB of", done.stderr)
    assert estimated is not None
    costs = {}
    for variant, parameters in _PARAMETERS.items():
        file = tmp_path / f"paper_tables/results/paper/twitter2015/{variant}/seed0.json"
        record = json.loads(file.read_text())
        costs[variant] = record["result"]["cost"]
        assert costs[variant]["parameters"] == parameters
        assert record["result"]["metrics"]["test"]["joint"]["gold"] > 0
        assert file.with_name("evaluation-seed0.json").exists()
        assert str(tmp_path) not in file.read_text()
    images = json.loads((tmp_path / "paper_tables/results/paper/twitter2015/full/seed0.json").read_text())["result"][
        "images"
    ]
    assert {split: sum(counts.values()) for split, counts in images.items()} == _SIZES
    assert all(counts["present"] for counts in images.values())
    print({variant: {name: f"{value:.4g}" for name, value in cost.items()} for variant, cost in costs.items()})
    if not torch.cuda.is_available():
        assert 0.6 < costs["full"]["peak_memory_bytes"] / (1e9 * float(estimated[1])) < 1.4
    assert (tmp_path / "paper_tables/main_twitter2015.md").read_text().count("not run") >= 1  # the other systems

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "2 runs, 2 already done" in again.stderr
    for large in ("runs", "roberta", "vit"):
        shutil.rmtree(tmp_path / large)
