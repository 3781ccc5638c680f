"""What a picture is, from its headers: no pixel is decoded and nothing is trusted that is not
bounded first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import TooLarge, Unprocessable
from orchestrator.imaging import tiff_layout as tiff
from orchestrator.imaging.file_type import MEDIA_TYPES, sniff_file
from orchestrator.imaging.jpeg2000.codestream import Codestream, read_codestream
from orchestrator.imaging.open_pictures import MAX_SVG_BYTES, load_first, number
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
    """What is refused before decoding: pixels of the picture, pages or frames of the file."""

    max_pixels: int
    max_frames: int


def probe(path: Path, bounds: Bounds) -> Probe:
    """Facts of the picture at `path`.

    Raises FileNotFoundError, TooLarge, Unprocessable, and VipsError for a header libvips refuses.
    """
    name = sniff_file(path)
    stream = read_codestream(path) if name == "jpeg2000" else None
    if stream is not None:
        check_size(stream.dimensions, bounds)
    if name == "svg" and path.stat().st_size > MAX_SVG_BYTES:
        raise TooLarge("The drawing's file is too large.")
    image = load_first(name, str(path))
    check_size((image.width, image.height), bounds)
    pages = number(image, "n-pages", 1) if name not in ("jpeg2000", "pdf") else 1
    if pages > bounds.max_frames:
        raise TooLarge(f"The image has more than {bounds.max_frames} pages or frames.")
    found = _describe(name, image, pages)
    if stream is not None:
        return _as_jpeg2000(found, stream)
    return _as_pyramid(found, path, image) if name == "tiff" else found


def check_size(dimensions: Dimensions, bounds: Bounds) -> None:
    """Raises TooLarge or Unprocessable for dimensions that must not be decoded."""
    width, height = dimensions
    if width < 1 or height < 1:
        raise Unprocessable("The image has no pixels.")
    if width * height > bounds.max_pixels or max(dimensions) > MAX_SIDE:
        raise TooLarge(f"The image has more than {bounds.max_pixels} pixels.")


def _describe(name: InputFormat, image: Any, pages: int) -> Probe:
    orientation = number(image, "orientation", 1)
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


def _as_jpeg2000(found: Probe, stream: Codestream) -> Probe:
    if stream.dimensions != found.dimensions:
        raise Unprocessable("The JPEG2000 file has no usable header.")
    tile = _advertised(stream.tile) if stream.tiled else (UNTILED_TILE, UNTILED_TILE)
    return replace(
        found,
        kind=SourceKind.JPEG2000,
        tile_width=tile[0],
        tile_height=tile[1],
        levels=pyramid_levels(found.dimensions, max(tile)),
        natively_tiled=stream.tiled,
        bits=stream.bits,
    )


def _advertised(tile: Dimensions) -> Dimensions:
    """Native tiles doubled to a useful size; very large or oblong ones are not worth keeping to."""
    width, height = tile
    while min(width, height) < _SMALLEST_TILE:
        width, height = 2 * width, 2 * height
    if max(width, height) > _LARGEST_TILE:
        return UNTILED_TILE, UNTILED_TILE
    return width, height


def _as_pyramid(found: Probe, path: Path, image: Any) -> Probe:
    """The same as a pyramid if the file is tile-ready: tiles of sensible size, levels down to a few
    tiles.
    """
    try:
        layout = tiff.read_layout(path)
    except tiff.TiffLayoutError as error:
        raise Unprocessable("The TIFF file's directories cannot be read.") from error
    tile = layout.levels[0].tile
    plain = image.format == "uchar" and image.interpretation in ("srgb", "b-w")
    sensible = all(64 <= edge <= _LARGEST_TILE for edge in tile)
    last = layout.levels[-1].dimensions
    # A side of one pixel cannot be halved: there the pyramid of a very narrow picture ends.
    complete = sensible and (
        min(last) == 1 or all(side <= 4 * edge for side, edge in zip(last, tile, strict=True))
    )
    if not (
        plain
        and complete
        and found.orientation == 1
        and "icc-profile-data" not in image.get_fields()
    ):
        return found
    return replace(
        found,
        kind=SourceKind.PYRAMID_TIFF,
        tile_width=tile[0],
        tile_height=tile[1],
        levels=pyramid_levels(found.dimensions, max(tile)),
        natively_tiled=True,
        pages=1,
    )
