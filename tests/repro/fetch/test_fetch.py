"""`python -m repro fetch` as a user sees it: what lies where afterwards, what is said, exit codes, and kills."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_host import Host, redirect, silent, status, whole
from fetch_here import fetch_from
from PIL import Image

from clamp.data import ANNOTATION_SHA256, SPLITS, load_twitter
from repro.fetch import addresses
from repro.fetch.addresses import Places
from repro.run.source_hash import package_folder

Captured = pytest.CaptureFixture[str]
DATA = Path("data")
FOLDER = DATA / "twitter2017_images"
NAMES = [f"{split}{k}.jpg" for split in SPLITS for k in range(8)]


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), (shade, 99, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


IMAGES = {name: jpeg(k) for k, name in enumerate(NAMES)}
ANNOTATIONS = {
    f"twitter2017/{split}.json": json.dumps(
        [{"words": ["Ada"], "image_id": f"{split}{k}.jpg", "aspects": []} for k in range(8)]
    ).encode()
    for split in SPLITS
}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in ANNOTATIONS.items()}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Serves the whole made-up data set; the checksums are those of its annotations."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(addresses, "ANNOTATION_SHA256", {})
    with Host() as host:
        for name, content in ANNOTATIONS.items():
            host.on(f"/{name}", whole(content, etag='"1"'))
        for name, content in IMAGES.items():
            host.on(f"/images/{name}", whole(content))
        yield host


@pytest.fixture
def fetch(host: Host) -> Callable[..., int]:
    return lambda *arguments: fetch_from(host.address, SUMS, ["twitter2017", *arguments])


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_annotations_alone_by_default(fetch: Callable[..., int], host: Host, capsys: Captured) -> None:
    assert fetch() == 0
    for name, content in ANNOTATIONS.items():
        assert (DATA / name).read_bytes() == content
    assert not FOLDER.exists()
    out = capsys.readouterr().out
    assert "--images" in out
    assert "visual_proxy.json" in out
    assert len(host.asked) == len(SPLITS)


def test_images_too_and_a_second_call_asks_for_nothing(fetch: Callable[..., int], host: Host, capsys: Captured) -> None:
    assert fetch("--images") == 0
    assert files(FOLDER) == IMAGES
    assert "python -m repro run --profile paper --dataset twitter2017 --data data" in capsys.readouterr().out
    tweets = load_twitter(DATA / "twitter2017", "test")
    assert all(tweet.image for tweet in tweets)
    before = len(host.asked)
    assert fetch("--images") == 0
    assert len(host.asked) == before
    report = json.loads((DATA / "twitter2017/absent_images.json").read_text())
    assert report == {"images": len(NAMES), "present": len(NAMES), "absent": {}}


def test_a_broken_image_is_replaced_by_a_sound_one_only(
    fetch: Callable[..., int], host: Host, capsys: Captured
) -> None:
    assert fetch("--images") == 0
    for name in ("dev1.jpg", "dev2.jpg"):
        (FOLDER / name).write_bytes(IMAGES[name][:300])
    host.on("/images/dev2.jpg", status(404))
    before = len(host.asked)
    assert fetch("--images") == 1
    assert len(host.asked) - before == 2
    assert files(FOLDER) == IMAGES | {"dev2.jpg": IMAGES["dev2.jpg"][:300]}
    assert "1 of 24 images count as absent" in capsys.readouterr().err


def test_images_go_where_the_reader_looks_first(fetch: Callable[..., int]) -> None:
    inside = DATA / "twitter2017/images"
    inside.mkdir(parents=True)
    assert fetch("--images", "--data", "data") == 0
    assert files(inside) == IMAGES
    assert not FOLDER.exists()


def test_images_that_cannot_be_had_are_listed_and_the_code_is_1(
    fetch: Callable[..., int], host: Host, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    host.on("/images/dev1.jpg", status(404))
    host.on("/images/dev2.jpg", whole(IMAGES["dev2.jpg"][:300]))
    host.on("/images/dev3.jpg", redirect("ftp://127.0.0.1/x"))
    host.on("/images/dev4.jpg", status(503))
    assert fetch("--images") == 1
    absent = ["dev1.jpg", "dev2.jpg", "dev3.jpg", "dev4.jpg"]
    assert files(FOLDER) == {name: content for name, content in IMAGES.items() if name not in absent}
    report = json.loads((DATA / "twitter2017/absent_images.json").read_text())
    assert list(report["absent"]) == absent
    assert report["absent"]["dev2.jpg"].startswith("broken: ")
    assert "404" in report["absent"]["dev1.jpg"]
    err = capsys.readouterr().err
    assert "4 of 24 images count as absent" in err
    assert all(name in err for name in absent)
    load_twitter(DATA / "twitter2017", "dev")
    assert "4 of 8 images count as absent" in caplog.text  # the reader agrees
    for name in absent:
        host.on(f"/images/{name}", whole(IMAGES[name]))
    before = len(host.asked)
    assert fetch("--images") == 0
    assert len(host.asked) - before == len(absent)
    assert files(FOLDER) == IMAGES


def assert_tells_what_to_do(err: str, *parts: str) -> None:
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "By hand: " in err
    for part in parts:
        assert part in err


def test_a_silent_host_of_annotations_ends_in_the_steps_by_hand(
    fetch: Callable[..., int], host: Host, capsys: Captured
) -> None:
    host.on("/twitter2017/dev.json", status(503))
    assert fetch() == 2
    assert "drive.google.com" not in capsys.readouterr().err
    assert fetch("--images") == 2
    sums = [f"data/{name} (sha256 {digest})" for name, digest in SUMS.items()]
    assert_tells_what_to_do(
        capsys.readouterr().err, "503", f"{host.address}/twitter2017/dev.json", *sums, "drive.google.com"
    )
    assert (DATA / "twitter2017/train.json").exists()
    assert not FOLDER.exists()


def test_annotations_of_other_bytes_are_refused(fetch: Callable[..., int], host: Host, capsys: Captured) -> None:
    host.on("/twitter2017/test.json", whole(ANNOTATIONS["twitter2017/dev.json"]))
    assert fetch() == 2
    assert "sha256" in capsys.readouterr().err
    assert not (DATA / "twitter2017/test.json").exists()


def test_annotations_that_are_there_already_stay(fetch: Callable[..., int], host: Host, capsys: Captured) -> None:
    own = DATA / "twitter2017/dev.json"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert fetch() == 2
    assert own.read_text() == "mine"
    assert "move it away" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [silent, status(503), status(429, retry_after=99)])
def test_a_host_without_images_is_given_up_early(
    fetch: Callable[..., int], host: Host, capsys: Captured, answer
) -> None:
    for name in NAMES:
        host.on(f"/images/{name}", answer)
    assert fetch("--images") == 2
    assert_tells_what_to_do(capsys.readouterr().err, "drive.google.com", "--archive FILE", str(FOLDER))
    assert sum(asked.path.startswith("/images/") for asked in host.asked) < len(NAMES)


def test_a_mirror_that_has_none_is_said_to(fetch: Callable[..., int], host: Host, capsys: Captured) -> None:
    for name in NAMES:
        host.on(f"/images/{name}", status(404))
    assert fetch("--images") == 2
    assert_tells_what_to_do(capsys.readouterr().err, "none of the first 20 images", "drive.google.com")


def pack(names: list[str], filler: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("IJCAI2019_data/other", bytes(filler))
        for name in names:
            file.writestr(f"IJCAI2019_data/twitter2017_images/{name}", IMAGES[name])
    return buffer.getvalue()


def test_images_out_of_an_archive_of_ones_own(fetch: Callable[..., int], host: Host, capsys: Captured) -> None:
    Path("own.zip").write_bytes(pack(NAMES[:-1]))
    assert fetch("--archive", "own.zip") == 1
    assert files(FOLDER) == {name: IMAGES[name] for name in NAMES[:-1]}
    assert f"{NAMES[-1]}: not in the archive" in capsys.readouterr().err
    Path("own.zip").write_bytes(pack(NAMES[-1:]))
    assert fetch("--archive", "own.zip") == 0
    assert files(FOLDER) == IMAGES
    assert not any(asked.path.startswith("/images/") for asked in host.asked)


def test_images_out_of_an_archive_at_an_address(fetch: Callable[..., int], host: Host) -> None:
    url = host.on("/all.zip", whole(pack(NAMES), etag='"1"'))
    assert fetch("--archive", url) == 0
    assert files(FOLDER) == IMAGES
    for file in FOLDER.iterdir():
        file.unlink()
    assert fetch("--archive", url) == 0  # out of what was kept
    assert files(FOLDER) == IMAGES
    assert host.times("/all.zip") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<html>", "web page"), (pack([]), "none of the 24 images"), (b"Rar!\x1a\x07\0", "rar"), (None, "No such file")],
)
def test_an_unusable_archive_is_one_line_and_code_2(
    fetch: Callable[..., int], capsys: Captured, content: bytes | None, said: str
) -> None:
    if content is not None:
        Path("own.zip").write_bytes(content)
    assert fetch("--archive", "own.zip") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "own.zip" in line
    assert said in line


def test_an_archive_at_an_unsafe_address_is_refused(fetch: Callable[..., int], capsys: Captured) -> None:
    assert fetch("--archive", "ftp://127.0.0.1/all.zip") == 2
    assert "error: ftp://127.0.0.1/all.zip is no https address" in capsys.readouterr().err


def test_help_names_every_option(capsys: Captured) -> None:
    from repro.__main__ import main

    with pytest.raises(SystemExit) as stopped:
        main(["fetch", "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert all(option in out for option in ("twitter2015|twitter2017", "--images", "--archive", "--data"))
    with pytest.raises(SystemExit) as stopped:
        main(["fetch", "twitter2016"])
    assert stopped.value.code == 2


def test_the_addresses_name_a_commit_and_the_sums_every_file() -> None:
    places = Places()
    for dataset in addresses.DATASETS:
        files = addresses.annotation_files(DATA, dataset, places)
        files += [file for _, file in addresses.proxy_files(DATA, dataset, places)]
        found = [*(file.address for file in files), places.image(dataset, "a b/c.jpg")]
        assert all(re.match(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40}/", url) for url in found)
        assert found[-1].endswith("/a%20b%2Fc.jpg")
        assert len({file.target for file in files}) == len({file.sha256 for file in files}) == 3 + 5


def test_the_real_annotations_have_the_sums_that_are_asked_for(host: Host, data_root: Path, capsys: Captured) -> None:
    for name in ANNOTATION_SHA256:
        host.on(f"/{name}", whole((data_root / name).read_bytes()))
    assert fetch_from(host.address, ANNOTATION_SHA256, ["twitter2015", "twitter2017"]) == 0
    assert sorted(str(path.relative_to(DATA)) for path in DATA.rglob("*.json")) == sorted(ANNOTATION_SHA256)


# --- killed ---


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """The command as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        here = Path(__file__).parents[1]
        root = package_folder("repro").parent
        command = [sys.executable, str(here / "fetch_here.py"), host.address, json.dumps(SUMS), "twitter2017"]
        environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{here}"}
        process = subprocess.Popen(
            [*command, *arguments],
            env=environment,
            stderr=subprocess.DEVNULL,
            # a shell starts its background jobs, this test run perhaps among them, with SIGINT ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_killed_among_images_nothing_finished_is_fetched_again(host: Host, start) -> None:
    for name, content in IMAGES.items():
        host.on(f"/images/{name}", whole(content + bytes(10_000), pause=0.05))
    process = start("--images")
    wait_for(lambda: FOLDER.is_dir() and len(list(FOLDER.glob("*.jpg"))) >= 6)
    process.kill()
    process.wait()
    finished = [file.name for file in FOLDER.glob("*.jpg")]
    assert 6 <= len(finished) < len(NAMES)
    for name in finished:
        Image.open(FOLDER / name).load()  # whole
    host.asked.clear()
    assert start("--images").wait(60) == 0
    assert sorted(files(FOLDER)) == sorted(NAMES)  # and no part left over
    assert {name for name in NAMES if host.times(f"/images/{name}")} == set(NAMES) - set(finished)


def test_interrupted_it_ends_at_once_and_goes_on_later(host: Host, start, fetch: Callable[..., int]) -> None:
    for name, content in IMAGES.items():
        host.on(f"/images/{name}", whole(content, pause=0.2))
    process = start("--images")
    wait_for(lambda: FOLDER.is_dir() and any(FOLDER.glob("*.jpg")))
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert 0 < len(list(FOLDER.glob("*.jpg"))) < len(NAMES)
    assert fetch("--images") == 0
    assert files(FOLDER) == IMAGES


def test_killed_in_mid_archive_it_goes_on_where_it_was(host: Host, start) -> None:
    content = pack(NAMES, filler=400_000)
    url = host.on("/all.zip", whole(content, etag='"1"', pause=0.01))
    process = start("--archive", url)
    parts = DATA / "archives"
    wait_for(lambda: any(file.stat().st_size > 100_000 for file in parts.glob(".*.part")))
    process.kill()
    process.wait()
    (size,) = [file.stat().st_size for file in parts.glob(".*.part")]
    assert start("--archive", url).wait(60) == 0
    ranges = [asked.range for asked in host.asked if asked.path == "/all.zip"]
    assert ranges == [None, f"bytes={size}-"]
    assert files(FOLDER) == IMAGES


def test_a_second_fetch_of_the_same_data_set_is_kept_out(
    host: Host, start, fetch: Callable[..., int], capsys: Captured
) -> None:
    for name, content in IMAGES.items():
        host.on(f"/images/{name}", whole(content + bytes(10_000), pause=0.5))  # seconds within an image, not after it
    process = start("--images")
    wait_for(lambda: any(asked.path.startswith("/images/") for asked in host.asked))
    assert fetch("--images") == 2
    assert capsys.readouterr().err == "error: data/twitter2017: another fetch of it is under way\n"
    process.kill()
    process.wait()
    for name, content in IMAGES.items():
        host.on(f"/images/{name}", whole(content))
    assert fetch("--images") == 0  # a dead one holds nothing
