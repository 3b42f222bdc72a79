"""`python -m repro fetch --proxies`: what public files say of the images, merged, and none of the gold beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_host import Answer, Host, redirect, silent, status, whole
from fetch_here import fetch_from

from clamp.config import ProxyField
from clamp.data import ANNOTATION_SHA256, DataError, load_twitter
from repro.fetch import addresses, proxies
from repro.plan.profiles import offline_config

Captured = pytest.CaptureFixture[str]
Fetch = Callable[..., int]
DATA = Path("data")
TARGET = DATA / "twitter2017/visual_proxy.json"
SOURCES = DATA / "twitter2017/proxy_sources"
NAMES = ("train0.jpg", "train1.jpg", "dev0.jpg", "both.jpg")
EIGHT = [f"a kite of kind {k}" for k in range(8)]


def row(image: str, emotion: str, kind: str = "base", **more: Any) -> dict[str, Any]:
    gold = {"text": "GOLD", "aspect": "GOLD", "relation_s": 2, "text_emotion": "GOLD", "eccl_label": 1}
    return {**gold, "image": image, "image_emotion": emotion, "type": kind, **more}


ANNOTATIONS = {
    "train": ["train0.jpg", "train1.jpg", "both.jpg", "train0.jpg"],
    "dev": ["dev0.jpg"],
    "test": ["both.jpg"],
}
EMOTION = {
    "train": [
        row("train0.jpg", "GOLD", "cross_conflict"),
        row("train0.jpg", "The image expresses Neutral because of the sky. It is grey."),
        row("train0.jpg", "second answer", secret="GOLD"),
        row("train1.jpg", "The image expresses Positive because she smiles."),
        row("both.jpg", "The image expresses Negative because it rains."),
    ],
    "val": [row("dev0.jpg", 'The sign says "no."')],
    "test": [row("both.jpg", "answer of the other split"), row("elsewhere.jpg", "unasked")],
}
BLIP2 = "train1.jpg :\ndev0.jpg :a sign\nelsewhere.jpg :unasked\nboth.jpg :rain : a lot of it\ntrain0.jpg : the sky \n"
CAPTIONS = dict.fromkeys((*NAMES, "elsewhere.jpg"), EIGHT)
SAID = {  # written by hand, not by the code
    "train0.jpg": ("The image expresses Neutral because of the sky. It is grey.", "the sky"),
    "train1.jpg": ("The image expresses Positive because she smiles.", ""),
    "both.jpg": ("The image expresses Negative because it rains.", "rain : a lot of it"),
    "dev0.jpg": ('The sign says "no."', "a sign"),
}
MERGED = {name: {"caption_blip2": b, "captions": EIGHT, "emotion": e} for name, (e, b) in SAID.items()}


def path_of(end: str) -> str:
    (path,) = [path for _, path in addresses.PROXY_PATHS["twitter2017"] if path.endswith(end)]
    return path


def published() -> dict[str, bytes]:
    """Name or path -> content of every file of the made-up data set."""
    files = {
        f"twitter2017/{split}.json": json.dumps([{"words": ["Ada"], "image_id": n, "aspects": []} for n in names])
        for split, names in ANNOTATIONS.items()
    }
    files |= {path_of(f"eccl_{split}.json"): json.dumps(rows) for split, rows in EMOTION.items()}
    files |= {path_of("BLIP2_17.txt"): BLIP2, path_of("captions.json"): json.dumps(CAPTIONS)}
    return {name: content.encode() for name, content in files.items()}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(addresses, "ANNOTATION_SHA256", {})
    monkeypatch.setattr(addresses, "PROXY_SHA256", dict(addresses.PROXY_SHA256))
    with Host() as host:
        yield host


def serve(host: Host, files: dict[str, bytes]) -> dict[str, str]:
    """The sha256 of every file, which the host has from now on."""
    for name, content in files.items():
        host.on(f"/{name}" if name.startswith("twitter") else f"/said/{name}", whole(content, etag=f'"{len(content)}"'))
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.fixture
def fetch(host: Host) -> Fetch:
    sums = serve(host, published())
    return lambda *arguments: fetch_from(host.address, sums, ["twitter2017", *arguments])


def asked_proxies(host: Host) -> list[str]:
    return [asked.path.rsplit("/", 1)[1] for asked in host.asked if asked.path.startswith("/said/")]


def test_the_three_fields_are_merged_and_nothing_else_is_kept(fetch: Fetch, host: Host, capsys: Captured) -> None:
    assert fetch("--proxies") == 0
    assert json.loads(TARGET.read_text()) == MERGED
    assert sorted(file.name for file in TARGET.parent.iterdir()) == [
        *("dev.json", "lock", "test.json", "train.json", "visual_proxy.json")
    ]  # and so none of the gold beside them either
    assert "python -m repro run --profile offline --dataset twitter2017 --data data" in capsys.readouterr().out
    tweets = load_twitter(DATA / "twitter2017", "train", visual="proxy", proxy_fields=FIELDS)
    captions = tuple(f"{caption}." for caption in EIGHT)
    assert tweets[0].proxy == ("the sky.", "The image expresses Neutral because of the sky.", "It is grey.", *captions)
    assert tweets[1].proxy == ("The image expresses Positive because she smiles.", *captions)


FIELDS: tuple[ProxyField, ...] = ("caption_blip2", "emotion", "captions")


def test_gold_changes_nothing(tmp_path: Path) -> None:
    """Planted in every place that must not be read: the other fields, rows of another type, later answers."""

    def merged(rows: list[dict[str, Any]], folder: Path) -> bytes:
        folder.mkdir()
        files = [folder / name for name in ("rows.json", "blip2.txt", "captions.json")]
        for file, content in zip(files, (json.dumps(rows), BLIP2, json.dumps(CAPTIONS)), strict=True):
            file.write_text(content)
        proxies.merge(
            list(zip(("emotion", "caption_blip2", "captions"), files, strict=True)), folder / "p", ["dev0.jpg"]
        )
        return (folder / "p").read_bytes()

    honest = [row("dev0.jpg", "It is calm.", text_emotion="neutral", eccl_label=0)]
    planted = [
        row("dev0.jpg", "negative", "cross_conflict"),
        row(
            "dev0.jpg", "It is calm.", text_emotion="negative", aspect="Ada", relation_s=0, eccl_label=7, polarity="NEG"
        ),
        row("dev0.jpg", "negative"),
        row("dev0.jpg", "negative", text_emotion="negative"),
    ]
    found = merged(planted, tmp_path / "a")
    assert found == merged(honest, tmp_path / "b")
    assert b"negative" not in found


def test_what_the_file_holds_besides_stays(fetch: Fetch) -> None:
    TARGET.parent.mkdir(parents=True)
    own = {"caption": "A kite.", "faces": [{"box_xywh": [0, 0, 9, 9], "emotion": {"sad": 1.5}}], "description": "é"}
    TARGET.write_text(json.dumps({"train0.jpg": own, "mine.jpg": {"caption": "Mine."}}))
    assert fetch("--proxies") == 0
    assert json.loads(TARGET.read_text()) == MERGED | {
        "train0.jpg": own | MERGED["train0.jpg"],
        "mine.jpg": {"caption": "Mine."},
    }


def test_a_second_call_asks_for_nothing_and_changes_nothing(fetch: Fetch, host: Host) -> None:
    assert fetch("--proxies") == 0
    content, asked = TARGET.read_bytes(), len(host.asked)
    assert fetch("--proxies") == 0
    assert (TARGET.read_bytes(), len(host.asked)) == (content, asked)


def test_a_field_that_is_missing_of_one_image_is_brought(fetch: Fetch) -> None:
    TARGET.parent.mkdir(parents=True)
    part = {name: dict(fields) for name, fields in MERGED.items()}
    del part["dev0.jpg"]["emotion"]
    TARGET.write_text(json.dumps(part))
    assert fetch("--proxies") == 0
    assert json.loads(TARGET.read_text()) == MERGED


def cut(content: bytes, at: int = 10) -> Answer:
    return whole(content, etag='"1"', cut=at)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda content: whole(content[:-5]), "sha256"),  # truncated, and said to be whole
        (lambda content: whole(content.replace(b"Positive", b"Negative")), "sha256"),
        (lambda content: whole(json.dumps(EMOTION["val"]).encode()), "sha256"),  # swapped
        (lambda content: whole(b"["), "sha256"),
        (lambda content: whole(bytes(10_000_001)), "more than the 10000000 it may have"),
        (cut, "tried 2 times in a row"),
        (lambda content: silent, "tried 2 times in a row"),
        (lambda content: status(404), "404"),
        (lambda content: redirect("http://192.0.2.1/x"), "no https address"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused(
    fetch: Fetch, host: Host, capsys: Captured, answer: Callable[[bytes], Answer], said: str
) -> None:
    path = path_of("eccl_train.json")
    host.on(f"/said/{path}", answer(published()[path]))
    assert fetch("--proxies") == 2
    assert not TARGET.exists()
    assert not (SOURCES / "eccl_train.json").exists()
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"{host.address}/said/{path}" in line
    assert said in line
    digest = addresses.PROXY_SHA256[path]
    assert f"as {SOURCES}/eccl_train.json (sha256 {digest})" in err  # by hand
    serve(host, published())
    host.asked.clear()
    assert fetch("--proxies") == 0
    assert json.loads(TARGET.read_text()) == MERGED
    assert asked_proxies(host) == ["eccl_train.json", "eccl_val.json", "eccl_test.json", "captions.json"]


def test_a_cut_file_is_continued_by_the_next_call(fetch: Fetch, host: Host) -> None:
    path = path_of("captions.json")
    content = published()[path]
    host.on(f"/said/{path}", cut(content, 500), status(503))
    assert fetch("--proxies") == 2
    host.on(f"/said/{path}", whole(content, etag='"1"'))
    host.asked.clear()
    assert fetch("--proxies") == 0
    assert [asked.range for asked in host.asked] == ["bytes=500-"]
    assert json.loads(TARGET.read_text()) == MERGED


def test_files_got_by_hand_are_checked_and_used(fetch: Fetch, host: Host, capsys: Captured) -> None:
    for path, content in published().items():
        file = DATA / path if path.startswith("twitter") else SOURCES / path.rsplit("/", 1)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    host.answers.clear()
    (SOURCES / "BLIP2_17.txt").write_text("mine")
    assert fetch("--proxies") == 2
    assert "BLIP2_17.txt: not the published file, so it stays; move it away first" in capsys.readouterr().err
    (SOURCES / "BLIP2_17.txt").write_text(BLIP2)
    assert fetch("--proxies") == 0
    assert json.loads(TARGET.read_text()) == MERGED
    assert not host.asked


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 3}', "[" * 100_000])
def test_a_broken_proxy_file_of_ones_own_stays_and_is_named(fetch: Fetch, capsys: Captured, content: str) -> None:
    TARGET.parent.mkdir(parents=True)
    TARGET.write_text(content)
    assert fetch("--proxies") == 2
    assert TARGET.read_text() == content
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {TARGET}: ")


@pytest.mark.parametrize(
    ("field", "content", "reason"),
    [
        ("captions", json.dumps({"1.jpg": EIGHT[:7]}), "record '1.jpg': List should have at least 8 items"),
        ("captions", json.dumps({"1.jpg": [*EIGHT, "x"]}), "record '1.jpg': List should have at most 8 items"),
        ("captions", json.dumps({"1.jpg": [*EIGHT[:7], 8]}), "record '1.jpg': 7: Input should be a valid string"),
        ("captions", '{"a":' * 100_000, "Invalid JSON: recursion limit exceeded"),
        ("captions", json.dumps({"other.jpg": EIGHT}), "record '1.jpg': no captions"),
        ("caption_blip2", "1.jpg :a kite\n1.jpg\n", "record 2: not 'NAME :caption'"),
        ("caption_blip2", "1.jpg :a\n\n", "record 2: not 'NAME :caption'"),
        (
            "emotion",
            json.dumps([row("1.jpg", "x"), {"image": "1.jpg", "type": "base"}]),
            "record 1: image_emotion: Field",
        ),
        ("emotion", json.dumps([row("1.jpg", "x", type=3)]), "record 0: type: Input should be a valid string"),
        ("emotion", json.dumps([row("1.jpg", "x", "cross_conflict")]), "record '1.jpg': no emotion"),
        ("emotion", json.dumps({"1.jpg": "x"}), "Input should be a valid array"),
    ],
)
def test_a_file_of_another_form_is_named_with_its_record(
    tmp_path: Path, field: addresses.FetchedField, content: str, reason: str
) -> None:
    sources = {
        "captions": json.dumps({"1.jpg": EIGHT}),
        "caption_blip2": "1.jpg :",
        "emotion": json.dumps([row("1.jpg", "x")]),
    }
    files = []
    for name, sound in sources.items():
        (tmp_path / name).write_text(content if name == field else sound, newline="")
        files.append((name, tmp_path / name))
    with pytest.raises(DataError) as raised:
        proxies.merge(files, tmp_path / "out.json", ["1.jpg"])
    assert str(raised.value).startswith(f"{tmp_path / field}: {reason}")
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "out.json").exists()


# --- the real files ---

_RAW = {"rf-x": "MDCA", "JinYuanLi0012": "PGIM", "li9527yu": "Third_work"}
WRITTEN_SHA256 = {
    "twitter2015": "b0f0c0ddf6298657dcf00af5d38e9f0a994f8afdde423ff0a9f5fb462993872b",
    "twitter2017": "cfd53f53eddf32c3c2636c0b958582550e80bf75cfa2469ad4d23e2126c08490",
}


@pytest.mark.parametrize("dataset", addresses.DATASETS)
def test_the_real_files_become_this_file(host: Host, data_root: Path, dataset: addresses.Dataset) -> None:
    real = dict(addresses.PROXY_SHA256)
    files = {f"{dataset}/{split}.json": (data_root / dataset / f"{split}.json").read_bytes() for split in ANNOTATIONS}
    for _, path in addresses.PROXY_PATHS[dataset]:
        owner, *_, folder, name = path.split("/")
        inner = "" if owner == "JinYuanLi0012" else f"{folder}/"
        files[path] = (data_root / "sources" / _RAW[owner] / f"{inner}{name}").read_bytes()
    serve(host, files)
    sums = {name: digest for name, digest in (ANNOTATION_SHA256 | real).items() if name in files}
    assert fetch_from(host.address, sums, [dataset, "--proxies"]) == 0
    written = DATA / dataset / "visual_proxy.json"
    assert hashlib.sha256(written.read_bytes()).hexdigest() == WRITTEN_SHA256[dataset]
    fields = offline_config(dataset).data.proxy_fields
    tweets = [
        tweet
        for split in ANNOTATIONS
        for tweet in load_twitter(DATA / dataset, split, visual="proxy", proxy_fields=fields)
    ]
    assert all(len(tweet.proxy or ()) >= 9 for tweet in tweets)
