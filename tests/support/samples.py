"""The sample pictures of `tests/pictures`: unusual files, and what independent decoders make of
each of them.

`NAME.EXT` has its right answer in `NAME.expected.png`: upright, in sRGB. The README there says how
the answers were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of the folder."""

    path: Path

    @property
    def name(self) -> str:
        """The file name without its extension; unique."""
        return self.path.stem

    @property
    def expected(self) -> Pixels | None:
        """The right pixels (height, width, 4), or None for a file that is only to be answered."""
        beside = self.path.with_name(f"{self.name}.expected.png")
        return rgba(Image.open(beside)) if beside.exists() else None


def list_samples() -> list[Sample]:
    """Every sample, sorted by name."""
    paths = (path for path in FOLDER.iterdir() if path.suffix != ".md")
    return [Sample(path) for path in sorted(paths) if not path.name.endswith(".expected.png")]


def rgba(picture: Image.Image) -> Pixels:
    """`picture` as (height, width, 4) in 8 bits."""
    if picture.mode.startswith("I"):  # 16-bit gray
        gray = np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8)
        picture = Image.fromarray(gray)
    return np.asarray(picture.convert("RGBA"))


def on_white(pixels: Pixels) -> Pixels:
    """RGBA `pixels` without transparency (height, width, 3)."""
    white = Image.new("RGBA", (pixels.shape[1], pixels.shape[0]), "white")
    return np.asarray(Image.alpha_composite(white, Image.fromarray(pixels)).convert("RGB"))


def scaled(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """`pixels` at `size` (width, height), resized by Pillow."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """The 98th percentile of the largest difference of a channel, 0 to 255; colours weighted by
    the expected opacity. 255 for different shapes.
    """
    if actual.shape != expected.shape:
        return 255.0
    distance = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    if actual.shape[2] == 4:
        distance[..., :3] *= expected[..., 3:4] / 255
    return float(np.percentile(distance.max(axis=2), 98))
