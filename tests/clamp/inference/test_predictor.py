"""A model as a thing to call, to save, and to exchange with the hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.hub_mixin
import numpy as np
import pytest
import torch
from builders import batch_of, gradients, tiny_config, tiny_model, tweets, with_proxies
from PIL import Image

import clamp.inference.predictor
from clamp.baselines import ARCHITECTURES
from clamp.config import ConfigError
from clamp.data import DataError, Tweet
from clamp.data.collate import EncodedTweets
from clamp.evaluate import predict
from clamp.inference.model_folder import model_folder
from clamp.inference.predictor import FETCHED, Predictor
from clamp.tagging import polarity_probabilities

RECORD = {
    "seed": 17,
    "config": {"data": {"name": "synthetic", "visual": "image"}},
    "result": {
        "best_epoch": 6,
        "cost": {"parameters": 239216},
        "metrics": {
            "dev": {"joint": {"precision": 0.5, "recall": 0.25, "f1": 0.333}, "mate": {"f1": 0.9}, "masc": {}},
            "test": {"joint": {"f1": 0.5551}},
        },
    },
    "provenance": {"source_hash": "56e1b76a6dac3a7f", "git_sha": "abc", "data": {"synthetic/train": "1150aa"}},
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model(tiny_config().model))


def as_records(some: list[Tweet]) -> list[dict[str, Any]]:
    return [{"id": t.id, "words": list(t.words), "image": t.image, "proxy": t.proxy_text} for t in some]


# --- what it predicts ---


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_spans_are_those_of_evaluation(architecture: str) -> None:
    model = tiny_model(tiny_config(model__architecture=architecture).model)
    some = tweets(40)
    expected = predict(model, EncodedTweets(some, model.tokenizer, model.config), batch_size=8).spans
    found = Predictor(model).predict(as_records(some), batch_size=8)
    assert [[(a.start, a.end, a.polarity) for a in p.aspects] for p in found] == expected
    assert sum(map(len, expected)) > 20
    assert [p.id for p in found] == [t.id for t in some]


def test_probabilities_are_those_of_a_given_span(predictor: Predictor) -> None:
    model, some = predictor.model, tweets(12)
    found = predictor.predict(as_records(some), batch_size=12)
    data = EncodedTweets(some, model.tokenizer, model.config)
    several_words = 0
    for index, prediction in enumerate(found):
        with torch.no_grad():
            log_probs_BTC = model(data.batch([index])).tag_logits_BTC.double().log_softmax(dim=-1)
        for aspect in prediction.aspects:
            expected = polarity_probabilities(log_probs_BTC, [(0, aspect.start, aspect.end)])[0].tolist()
            assert aspect.probabilities == pytest.approx(expected, abs=1e-5)  # float32 states in other batches
            assert aspect.probability == aspect.probabilities[("POS", "NEU", "NEG").index(aspect.polarity)]
            several_words += aspect.end - aspect.start > 1
    assert several_words


def test_text_is_split_and_aspects_know_their_characters(predictor: Predictor) -> None:
    text = "the  lovely red-blue circle, (wow) 😀 नमस्ते"
    found = predictor(text)
    words = ("the", "lovely", "red", "-", "blue", "circle", ",", "(", "wow", ")", "😀", "नमस्ते")
    assert found.words == words
    assert found.aspects
    for aspect in found.aspects:
        assert text[aspect.start_char : aspect.end_char] == aspect.text
        assert "".join(aspect.text.split()) == "".join(words[aspect.start : aspect.end])


def test_image_as_file_as_pixels_and_none(predictor: Predictor, tmp_path: Path) -> None:
    pixels = tweets(1)[0].image
    assert isinstance(pixels, np.ndarray)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    text = " ".join(tweets(1)[0].words)
    by_file, by_pixels = predictor(text, tmp_path / "x.png"), predictor(text, pixels)
    assert by_file == by_pixels == predictor(text, str(tmp_path / "x.png"))
    assert [a.probabilities for a in predictor(text).aspects] != [a.probabilities for a in by_file.aspects]


def test_regions_are_where_the_last_stage_looked(predictor: Predictor) -> None:
    tweet = tweets(1)[0]
    model = predictor.model
    with torch.no_grad():
        output = model(EncodedTweets([tweet], model.tokenizer, model.config).batch([0]), need_attention=True)
    attention_BTR = output.stages[-1].attention_BTR
    assert attention_BTR is not None
    found = predictor.predict(as_records([tweet]), regions=True)[0]
    for aspect in found.aspects:
        weight_R = attention_BTR[0, aspect.start : aspect.end].mean(dim=0)
        assert aspect.regions is not None
        assert [r.weight for r in aspect.regions] == pytest.approx(weight_R.topk(3).values.tolist())
        first = aspect.regions[0]
        assert first.row * output.grid[1] + first.column == int(weight_R.argmax())
        box = (first.column / 8, first.row / 8, (first.column + 1) / 8, (first.row + 1) / 8)
        assert (first.left, first.top, first.right, first.bottom) == box
    assert "looks at row" in str(found)


def test_regions_without_an_image_are_none_and_unasked_absent(predictor: Predictor) -> None:
    text = " ".join(tweets(1)[0].words)
    aspects = predictor(text, regions=True).aspects
    assert aspects
    assert {a.regions for a in aspects} == {()}
    assert {a.regions for a in predictor(text).aspects} == {None}


def test_pooled_boxes_cover_their_patches() -> None:
    from clamp.inference.decoding import boxes

    assert boxes("pooled", (3, 4))[1] == (0, 1, 0.5, 0.0, 1.0, 2 / 3)
    assert boxes("pooled", (3, 4))[2] == (1, 0, 0.0, 2 / 3, 0.5, 1.0)
    assert boxes("image", (3, 4)) == ((0, 0, 0.0, 0.0, 1.0, 1.0),)


def test_regions_of_a_proxy_are_its_words() -> None:
    model = tiny_model(tiny_config(model__vision__kind="proxy").model)
    found = Predictor(model).predict(as_records(with_proxies(tweets(4))), regions=True)
    said = {word for tweet in with_proxies(tweets(4)) for word in tweet.proxy_text.split()} | {"[UNK]"}
    regions = [r for p in found for a in p.aspects for r in a.regions or ()]
    assert regions
    assert {r.text for r in regions} <= said


def test_words_that_are_not_read_are_counted(predictor: Predictor) -> None:
    found = predictor("so " * 100)
    assert (len(found.words), found.words_read) == (100, 64)
    assert all(a.end <= 64 for a in found.aspects)
    assert "only the first 64 of 100 words" in str(found)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "neither text nor words"),
        ({"text": " \n"}, "no words"),
        ({"words": []}, "no words"),
        ({"words": ["a", " "]}, "empty word ' '"),
        ({"text": "a", "image": np.zeros((4, 4))}, "image: neither a file's path nor its content nor pixels"),
        ({"text": "a", "image": 5}, "image: neither a file's path nor its content nor pixels"),
        ({"text": 5}, "text: Input should be a valid string"),
        ({"text": "a\ud800"}, "not text: surrogates not allowed"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(predictor: Predictor, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=f"^records: record 1: {reason}"):
        predictor.predict([{"text": "fine"}, fields])


def test_a_model_without_regions_says_so() -> None:
    text_only = Predictor(tiny_model(tiny_config(model__architecture="text_only").model))
    with pytest.raises(ConfigError, match="text_only model reads no regions"):
        text_only("a lovely day", regions=True)
    seen, unseen = text_only("a lovely day", "no/such.png"), text_only("a lovely day")
    assert (seen.aspects, seen.image, unseen.image) == (unseen.aspects, "not used", "none")  # it opens no image
    assert str(seen).endswith("(image: not used)")


def test_what_became_of_an_image_is_said(predictor: Predictor, tmp_path: Path) -> None:
    whole, cut, broken = tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.png"
    Image.new("RGB", (64, 64), (90, 20, 200)).save(whole)
    cut.write_bytes(whole.read_bytes()[:-2])
    broken.write_bytes(b"no image")
    some = [{"text": "the red kite", "image": image} for image in (whole, cut, tmp_path / "gone.jpg", broken, None)]
    found = predictor.predict([*some, {"text": "the red kite", "image": whole.read_bytes()}], batch_size=2)
    assert [p.image.partition(":")[0] for p in found] == ["read", "truncated", "absent", "unread", "none", "read"]
    assert found[3].image.startswith(f"unread: {broken}: cannot identify image file")
    chances = [[a.probabilities for a in p.aspects] for p in found]
    assert chances[2] == chances[3] == chances[4]  # from the words alone
    assert chances[0] == chances[5]
    assert found[2].to_dict()["image"] == "absent"


def test_given_aspects_are_judged(predictor: Predictor) -> None:
    text = "the red kite, ok"
    by_word = predictor(text, aspects=[{"start": 1, "end": 3}, {"start": 0, "end": 1}])
    assert [(a.start, a.end, a.text) for a in by_word.aspects] == [(1, 3, "red kite"), (0, 1, "the")]
    by_character = predictor(text, aspects=[{"start_char": 4, "end_char": 12}, {"start_char": 1, "end_char": 3}])
    assert by_character == by_word
    by_place = predictor.predict([{"text": "the $T$, ok", "target": "red kite"}])[0]
    assert by_place.aspects == by_word.aspects[:1]
    assert by_place.words == by_word.words
    model = predictor.model
    data = EncodedTweets([Tweet("", by_word.words, ())], model.tokenizer, model.config)
    with torch.no_grad():
        log_probs_BTC = model(data.batch([0])).tag_logits_BTC.double().log_softmax(dim=-1)
    for aspect in by_word.aspects:
        expected_3 = polarity_probabilities(log_probs_BTC, [(0, aspect.start, aspect.end)])[0]
        assert aspect.probabilities == pytest.approx(expected_3.tolist(), abs=1e-5)
        assert aspect.polarity == ("POS", "NEU", "NEG")[int(expected_3.argmax())]
    assert predictor(text, aspects=[]).aspects == ()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"aspects": [{"start": 0, "end": 5}]}, "aspects: 0: 0:5 is no part of the 4 words"),
        ({"aspects": [{"start": 2, "end": 2}]}, "aspects: 0: 2:2 is no part of the 4 words"),
        ({"aspects": [{"start": 1, "end": 2}, {}]}, "aspects: 1: needs start and end, "),
        ({"aspects": [{"start_char": 3, "end_char": 4}]}, "aspects: 0: no word lies in characters 3:4 of 17"),
        ({"aspects": [{"start_char": 0, "end_char": 99}]}, "aspects: 0: no word lies in characters 0:99 of 17"),
        ({"target": "red"}, r"target: \$T\$ occurs 0 times in the text instead of once"),
        ({"text": "a " * 80, "aspects": [{"start": 70, "end": 71}]}, "aspect 70:71 lies beyond the 64 words that the"),
    ],
)
def test_given_aspects_that_cannot_be_judged_are_named(
    predictor: Predictor, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DataError, match=f"^records: record 1: {reason}"):
        predictor.predict([{"text": "fine"}, {"text": "the red kite flew"} | fields])


# --- saving, loading ---


def test_saved_and_loaded_it_is_the_same(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save_pretrained(tmp_path / "model")
    loaded = Predictor.from_pretrained(tmp_path / "model")
    assert loaded.fingerprint() == predictor.fingerprint()
    assert loaded.predict(as_records(tweets(5))) == predictor.predict(as_records(tweets(5)))
    assert type(loaded.model) is type(predictor.model)
    assert {file.name for file in (tmp_path / "model").iterdir()} <= set(FETCHED)


def test_fingerprint_tells_models_apart(predictor: Predictor) -> None:
    other_weights = Predictor(tiny_model(tiny_config().model, seed=1))
    other_config = Predictor(tiny_model(tiny_config(model__decoder="viterbi").model))
    assert len({p.fingerprint() for p in (predictor, other_weights, other_config)}) == 3


def test_card_is_filled_from_the_record_beside_the_model(predictor: Predictor, tmp_path: Path) -> None:
    predictor.model.save_pretrained(tmp_path / "model")
    (tmp_path / "result.json").write_text(json.dumps(RECORD))
    card = Predictor.from_pretrained(tmp_path / "model").card
    assert "| seed | 17 |" in card
    assert "| data | synthetic |" in card
    assert "| sha256 of the data | synthetic/train 1150aa |" in card
    assert "| sources (hash) | 56e1b76a6dac3a7f |" in card
    assert "| dev | 50.0 | 25.0 | 33.3 | 90.0 | not recorded | not recorded |" in card
    assert "| test | not recorded | not recorded | 55.5 |" in card
    assert "| torch | not recorded |" in card


@pytest.mark.parametrize("record", [None, {}, {"config": 5, "result": {"metrics": [1]}, "provenance": {"data": "x"}}])
def test_card_without_a_record_says_not_recorded(predictor: Predictor, record: dict[str, Any] | None) -> None:
    card = Predictor(predictor.model, record=record).card
    assert "| seed | not recorded |" in card
    assert card.count("not recorded") >= 20


def test_card_cannot_be_broken_by_a_record(predictor: Predictor) -> None:
    card = Predictor(predictor.model, record={"seed": "1 |\n---\n# x"}).card
    assert "| seed | 1 \\| --- # x |" in card


def test_a_card_travels_with_its_model(predictor: Predictor, tmp_path: Path) -> None:
    Predictor(predictor.model, record=RECORD).save_pretrained(tmp_path / "a")
    Predictor.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert "| seed | 17 |" in (tmp_path / "b" / "README.md").read_text()
    Predictor(predictor.model, record={**RECORD, "seed": 18}).save_pretrained(tmp_path / "b")
    assert "| seed | 18 |" in (tmp_path / "b" / "README.md").read_text()


def _write(name: str, content: str) -> Any:
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04K\x01."), ""),
        (_write("config.json", "[1]"), ""),
        (_write("config.json", "{"), ""),
        (_write("config.json", "[" * 100_000), ""),
        (_write("config.json", '{"architecture": "os.system"}'), "architecture"),
        (_write("config.json", '{"model": 1, "card": 2}'), ""),
        (_write("tokenizer.json", "{}"), ""),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(predictor: Predictor, tmp_path: Path, damage: Any, reason: str) -> None:
    folder = tmp_path / "model"
    predictor.save_pretrained(folder)
    damage(folder)
    with pytest.raises(ConfigError) as caught:
        Predictor.from_pretrained(folder)
    assert str(caught.value).startswith(str(folder))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the hub: a folder stands for it ---


class FakeHub:
    """Repositories as folders; what is asked of the hub's client is done there."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        patch.setattr(huggingface_hub.hub_mixin, "HfApi", lambda token=None: self)
        patch.setattr(huggingface_hub.hub_mixin, "hf_hub_download", self.download)
        patch.setattr(clamp.inference.predictor, "snapshot_download", self.snapshot)
        self.fetched = root / "fetched"

    def create_repo(self, *, repo_id: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"commit to {repo_id}"

    def download(self, *, repo_id: str, filename: str, **options: Any) -> str:
        return str(self.root / repo_id / filename)

    def snapshot(self, repo_id: str, *, allow_patterns: list[str], **options: Any) -> str:
        self.fetched.mkdir()
        for file in (self.root / repo_id).iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, self.fetched)
        return str(self.fetched)


