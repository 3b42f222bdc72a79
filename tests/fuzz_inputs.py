"""Fuzzing of everything that reads what others wrote, with atheris: `fuzz_inputs.py TARGET SEEDS [libFuzzer options]`.

A target is a crash-free promise: whatever the bytes, the function returns or raises the errors that it documents.
SEEDS is a folder that gets inputs to start from; tests/test_fuzz.py runs all targets.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["clamp", "repro"]):
    from clamp.config import Config, ConfigError, config_from_dict
    from clamp.config_file import read_overrides
    from clamp.corpus.readers import read_rows
    from clamp.data.annotations import read_annotations, read_json_records, read_target_records
    from clamp.data.images import read_image
    from clamp.data.proxy import read_proxies
    from clamp.data.schema import DataError
    from clamp.inference.request_record import BadRecord, record_of
    from clamp.inference.words import split_words
    from clamp.system.command_line import exit_code
    from repro.fetch.archive import ArchiveError, take_images

MEMORY = Path("/dev/shm")  # ten times as many inputs a second as on a disk
SCRATCH = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))


@dataclass(frozen=True)
class Target:
    """A function of bytes, the errors that it may end with, and inputs to start from, the first of them sound."""

    call: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: list[bytes]


def written(content: bytes, name: str) -> Path:
    file = SCRATCH / name
    file.write_bytes(content)
    return file


def check_one_line(error: Exception) -> None:
    if "\n" in str(error):
        raise AssertionError("an error of several lines") from error


def corpus(name: str) -> Callable[[bytes], None]:
    """Every row of a corpus: its record, whose words lie where they say."""

    def read(content: bytes) -> None:
        for row in read_rows(written(content, name)):
            try:
                record = record_of(row)
            except BadRecord as error:
                check_one_line(error)
                continue
            assert record.words
            assert all(record.text[a:b] == w for (a, b), w in zip(record.places, record.words, strict=False))

    return read


def words(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    end = 0
    for start, stop in split_words(text):
        assert end <= start < stop
        assert text[start:stop].strip()
        end = stop


def config(content: bytes) -> None:
    try:
        values = json.loads(content)
    except ValueError:
        return

    def command() -> int:
        config_from_dict(values, "fuzzed")
        return 0

    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = exit_code(command)  # as for every command: a key may hold a line break, what is printed may not
    assert (code, len(said.getvalue().splitlines())) in ((0, 0), (2, 1))


def archive(name: str) -> Callable[[bytes], None]:
    def unpack(content: bytes) -> None:
        folder = SCRATCH / "unpacked" / "images"
        take_images(written(content, name), {"a.jpg", "b.jpg"}, folder, "images", lambda _: None)
        assert {path.name for path in (SCRATCH / "unpacked").iterdir()} == {"images"}
        assert {path.name for path in folder.iterdir()} <= {"a.jpg", "b.jpg"}

    return unpack


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            made.writestr(name, b"\xff\xd8 no image")
    return stream.getvalue()


def tarred(*names: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            made.addfile(member, io.BytesIO(b"\xff\xd8\xff\xd9"))
    return stream.getvalue()


_TWEET = {"words": ["a", "red", "kite"], "image_id": "1.jpg", "aspects": [{"from": 1, "to": 3, "polarity": "POS"}]}
_PROXY = {"1.jpg": {"caption": "a kite", "faces": [{"emotion": {"happy": 90.0, "sad": 10.0}}], "description": "d"}}
_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)

TARGETS = {
    "json": Target(
        lambda b: read_json_records(written(b, "a.json")), (DataError,), [json.dumps([_TWEET]).encode(), b"[]"]
    ),
    "conll": Target(
        lambda b: read_annotations(written(b, "a.txt")), (DataError,), [b"IMGID:1\na\tO\nred\tB-POS\nkite\tI-POS\n"]
    ),
    "targets": Target(
        lambda b: read_target_records(written(b, "a.tsv")),
        (DataError,),
        [b"index\tlabel\timage\tsentence\ttarget\n0\t2\t1.jpg\ta $T$\tred kite\n"],
    ),
    "proxies": Target(
        lambda b: read_proxies(written(b, "p.json"), ("caption", "faces", "description")),
        (DataError,),
        [json.dumps(_PROXY).encode()],
    ),
    "image": Target(lambda b: read_image(written(b, "a.jpg")), (DataError,), [_GIF]),
    "corpus_jsonl": Target(
        corpus("c.jsonl"), (DataError,), [b'{"text": "a red kite", "image": "1.jpg"}\n{"words": ["a"], "id": 3}\n']
    ),
    "corpus_csv": Target(corpus("c.csv"), (DataError,), [b'id,text,image\n1,"a ""red"" kite",1.jpg\n', b"words\n[]\n"]),
    "words": Target(words, (), ["a red-kite's 1st @you #tag https://x.y/z \U0001f600!".encode()]),
    "config": Target(config, (), [json.dumps(Config().to_dict()).encode()]),
    "overrides": Target(
        lambda b: read_overrides(written(b, "o.json"), Config()), (ConfigError,), [b'{"train": {"epochs": 3}}']
    ),
    "zip": Target(archive("a.zip"), (ArchiveError,), [zipped("x/b.jpg", "y/c"), zipped("images/a.jpg", "../b.jpg")]),
    "tar": Target(archive("a.tar.gz"), (ArchiveError,), [tarred("images/a.jpg", "b.jpg"), tarred("/b.jpg")]),
}


def main(name: str, seeds: Path, options: list[str]) -> None:
    target = TARGETS[name]
    logging.disable()
    seeds.mkdir(parents=True, exist_ok=True)
    target.call(target.seeds[0])  # sound, or nothing beyond the first check would ever be reached
    for number, seed in enumerate(target.seeds):
        (seeds / f"{number}").write_bytes(seed)

    def one(content: bytes) -> None:
        try:
            target.call(content)
        except target.errors as error:
            check_one_line(error)

    atheris.Setup([sys.argv[0], str(seeds), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
