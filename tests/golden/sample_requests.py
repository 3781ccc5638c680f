"""The recipes that each sample picture is rendered with, and the expected picture of each, made by
Pillow and numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.imaging import Encoder, Probe, Recipe
from tests.support.samples import Pixels, on_white, scaled

Box = tuple[int, int, int, int]
_SRGB_TO_Y = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request of a picture of any size. `bound` is the largest permitted `difference`."""

    name: str
    format: str
    bound: float
    region: Callable[[int, int], Box] = lambda w, h: (0, 0, w, h)
    shrink: int = 1
    mirror: bool = False
    rotation: float = 0.0
    quality: str = "default"

    def recipe(self, path: str, probe: Probe) -> Recipe:
        """The recipe of this request for the file that `probe` describes."""
        region = self.region(probe.width, probe.height)
        return Recipe(
            path, probe.kind, probe.dimensions, probe.levels, region, self._size(region),
            self.mirror, self.rotation, self.quality, self.format, Encoder(),
        )  # fmt: skip

    def expect(self, picture: Pixels) -> NDArray[Any]:
        """The right answer: RGBA, or RGB on white for JPEG. For bitonal the gray picture on
        white, without the threshold.
        """
        x, y, w, h = self.region(picture.shape[1], picture.shape[0])
        result: NDArray[Any] = scaled(picture[y : y + h, x : x + w], self._size((x, y, w, h)))
        result = result[:, ::-1] if self.mirror else result
        result = np.rot90(result, -round(self.rotation / 90)) if self.rotation % 90 == 0 else result
        if self.format == "jpg" or self.quality == "bitonal":
            result = on_white(np.ascontiguousarray(result))
        return _gray(result) if self.quality in ("gray", "bitonal") else result

    def _size(self, region: Box) -> tuple[int, int]:
        return max(1, region[2] // self.shrink), max(1, region[3] // self.shrink)


def _tile(width: int, height: int) -> Box:
    return 0, 0, min(256, width), min(256, height)


def _inner(width: int, height: int) -> Box:
    return width // 3, height // 4, max(1, width // 2), max(1, height // 2)


REQUESTS = (
    SampleRequest("whole", "png", 14),
    SampleRequest("tile", "jpg", 44, _tile),
    SampleRequest("thumbnail", "jpg", 54, shrink=4),
    SampleRequest("region", "png", 34, _inner, shrink=2),
    SampleRequest("mirrored", "png", 44, shrink=3, mirror=True),
    SampleRequest("rotated by 90", "png", 44, shrink=3, rotation=90),
    SampleRequest("rotated by 22.5", "png", 44, shrink=3, rotation=22.5),
    SampleRequest("gray", "png", 40, shrink=3, quality="gray"),
    SampleRequest("bitonal", "png", 255, shrink=3, quality="bitonal"),
    SampleRequest("WebP", "webp", 64, shrink=3),
    SampleRequest("TIFF", "tif", 44, shrink=3),
)


def _gray(picture: NDArray[Any]) -> NDArray[Any]:
    """RGB or RGBA with the luminance of sRGB (IEC 61966-2-1) as its colour."""
    signal = picture[..., :3].astype(np.float64) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    luminance = linear @ _SRGB_TO_Y
    encoded = np.where(
        luminance <= 0.0031308, luminance * 12.92, 1.055 * luminance ** (1 / 2.4) - 0.055
    )
    gray = np.rint(encoded * 255).astype(np.uint8)
    return np.dstack([gray, gray, gray, picture[..., 3:]])


def centre(pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """The middle `width` x `height` pixels."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def rotated(pixels: Pixels, angle: float) -> NDArray[Any]:
    """RGBA `pixels` turned clockwise about the centre, on a canvas that contains all of them."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.rotate(-angle, Image.Resampling.BICUBIC, expand=True))
