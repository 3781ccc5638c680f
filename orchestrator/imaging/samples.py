"""Makes the sample collection of `make run`: a 100-megapixel fractal landscape and some smaller
pictures of other kinds.

The pictures are computed, not shipped. Each is written to a temporary name and then renamed, so a
file of the collection is always complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pyvips

LANDSCAPE_SIDE = 10_240
"""10,240 x 10,240 pixels: 105 megapixels."""
_FINEST_CELL = 10
_COLOURS = (
    (0.00, (8, 24, 58)),
    (0.42, (26, 84, 132)),
    (0.50, (92, 164, 176)),
    (0.51, (222, 206, 158)),
    (0.56, (110, 148, 72)),
    (0.68, (54, 98, 52)),
    (0.80, (112, 94, 78)),
    (0.90, (150, 142, 138)),
    (0.95, (246, 248, 252)),
    (1.00, (255, 255, 255)),
)


def make_samples(folder: Path, *, side: int = LANDSCAPE_SIDE) -> Iterator[Path]:
    """Write the missing pictures of the collection into `folder`. Yields each path when the picture
    is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in COLLECTION.items():
        path = folder / name
        if not path.exists():
            part = path.with_name(f".part-{path.name}")
            draw(part, side)
            part.rename(path)
        yield path


def _landscape(path: Path, side: int) -> None:
    """Fractal land and sea, as a pyramid TIFF. It is tile-ready, so it is not converted."""
    image = _render_terrain(side, seed=7)
    image.tiffsave(
        str(path),
        tile=True,
        pyramid=True,
        tile_width=256,
        tile_height=256,
        compression="jpeg",
        Q=88,
    )


def _islands(path: Path, side: int) -> None:
    """Fractal terrain as a JPEG of 12 megapixels, stored rotated, with an EXIF orientation."""
    image = _render_terrain(side * 2 // 5, seed=23).crop(0, 0, side * 2 // 5, side * 3 // 10).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.jpegsave(str(path), Q=90)


def _rings(path: Path, side: int) -> None:
    """A zone plate in 16 bits. It has every frequency, which shows the quality of resizing."""
    edge = side // 5
    plate = (pyvips.Image.zone(edge, edge) * 0.5 + 0.5) * 65535
    plate.cast("ushort").copy(interpretation="grey16").pngsave(str(path), compression=3)


def _words(path: Path, side: int) -> None:
    """Text on a transparent background: a PNG with alpha."""
    lines = "Region / size / rotation / quality . format\n" * 24
    text = pyvips.Image.text(lines, font="sans", dpi=max(36, side // 50))
    colour = text.new_from_image([30, 60, 110]).copy(interpretation="srgb")
    colour.bandjoin(text).pngsave(str(path))


def _chart(path: Path, side: int) -> None:
    """Colours along two axes: a CMYK TIFF, as for print."""
    edge = side // 8
    ramp = pyvips.Image.xyz(edge, edge * 3 // 4) * (255 / edge)
    inks = ramp[0].bandjoin([ramp[1], 255 - ramp[0], ramp[1] * 0.2]).cast("uchar")
    inks.copy(interpretation="cmyk").tiffsave(str(path), compression="deflate")


def _drawing(path: Path, _side: int) -> None:
    """An SVG drawing."""
    circles = "".join(
        f'<circle cx="{600 + 16 * step}" cy="450" r="{420 - 20 * step}" fill="none" '
        f'stroke="hsl({step * 18}, 70%, 45%)" stroke-width="9"/>'
        for step in range(20)
    )
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="1600" height="900" viewBox="0 0 1600 900">'
        f'<rect width="1600" height="900" fill="#faf7f0"/>{circles}</svg>',
        encoding="utf-8",
    )


COLLECTION: dict[str, Callable[[Path, int], None]] = {
    "landscape.tif": _landscape,
    "islands.jpg": _islands,
    "rings.png": _rings,
    "words.png": _words,
    "chart.tiff": _chart,
    "drawing.svg": _drawing,
}


def _render_terrain(side: int, seed: int) -> pyvips.Image:
    """Fractal heights (a sum of noise octaves), coloured by height, lit from the north-west."""
    height = _noise(side, max(1, side // 3), 1.0, seed)
    cell, weight = side // 6, 0.5
    while cell >= _FINEST_CELL:
        height = height + _noise(side, cell, weight, seed + cell)
        cell, weight = cell // 2, weight * 0.52
    shade = height.conv([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]) * (side / 900)
    level = (height * 1.1 + 0.54) * 4095
    lit = level.cast("ushort").maplut(_palette()) * (1 - shade)
    return lit.cast("uchar").copy(interpretation="srgb")


def _noise(side: int, cell: int, weight: float, seed: int) -> pyvips.Image:
    return pyvips.Image.perlin(side, side, cell_size=cell, seed=seed) * weight


def _palette() -> pyvips.Image:
    """A row of 4,096 colours, from the deep sea to snow."""
    position = pyvips.Image.identity(ushort=True, size=4096) / 4095
    bands = []
    for band in range(3):
        value = position * 0 + _COLOURS[0][1][band]
        for (low, before), (high, after) in pairwise(_COLOURS):
            slope = (after[band] - before[band]) / (high - low)
            value = (position >= low).ifthenelse((position - low) * slope + before[band], value)
        bands.append(value)
    return bands[0].bandjoin(bands[1:])
