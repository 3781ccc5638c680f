"""Reference images for derivatives, made by other libraries (numpy, Pillow), and a comparison with
tolerance.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.imaging import Encoder, Probe, Recipe

FINE = Encoder(jpeg_quality=97, webp_quality=97, avif_quality=90)


def a_recipe(path: object, probe: Probe, **changes: Any) -> Recipe:
    """A recipe for the whole picture at its own size as PNG, with `changes`."""
    values: dict[str, Any] = {
        "path": str(path),
        "kind": probe.kind,
        "dimensions": probe.dimensions,
        "levels": probe.levels,
        "region": (0, 0, probe.width, probe.height),
        "size": probe.dimensions,
        "format": "png",
        "encoder": FINE,
    }
    return Recipe(**{**values, **changes})


def decode(body: bytes) -> NDArray[Any]:
    """The pixels of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(body)))


def reference(
    truth: NDArray[np.uint8], region: tuple[int, int, int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """`region` of the pixels `truth` at `size`, resized by Pillow."""
    x, y, w, h = region
    crop = Image.fromarray(np.ascontiguousarray(truth[y : y + h, x : x + w]))
    return np.asarray(crop.resize(size, Image.Resampling.LANCZOS) if crop.size != size else crop)


def assert_alike(
    actual: NDArray[Any], expected: NDArray[Any], *, mean: float = 3.0, p99: float = 24.0
) -> None:
    """Assert the same shape, and bounds for the mean and the 99th percentile of the absolute
    difference (0 to 255).
    """
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(int) - expected.astype(int))
    assert difference.mean() <= mean, f"mean difference {difference.mean():.2f}"
    worst = float(np.percentile(difference, 99))
    assert worst <= p99, f"99th percentile of the difference {worst:.1f}"


def advertised_tiles(
    probe: Probe, *scales: int
) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int]]]:
    """(region, size) of every tile of every scale factor, or of these powers of two, as viewers
    compute them.
    """
    for n in scales or range(probe.levels + 1):
        factor = 2**n
        for y in range(0, probe.height, probe.tile_height * factor):
            for x in range(0, probe.width, probe.tile_width * factor):
                w = min(probe.tile_width * factor, probe.width - x)
                h = min(probe.tile_height * factor, probe.height - y)
                yield (x, y, w, h), (-(-w // factor), -(-h // factor))
