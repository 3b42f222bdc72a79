"""Reading one image file, whatever it may contain, as people see it: upright, on white, in eight bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from clamp.data.schema import DataError

MAX_PIXELS = 50_000_000
# What social media serve and cameras write. Pillow knows formats that start other programs; none of them is tried.
Image.init()
_KNOWN = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
_FORMATS: list[str] = [name for name in _KNOWN if name in Image.OPEN]  # as this Pillow was built
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff")
_JPEG = b"\xff\xd8\xff"
_END_OF_JPEG = b"\xff\xd9"
_MOST_MISSING = 0.05  # of the pixels of a JPEG that is cut short
_NAMED = 3  # of the images that are not there
_WHITE = (255, 255, 255, 255)


class ImageAbsentError(DataError):
    """There is no such file."""


class Picture(NamedTuple):
    """Pixels (H, W, 3) uint8 RGB, and whether the file lacked its last bytes."""

    pixels_HW3: np.ndarray
    is_truncated: bool


@dataclass
class ImageCounts:
    """What became of the images that were asked for; `why` tells of the first of those that are not there.

    `truncated` ones are among those read. `unnamed`: tweets that name no image; `unused`: named, to a model that reads
    none.
    """

    read: int = 0
    truncated: int = 0
    absent: int = 0
    unread: int = 0
    unnamed: int = 0
    unused: int = 0
    why: list[str] = field(default_factory=list)

    def fault(self, error: DataError) -> None:
        """Count an image that could not be read."""
        if isinstance(error, ImageAbsentError):
            self.absent += 1
        else:
            self.unread += 1
        if len(self.why) < _NAMED:
            self.why.append(str(error))

    def __str__(self) -> str:
        cut = f" ({self.truncated} of them cut short)" if self.truncated else ""
        said = f"{self.read} read{cut}, {self.absent} absent, {self.unread} unread"
        said += f", {self.unnamed} tweets name none" if self.unnamed else ""
        said += f", {self.unused} not used: the model reads none" if self.unused else ""
        more = "; ..." if self.absent + self.unread > len(self.why) else ""
        return said + (f" ({'; '.join(self.why)}{more})" if self.why else "")


def read_image(source: Path | bytes) -> np.ndarray:
    """The pixels of an image file or its content, (H, W, 3) uint8 RGB; of an animation the first frame.

    DataError as `read_picture`.
    """
    return read_picture(source).pixels_HW3


def read_picture(source: Path | bytes) -> Picture:
    """An image, turned as its camera was held, what is transparent in it white, 16 bits of grey brought to 8.

    A JPEG that lacks its end, or the last few of its pixels, is read as browsers show it, and said to be truncated.
    ImageAbsentError where there is no such file; DataError if it is no complete image, or larger than MAX_PIXELS.
    """
    name = "image" if isinstance(source, bytes) else source
    try:
        if isinstance(source, Path) and not source.is_file():  # also keeps a named pipe from blocking
            raise ImageAbsentError(name, None, "no such file")
        content = source if isinstance(source, bytes) else source.read_bytes()
        try:
            return Picture(_decoded(content), False)
        except OSError:
            if not content.startswith(_JPEG):
                raise
            return Picture(_decoded_without_end(content), True)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(name, None, "cannot identify image file: none of " + ", ".join(_FORMATS)) from None
    except Exception as error:  # a decoder fed garbage may raise nearly anything
        raise DataError(name, None, " ".join(str(error).split()) or type(error).__name__) from None


def find_image(folder: Path, name: str) -> Path:
    """The file of that name; or else, as data sets leave suffixes out or change them, one of another suffix."""
    file = folder / name
    stem = name[: -len(file.suffix)] if file.suffix.lower() in _SUFFIXES else name
    for candidate in (file, *(folder / f"{stem}{suffix}" for suffix in _SUFFIXES)):
        try:
            if candidate.is_file():
                return candidate
        except OSError:  # a name that is too long
            break
    return file


def _decoded(content: bytes) -> np.ndarray:
    if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        raise ValueError("HEIC, which is not read here: save it as JPEG")
    with Image.open(BytesIO(content), formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise OverflowError(f"{image.width} x {image.height} pixels are too many")
        image.load()
        return np.array(_on_white(ImageOps.exif_transpose(_eight_bits(image))).convert("RGB"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey in more than eight bits, which Pillow would cut off at 255, over the range that its form has."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values_HW = np.asarray(image).astype(np.float64)
    if image.mode == "F" or values_HW.max(initial=0) > 0xFFFF or values_HW.min(initial=0) < 0:
        low, high = values_HW.min(), values_HW.max()  # a measurement: it has no range but its own
    else:
        low, high = 0.0, 65535.0
    shares_HW = np.nan_to_num((values_HW - low) / max(high - low, 1e-30))
    grey = Image.fromarray((255 * shares_HW).round().clip(0, 255).astype(np.uint8))
    grey.getexif().update(image.getexif())
    return grey


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, _WHITE), seen)


def _decoded_without_end(content: bytes) -> np.ndarray:
    """The pixels of a JPEG that is cut short; OSError where more than some of them are missing.

    A decoder makes up what it is not told. What it makes up depends on how the content ends, which shows what that is.
    """
    one_HW3 = _decoded(content + _END_OF_JPEG)
    two_HW3 = _decoded(content + bytes(range(1, 255)) * (len(content) // 254 + 1) + _END_OF_JPEG)
    missing = (one_HW3 != two_HW3).any(axis=2).mean()
    if missing > _MOST_MISSING:
        raise OSError(f"image file is truncated: {100 * missing:.0f} % or more of it is missing")
    return one_HW3
