"""Reading one image file, whatever it may contain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clamp.data.schema import DataError

MAX_PIXELS = 50_000_000
# What social media serve. Pillow knows formats that start other programs; none of them is tried.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")


def read_image(file: Path) -> np.ndarray:
    """The pixels of an image, (H, W, 3) uint8 RGB; of an animation the first frame.

    DataError if the file is missing, no complete image, or larger than MAX_PIXELS.
    """
    try:
        if not file.is_file():  # also keeps a named pipe from blocking
            raise FileNotFoundError("no such file")
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise OverflowError(f"{image.width} x {image.height} pixels are too many")
            return np.array(image.convert("RGB"))
    except Exception as error:  # a decoder fed garbage may raise nearly anything
        raise DataError(file, None, " ".join(str(error).split()) or type(error).__name__) from None
