"""One image file, whatever it may contain."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clamp.data.images import MAX_PIXELS, read_image
from clamp.data.schema import DataError


def encoded(form: str, mode: str = "RGB") -> bytes:
    stream = BytesIO()
    Image.effect_mandelbrot((24, 16), (-2, -1, 1, 1), 20).convert(mode).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_lossless_pixels_come_back(tmp_path: Path, form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a", form)
    assert np.array_equal(read_image(tmp_path / "a"), pixels)


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("GIF", "P"),
        ("WEBP", "RGBA"),
    ],
)
def test_every_common_form_becomes_rgb(tmp_path: Path, form: str, mode: str) -> None:
    (tmp_path / "image.jpg").write_bytes(encoded(form, mode))  # a wrong suffix does not matter
    pixels = read_image(tmp_path / "image.jpg")
    assert pixels.shape == (16, 24, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify image file"),
        (b"<html>404</html>", "cannot identify image file"),
        (encoded("JPEG")[:-100], "truncated"),
        (encoded("PNG")[:-40], "."),
        (encoded("TIFF"), "cannot identify image file"),
        (encoded("EPS"), "cannot identify image file"),
        (bomb(10_000, MAX_PIXELS // 10_000 + 1), "10000 x 5001 pixels are too many"),
        (bomb(60_000, 60_000), "exceeds limit"),
    ],
)
def test_an_unusable_file_is_a_data_error(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(tmp_path / "a.jpg")
    assert str(caught.value).startswith(f"{tmp_path / 'a.jpg'}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("absent.jpg", "folder.jpg", "pipe.jpg"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match="File name too long"):
        read_image(tmp_path / ("a" * 300))


@settings(max_examples=120, deadline=None)
@given(form=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP"]), data=st.data())
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject
) -> None:
    raw = bytearray(encoded(form))
    start = data.draw(st.integers(0, len(raw)))
    raw[start : start + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    file = tmp_path_factory.getbasetemp() / f"damaged.{form}"
    file.write_bytes(raw)
    try:
        pixels = read_image(file)
    except DataError as error:
        refusal = str(error)
    else:
        assert pixels.ndim == 3
        assert pixels.dtype == np.uint8
        return
    assert len(refusal.splitlines()) == 1


def test_the_sample_photographs_load(data_root: Path) -> None:
    files = sorted((data_root / "images").glob("*.jpg"))
    assert len(files) == 17
    for file in files:
        pixels = read_image(file)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= 100
        # this one says "image not found"; peers put it in the place of broken ones
        assert (pixels.std() > 10) == (file.name != "17_06_4705.jpg")
