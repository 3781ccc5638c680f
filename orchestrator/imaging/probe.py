"""Reads what a picture is from its headers. No pixel is decoded, and dimensions are checked against
limits before they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged, TooLarge
from orchestrator.imaging import tiff_layout
from orchestrator.imaging.file_type import MEDIA_TYPES, sniff_file
from orchestrator.imaging.jpeg2000.codestream import Codestream, read_codestream
from orchestrator.imaging.loaders import load_picture
from orchestrator.imaging.picture_headers import header_number
from orchestrator.imaging.recipes import (
    FASTEST,
    MAX_SIDE,
    UNTILED_TILE,
    InputFormat,
    Probe,
    pyramid_levels,
)
from orchestrator.model import Dimensions, SourceKind

_SMALLEST_TILE, _LARGEST_TILE = 256, 1024
_BITS = {"uchar": 8, "char": 8, "ushort": 16, "short": 16}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of what is decoded: pixels of the picture, pages or frames of the file."""

    max_pixels: int
    max_frames: int


def probe(path: Path, bounds: Bounds) -> Probe:
    """What the headers of the picture at `path` say.

    Raises FileNotFoundError, TooLarge, Unprocessable, VipsError for a header that libvips refuses.
    """
    name = sniff_file(path)
    stream = read_codestream(path) if name == "jpeg2000" else None
    if stream is not None:
        check_size(stream.dimensions, bounds)
    image = load_picture(name, str(path))
    check_size((image.width, image.height), bounds)
    pages = header_number(image, "n-pages", 1) if name not in ("jpeg2000", "pdf") else 1
    if pages > bounds.max_frames:
        raise TooLarge(
            f"The image has more than {bounds.max_frames} pages or frames. Use a file with fewer."
        )
    result = _describe(name, image, pages)
    if stream is not None:
        return _as_jpeg2000(result, stream)
    return _as_pyramid(result, path, image) if name == "tiff" else result


def check_size(dimensions: Dimensions, bounds: Bounds) -> None:
    """Raises TooLarge or Damaged for dimensions that must not be decoded."""
    width, height = dimensions
    if width < 1 or height < 1:
        raise Damaged("The image has no pixels.")
    if max(dimensions) > MAX_SIDE:
        raise TooLarge(f"The image has a side of more than {MAX_SIDE} pixels. Use a smaller image.")
    if width * height > bounds.max_pixels:
        raise TooLarge(f"The image has more than {bounds.max_pixels} pixels. Use a smaller image.")


def _describe(name: InputFormat, image: Any, pages: int) -> Probe:
    orientation = header_number(image, "orientation", 1)
    size = (image.height, image.width) if orientation >= 5 else (image.width, image.height)
    media_type, extension = MEDIA_TYPES[name]
    return Probe(
        width=size[0],
        height=size[1],
        format=name,
        media_type=media_type,
        extension=extension,
        kind=SourceKind.ORIGINAL,
        tile_width=FASTEST.tile,
        tile_height=FASTEST.tile,
        levels=pyramid_levels(size, FASTEST.tile),
        pages=pages,
        bands=image.bands,
        bits=_BITS.get(image.format, 32),
        has_alpha=bool(image.hasalpha()),
        orientation=orientation,
    )


def _as_jpeg2000(probe: Probe, stream: Codestream) -> Probe:
    if stream.dimensions != probe.dimensions:
        raise Damaged("The JPEG2000 file has no valid header.")
    tile = _advertised_tile(stream.tile) if stream.tiled else (UNTILED_TILE, UNTILED_TILE)
    return replace(
        probe,
        kind=SourceKind.JPEG2000,
        tile_width=tile[0],
        tile_height=tile[1],
        levels=pyramid_levels(probe.dimensions, max(tile)),
        natively_tiled=stream.tiled,
        bits=stream.bits,
    )


def _advertised_tile(tile: Dimensions) -> Dimensions:
    """The tiles of the file, doubled to a useful size; 512 x 512 if they are large or oblong."""
    width, height = tile
    while min(width, height) < _SMALLEST_TILE:
        width, height = 2 * width, 2 * height
    if max(width, height) > _LARGEST_TILE:
        return UNTILED_TILE, UNTILED_TILE
    return width, height


def _as_pyramid(probe: Probe, path: Path, image: Any) -> Probe:
    """`probe` as a pyramid if the file is tile-ready: tiles of a useful size, and levels down to a
    few tiles.
    """
    try:
        layout = tiff_layout.read_layout(path)
    except tiff_layout.TiffLayoutError as error:
        raise Damaged("The TIFF file is damaged: its directories cannot be read.") from error
    tile = layout.levels[0].tile
    is_web_colour = image.format == "uchar" and image.interpretation in ("srgb", "b-w")
    has_useful_tiles = all(64 <= edge <= _LARGEST_TILE for edge in tile)
    last = layout.levels[-1].dimensions
    # A side of one pixel cannot be halved, so the pyramid of a very narrow picture ends there.
    has_all_levels = has_useful_tiles and (
        min(last) == 1 or all(side <= 4 * edge for side, edge in zip(last, tile, strict=True))
    )
    if not (
        is_web_colour
        and has_all_levels
        and probe.orientation == 1
        and "icc-profile-data" not in image.get_fields()
    ):
        return probe
    return replace(
        probe,
        kind=SourceKind.PYRAMID_TIFF,
        tile_width=tile[0],
        tile_height=tile[1],
        levels=pyramid_levels(probe.dimensions, max(tile)),
        natively_tiled=True,
        pages=1,
    )
