"""One image file, whatever it may contain."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from clamp.data.images import MAX_PIXELS, read_image, read_picture
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
        ("TIFF", "RGB"),
        pytest.param("AVIF", "RGB", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")),
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


# --- as people see them ---


def test_sixteen_bits_of_grey_become_eight(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for form in ("PNG", "TIFF"):
        Image.fromarray(values).save(tmp_path / "a", form)
        pixels = read_image(tmp_path / "a")
        assert np.abs(pixels[..., 0].astype(float) - values / 257).max() <= 1
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_measurements_are_spread_over_the_range_that_they_have(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1.0, 0.0], [2.0, 3.0]], np.float32)).save(tmp_path / "a", "TIFF")
    assert read_image(tmp_path / "a")[..., 1].tolist() == [[0, 64], [191, 255]]


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, np.rot90), (8, lambda a: np.rot90(a, -1))],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_camera_that_was_turned(
    tmp_path: Path, orientation: int, stored: Callable[[np.ndarray], np.ndarray], form: str
) -> None:
    upright = np.zeros((40, 24, 3), np.uint8)
    upright[:20, :12] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(upright))).save(tmp_path / "a", form, exif=exif, quality=95)
    pixels = read_image(tmp_path / "a").astype(int)
    assert pixels.shape == upright.shape
    assert np.abs(pixels - upright).mean() < 10


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("PNG", "P"), ("GIF", "P")]
)
def test_what_is_transparent_is_white(tmp_path: Path, form: str, mode: str) -> None:
    logo = np.zeros((20, 20, 4), np.uint8)
    logo[8:12, 8:12, 3] = 255
    image = Image.fromarray(logo)
    if mode == "P":
        image = Image.new("P", (20, 20), 1)
        image.putpalette([0, 0, 0] * 2)
        image.paste(0, (8, 8, 12, 12))
        image.save(tmp_path / "a", form, transparency=1)
    else:
        image.convert(mode).save(tmp_path / "a", form, lossless=True)
    pixels = read_image(tmp_path / "a")
    assert pixels[0, 0].min() > 250
    assert pixels[10, 10].max() < 5


def test_a_jpeg_without_its_end_is_read_and_said_to_be_cut_short(tmp_path: Path) -> None:
    content = BytesIO()
    Image.effect_mandelbrot((240, 160), (-2, -1, 1, 1), 20).convert("RGB").save(content, "JPEG")
    whole = content.getvalue()
    expected = read_picture(whole)
    assert not expected.is_truncated
    for lost, most in ((2, 0), (20, 0.05)):
        found = read_picture(whole[:-lost])
        assert found.is_truncated
        assert (found.pixels_HW3 != expected.pixels_HW3).any(axis=2).mean() <= most
    with pytest.raises(DataError, match=r"^image: image file is truncated: \d+ % or more of it is missing$"):
        read_picture(whole[: len(whole) // 2])


def test_what_phones_keep_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="HEIC, which is not read here: save it as JPEG"):
        read_image(b"\0\0\0\x18ftypheic" + bytes(100))
