"""The pictures of the chaos run. Every region of a picture tells which picture it is and where in
it the region lies: red and green are those of the picture, blue grows from one corner to the other.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = 24
HEIGHT = 420
_STEP = 45
"""Two pictures differ by this much in red or green."""
_TOLERANCE = 20
"""What JPEG2000 and JPEG may change in such a picture, and less than another place changes blue."""
Region = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


def width_of(picture: int) -> int:
    """Each picture has a width of its own, which info documents tell."""
    return 600 + 8 * picture


def make_pictures(folder: Path) -> None:
    """Write the pictures to `folder`, as JPEG files named by their numbers."""
    for picture in range(PICTURES):
        size = width_of(picture), HEIGHT
        pixels = _pixels(picture, (0, 0, *size), size).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{picture}.jpg", quality=95)


def picture_of_width(width: int) -> int | None:
    """The picture that has this width."""
    return next((n for n in range(PICTURES) if width_of(n) == width), None)


def picture_shown(body: bytes, region: Region | None) -> int | None:
    """The picture of which an encoded image shows the region, None for the whole picture. None if
    it shows none of them, or another region. Raises OSError for an image that is not whole.
    """
    with Image.open(io.BytesIO(body)) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32)
    height, width = pixels.shape[:2]
    red, green = (int(np.median(pixels[..., channel])) for channel in (0, 1))
    picture = round((red - 30) / _STEP) + 5 * round((green - 30) / _STEP)
    if not 0 <= picture < PICTURES:
        return None
    whole: Region = (0, 0, width_of(picture), HEIGHT)
    expected = _pixels(picture, region or whole, (width, height))
    return picture if np.abs(pixels - expected).max() < _TOLERANCE else None


def _pixels(picture: int, region: Region, size: tuple[int, int]) -> np.ndarray:
    """A region of the picture scaled to `size`."""
    left, top, width, height = region
    across = (left + (np.arange(size[0]) + 0.5) * width / size[0]) / width_of(picture)
    down = (top + (np.arange(size[1]) + 0.5) * height / size[1]) / HEIGHT
    pixels = np.empty((size[1], size[0], 3), np.float32)
    pixels[..., 0] = 30 + _STEP * (picture % 5)
    pixels[..., 1] = 30 + _STEP * (picture // 5)
    pixels[..., 2] = 20 + 107 * (across[None, :] + down[:, None])
    return pixels