def test_pushed_and_fetched_it_is_the_same(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(tmp_path, monkeypatch)
    assert (
        Predictor(predictor.model, record=RECORD).push_to_hub("somebody/clamp-tiny") == "commit to somebody/clamp-tiny"
    )
    fetched = Predictor.from_pretrained("somebody/clamp-tiny")
    assert fetched.fingerprint() == predictor.fingerprint()
    assert "| seed | 17 |" in fetched.card
    assert {file.name for file in hub.fetched.iterdir()} <= set(FETCHED)


def test_nothing_of_a_repository_is_executed(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(tmp_path, monkeypatch)
    predictor.push_to_hub("somebody/evil")
    repository, marker = tmp_path / "somebody" / "evil", tmp_path / "executed"
    code = f"open({str(marker)!r}, 'w')\nclass Tokenizer: pass\n"
    for name in ("modeling_clamp.py", "tokenization_clamp.py", "__init__.py"):
        (repository / name).write_text(code)
    (repository / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    tokenizer = json.loads((repository / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization_clamp.Tokenizer", "tokenization_clamp.Tokenizer"]}
    (repository / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert Predictor.from_pretrained("somebody/evil")("a lovely day").words == ("a", "lovely", "day")
    assert not marker.exists()
    assert {file.suffix for file in hub.fetched.iterdir()} <= {".json", ".safetensors", ".md"}
    assert Predictor.from_pretrained(repository)("a lovely day").words == ("a", "lovely", "day")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["somebody/absent", "a/b/c", "not a name"])
def test_what_the_hub_does_not_give_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Predictor.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_a_process_that_predicted_can_train(tmp_path: Path) -> None:
    """What models share between calls must not be left as tensors that autograd refuses."""
    config = tiny_config(model__vision__channels=[4, 8, 8])  # a grid that no other test has met
    model = tiny_model(config.model)
    Predictor(model).predict([{"words": ["a", "red", "kite"], "image": np.zeros((64, 64, 3), dtype=np.uint8)}])
    gradients(model.train(), batch_of(model, tweets(4)))


def test_where_a_model_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    assert model_folder(str(run)) == str(run / "model")
    (run / "model" / "config.json").write_text("{}")
    assert model_folder(str(run / "model")) == str(run / "model")
    assert model_folder("somebody/model") == "somebody/model"
    for name in ("modell", "./modell", str(tmp_path / "modell"), str(run / "modell")):
        with pytest.raises(ConfigError, match=f"^{name}: no such folder"):
            model_folder(name)


def test_a_wrong_name_is_told_without_torch() -> None:
    program = "import sys; from clamp.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    for command in (["predict", "--text", "x"], ["evaluate", "--data", "."]):
        arguments = [sys.executable, "-c", program, *command, "--model", "modell"]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[3])
        assert done.stdout == "2 False\n"
        assert done.stderr.startswith("error: modell: no such folder")
