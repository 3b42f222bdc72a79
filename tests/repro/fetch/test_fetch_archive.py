"""Images out of archives: honest, damaged and hostile ones."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repro.fetch import archive
from repro.fetch.archive import ArchiveError, Member, choose, take_images
from repro.fetch.images import check_image

ARCHIVE = Path("archive")
FOLDER = Path("data/twitter2017_images")
WANTED = ("a.jpg", "b.jpg")
Pack = Callable[[dict[str, bytes]], None]


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


A, B = jpeg(10), jpeg(200)


def pack_zip(members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED) as file:
        for path, content in members.items():
            file.writestr(path, content)


def pack_tar(members: dict[str, bytes]) -> None:
    with tarfile.open(ARCHIVE, "w:gz") as file:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


both = pytest.mark.parametrize("pack", [pack_zip, pack_tar])


def take(wanted: tuple[str, ...] = WANTED) -> dict[str, str]:
    return take_images(ARCHIVE, wanted, FOLDER, FOLDER.name, check_image)


def taken() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in FOLDER.iterdir()}


@both
def test_the_wanted_images_are_taken_and_nothing_else(pack: Pack) -> None:
    pack({"IJCAI/twitter2017_images/a.jpg": A, "IJCAI/read.me": b"x", "IJCAI/c.jpg": A, "b.jpg": B})
    assert take() == {}
    assert taken() == {"a.jpg": A, "b.jpg": B}


@both
def test_what_is_not_in_it_or_broken_is_listed(pack: Pack) -> None:
    pack({"x/a.jpg": A[:200]})
    faults = take()
    assert faults.keys() == set(WANTED)
    assert faults["a.jpg"].startswith("broken: ")
    assert faults["b.jpg"] == "not in the archive"
    assert taken() == {}


@both
def test_of_two_the_one_in_the_data_sets_folder_counts(pack: Pack) -> None:
    pack({"x/a.jpg": B, "x/twitter2017_images/a.jpg": A, "y/a.jpg": B})
    assert take(("a.jpg",)) == {}
    assert taken() == {"a.jpg": A}
    pack({"x/a.jpg": B, "y/a.jpg": A})
    with pytest.raises(ArchiveError, match="2 times"):
        take(("a.jpg",))


@both
@pytest.mark.parametrize("path", ["../a.jpg", "x/../../a.jpg", "/a.jpg", "/etc/a.jpg", "C:\\x\\a.jpg", "x\\..\\a.jpg"])
def test_a_member_that_leads_out_is_refused_before_anything_is_written(pack: Pack, path: str) -> None:
    pack({"b.jpg": B, path: A})
    with pytest.raises(ArchiveError, match="leads out") as raised:
        take()
    assert str(raised.value).startswith(f"{ARCHIVE}: ")
    assert not FOLDER.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes) -> None:
    with tarfile.open(ARCHIVE, "w:gz") as file:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(ArchiveError, match="a link"):
        take()


def test_a_link_in_a_zip_is_refused() -> None:
    with zipfile.ZipFile(ARCHIVE, "w") as file:
        info = zipfile.ZipInfo("a.jpg")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link"):
        take()


@both
def test_absurd_sizes_are_refused(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    pack({"a.jpg": A, "b.jpg": B})
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", len(A) - 1)
    with pytest.raises(ArchiveError, match="no image is that large"):
        take()
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", len(A) + len(B))
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", len(A) + 1)
    with pytest.raises(ArchiveError, match="would take"):
        take()
    assert not FOLDER.exists()


@both
def test_absurd_counts_are_refused(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    pack({f"{k}.txt": b"" for k in range(4)} | {"a.jpg": A})
    monkeypatch.setattr(archive, "MAX_MEMBERS", 4)
    with pytest.raises(ArchiveError, match="more than 4 members"):
        take()


def test_a_bomb_is_refused_by_its_ratio() -> None:
    pack_zip({"a.jpg": bytes(10_000_000)})
    with pytest.raises(ArchiveError, match="would grow from"):
        take()


def test_a_tar_that_unpacks_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pack_tar({"other": bytes(5_000_000), "a.jpg": A})
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(ArchiveError, match="more than 1000000 bytes"):
        take()


def test_a_tar_header_that_claims_a_huge_name_is_refused_without_reading_it() -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 8**11 - 1
    with gzip.open(ARCHIVE, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(20_000_000))
    with pytest.raises(ArchiveError, match="takes more than"):
        take()


def test_a_tar_whose_members_go_backwards_does_not_loop() -> None:
    header = bytearray(tarfile.TarInfo("a.txt").tobuf())
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -2048)  # base-256, negative
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    with gzip.open(ARCHIVE, "wb") as file:
        file.write(bytes(header) * 4)
    with pytest.raises(ArchiveError):
        take()


def test_an_encrypted_or_strangely_packed_zip_is_refused() -> None:
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.jpg", A)
    with pytest.raises(ArchiveError, match="unusual"):
        take()
    pack_zip({"a.jpg": A})
    content = bytearray(ARCHIVE.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    ARCHIVE.write_bytes(content)
    with pytest.raises(ArchiveError, match="encrypted"):
        take()


@both
def test_damage_is_one_line_that_names_the_archive(pack: Pack) -> None:
    pack({f"{k}.txt": jpeg(k) for k in range(20)} | {"a.jpg": A, "b.jpg": B})
    content = ARCHIVE.read_bytes()
    hit = max(content.find(b"b.jpg") + 60, 700)
    for broken in (content[: len(content) // 2], content[:hit] + b"!" * 40 + content[hit + 40 :]):
        ARCHIVE.write_bytes(broken)
        with pytest.raises(ArchiveError, match=r"^archive: damaged: [^\n]+$"):
            take()


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"Rar!\x1a\x07\x00", "rar"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"", "neither"),
        (b"7z\xbc\xaf", "neither"),
    ],
)
def test_what_is_no_such_archive_is_named(start: bytes, said: str) -> None:
    ARCHIVE.write_bytes(start)
    with pytest.raises(ArchiveError, match=said):
        take()


@both
def test_what_was_taken_stays_when_the_rest_is_damaged(pack: Pack) -> None:
    pack({"a.jpg": A})
    assert take(("a.jpg",)) == {}
    ARCHIVE.write_bytes(b"PK\x03\x04")
    with pytest.raises(ArchiveError):
        take(("b.jpg",))
    assert taken() == {"a.jpg": A}


def member(path: str, size: int = 1, packed: int | None = 1, is_file: bool = True, readable: bool = True) -> Member:
    return Member(path, size, packed, is_file, readable, lambda: io.BytesIO())


PATHS = st.lists(
    st.sampled_from(["a.jpg", "b.jpg", "..", ".", "", "x", "C:", "twitter2017_images", "é", "~"]), min_size=1
)
MEMBERS = st.lists(
    st.builds(
        member,
        st.builds(lambda parts, slash: slash.join(parts), PATHS, st.sampled_from("/\\"))
        | st.text("a.jpg/\\ \0\n", max_size=8),
        st.sampled_from([-1, 0, 1, 10**6, 10**12]),
        st.sampled_from([None, 0, 1, 10**6]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


@given(MEMBERS)
@settings(max_examples=100, deadline=None)
def test_what_is_chosen_is_a_wanted_name_of_an_honest_member(members: list[Member]) -> None:
    try:
        chosen = choose(members, frozenset(WANTED), "twitter2017_images")
    except ArchiveError:
        return
    assert len(set(chosen.values())) == len(chosen)
    for position, name in chosen.items():
        parts = members[position].path.replace("\\", "/").split("/")
        assert name in WANTED
        assert parts[-1] == name
        assert ".." not in parts
        assert parts == [name] or parts[0] not in ("", "C:")
        assert members[position].is_file
        assert members[position].is_readable
        assert 0 <= members[position].size <= archive.MAX_MEMBER_BYTES
    for m in members:  # and each that is wanted, alone and honest, is chosen
        if m.path in WANTED and sum(other.path.endswith(m.path) for other in members) == 1:
            assert m.path in chosen.values()


@given(st.sampled_from([pack_zip, pack_tar]), st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_makes_anything_but_an_archive_error(pack: Pack, data: st.DataObject) -> None:
    pack({"x/a.jpg": A, "b.jpg": B})
    content = ARCHIVE.read_bytes()
    if pack is pack_tar:
        content = gzip.decompress(content)
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = changed[: data.draw(st.integers(0, len(changed)))]
    ARCHIVE.write_bytes(gzip.compress(bytes(changed), 1) if pack is pack_tar else changed)
    for file in FOLDER.glob("*"):
        file.unlink()
    with contextlib.suppress(ArchiveError):
        take()
    for file in FOLDER.glob("*"):
        assert file.name in WANTED
        check_image(file)
