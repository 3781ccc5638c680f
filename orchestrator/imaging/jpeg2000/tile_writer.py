"""JPEG2000 files written by OpenJPEG, tile by tile, so that one strip of the image is in memory.

`reorder` then sorts the tile-parts by resolution, so that a prefix of the file holds every low
resolution. `tile_quality` replaces the tiles that miss the quality of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000 import reorder
from orchestrator.imaging.jpeg2000.binding import OpenJpeg
from orchestrator.imaging.jpeg2000.encoder import Encoder, ImageForm, Pixels, TileGrid
from orchestrator.imaging.jpeg2000.tile_quality import TileQuality, psnr_to_request
from orchestrator.imaging.recipes import ConversionPolicy

_MAX_LEVELS = 6
_LOWEST_RESOLUTION = 128
"""Longest side of the lowest resolution. No client asks for a smaller one."""
_TINY = 64
ONE_PIECE_PIXELS = 64_000_000
"""OpenJPEG needs 27 bytes for each pixel of a tile (measured). Larger images are tiled."""
_TILE = 512


def choose_grid(width: int, height: int, tile: int) -> TileGrid:
    """The grid of an image for a policy's `tile` (0: in one piece, where memory allows)."""
    if not tile and width * height > ONE_PIECE_PIXELS:
        tile = _TILE
    levels, side = 0, max(width, height)
    while side > _LOWEST_RESOLUTION and levels < _MAX_LEVELS:
        side, levels = -(-side // 2), levels + 1
    # OpenJPEG requires that a tile can be halved `levels` times. It may be larger than its image.
    smallest = 1 << (levels + 1)
    return TileGrid(tile or max(width, smallest), tile or max(height, smallest), levels)


def write(
    openjpeg: OpenJpeg,
    image: Any,
    target: Path,
    policy: ConversionPolicy,
    *,
    threads: int = 1,
    on_strip: Callable[[Any], None] | None = None,
) -> None:
    """Write `image` (sRGB or gray, 8 or 16 bits) to `target` by `policy`.

    The image is read once, from the top; `on_strip` is called with each strip of it in memory.
    `target` is complete or does not exist. Raises CodestreamError, VipsError, OSError.
    """
    grid = choose_grid(image.width, image.height, policy.tile)
    by_tile = target.with_name(f"{target.name}.tiles")
    by_resolution = target.with_name(f"{target.name}.part")
    # In tiny images the lossy encoder misses the requested quality by far. Lossless costs nothing.
    lossless = policy.lossless or min(image.width, image.height) < _TINY
    quality = (
        None if lossless else TileQuality(openjpeg, grid, policy.psnr, target, threads=threads)
    )
    form = ImageForm(image.width, image.height, image.bands, 16 if image.format == "ushort" else 8)
    psnr = psnr_to_request(policy.psnr)
    try:
        with Encoder(openjpeg, form, grid, psnr, lossless=lossless) as encoder:
            encoder.start(by_tile, threads)
            for top, strip in _read_strips(image, form, grid.tile_height):
                if on_strip is not None:
                    on_strip(_as_image(strip, image))
                for left in range(0, form.width, grid.tile_width):
                    tile = strip[:, left : left + grid.tile_width]
                    if quality and quality.encode_if_smooth(encoder.tiles, tile, (left, top)):
                        # The encoder needs every tile. This one is replaced later.
                        tile = np.zeros_like(tile)
                    encoder.write_tile(tile)
                del strip, tile  # before the next one is read: it has the width of the image
            encoder.finish()
        reorder.sort_by_resolution(by_tile, by_resolution, quality.better if quality else None)
        by_resolution.replace(target)
    finally:
        by_tile.unlink(missing_ok=True)
        by_resolution.unlink(missing_ok=True)
        if quality is not None:
            quality.close()


def _read_strips(image: Any, form: ImageForm, height: int) -> Iterator[tuple[int, Pixels]]:
    """(first row, strip) of strips of `height` rows from one pass over the image.

    One region reads all of them: between two evaluations libvips forgets the rows it has read of
    a strip of the file, and it cannot read them a second time.
    """
    region = vips.Region.new(image)
    for top in range(0, form.height, height):
        rows = min(height, form.height - top)
        yield top, _as_array(region.fetch(0, top, form.width, rows), (rows, form.width), form)


def _as_array(samples: Any, shape: tuple[int, int], form: ImageForm) -> Pixels:
    array: Pixels = np.frombuffer(samples, f"u{form.bits // 8}")
    return array.reshape(*shape, form.bands)


def _as_image(strip: Pixels, image: Any) -> Any:
    """A strip of `image` as an image that reads the same memory."""
    rows, columns, bands = strip.shape
    pixels = vips.Image.new_from_memory(strip.data, columns, rows, bands, image.format)
    return pixels.copy(interpretation=image.interpretation)
