"""Checks pyramid TIFFs: their levels, whether every tile can be decoded, and whether the colours of
tiles are right.

A level is compared with the finer one, and the picture with its original: the colours of blocks of
some tiles, because lossy tiles differ from pixel to pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import sub
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged, InvalidInput
from orchestrator.imaging import encode, vips
from orchestrator.imaging.probe import Bounds, probe_pyramid
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Region
from orchestrator.imaging.tiff.level_reader import load_level
from orchestrator.imaging.tiff.pyramid import TiffPicture, read_picture
from orchestrator.model import Dimensions

_COMPRESSIONS = {7: "jpeg", 8: "deflate", 32946: "deflate", 50000: "zstd", 50001: "webp"}
_LOSSLESS = frozenset(("deflate", "zstd"))
_BIG_TIFF = 43
_BLOCK = 16
"""Edge in pixels of the blocks whose mean colours are compared."""
_FINE_TOLERANCE, _TOLERANCE, _TOLERANCE_OF_OTHERS, _COARSE_TOLERANCE = 6.0, 24.0, 48.0, 128.0
"""Levels of 8 bits by which the mean colour of a block may differ: in JPEG with whole colours, with
a quality of 50 and more, in files of unknown quality, and with a lower quality or in parts that are
narrower than a block. Twice what was measured with noise, stripes and saturated colours.
"""
_WHOLE_COLOURS = 90
"""libvips subsamples the colours of JPEG below this quality."""
_RESOLUTION_TOLERANCE = 1e-3
_STRIP_ROWS = 256


@dataclass(frozen=True, slots=True)
class PyramidFacts:
    """What a pyramid TIFF is. `levels` are (width, height) from the full scale down; `resolution`
    is in pixels per millimetre; `compression` is that of the tiles.
    """

    probe: Probe
    levels: tuple[Dimensions, ...]
    tile: Dimensions
    compression: str
    resolution: float
    is_big: bool
    has_subifds: bool
    bytes: int


def read_facts(path: Path, bounds: Bounds) -> PyramidFacts:
    """What the headers of the file at `path` say. Raises InvalidInput if it is not a pyramid TIFF
    with all levels down to one tile; Unprocessable, TooLarge, FileNotFoundError, VipsError.
    """
    result = probe_pyramid(path, bounds)
    picture = read_picture(path)
    levels = tuple(level.dimensions for level in picture.levels)
    tile = picture.directory.tile
    _check_levels(picture, levels)
    with path.open("rb") as file:
        is_big = _BIG_TIFF in file.read(4)[2:]
    image = load_level(str(path), picture, 0)
    return PyramidFacts(
        probe=result,
        levels=levels,
        tile=tile,
        compression=_COMPRESSIONS.get(picture.directory.compression, "other"),
        resolution=round(image.xres, 4),
        is_big=is_big,
        has_subifds=any(level.subifd >= 0 for level in picture.levels),
        bytes=path.stat().st_size,
    )


def _check_levels(picture: TiffPicture, levels: tuple[Dimensions, ...]) -> None:
    if not picture.random_access:
        raise InvalidInput("The file is not a pyramid TIFF: it has no tiles that can be cut.")
    tile = picture.directory.tile
    if any(level.directory.tile != tile for level in picture.levels):
        raise InvalidInput("The file is not a pyramid TIFF: its levels have different tiles.")
    last = levels[-1]
    if min(last) > 1 and any(a > b for a, b in zip(last, tile, strict=True)):
        raise InvalidInput(
            f"The file is not a complete pyramid TIFF: its smallest level has {last[0]} x {last[1]}"
            f" pixels, which is more than one tile of {tile[0]} x {tile[1]}."
        )


def shortcoming(facts: PyramidFacts, policy: ConversionPolicy) -> str:
    """What of the file is not as `policy` asks, as a sentence; "" if all is."""
    compression = policy.tile_compression(has_alpha=facts.probe.has_alpha)
    wanted = policy.resolution
    checks = (
        (facts.tile == (policy.tile, policy.tile), f"tiles of {policy.tile} pixels"),
        (facts.compression == compression, f"compression {compression}"),
        (
            not wanted or abs(facts.resolution - wanted) < _RESOLUTION_TOLERANCE,
            f"a resolution of {wanted} pixels per millimetre",
        ),
        (facts.is_big or not policy.always_big, "BigTIFF"),
        (facts.has_subifds == policy.subifd or len(facts.levels) == 1, "the levels as asked"),
        (facts.probe.orientation == 1 or not policy.autorotate, "an upright picture"),
    )
    missing = [text for is_met, text in checks if not is_met]
    return f"The pyramid does not have {', '.join(missing)}." if missing else ""


def check_pyramid(path: Path, bounds: Bounds) -> PyramidFacts:
    """Decode every tile of every level, and compare each level with the finer one. Returns what the
    file is.

    Raises as `read_facts`, and Damaged if a tile cannot be decoded or levels contradict each other.
    """
    facts = read_facts(path, bounds)
    picture = read_picture(path)
    for n in range(len(picture.levels)):
        _decode_all(load_level(str(path), picture, n, access="sequential"))
    _compare_levels(path, picture, _TOLERANCE_OF_OTHERS)
    return facts


def compare_with_original(path: Path, image: Any, policy: ConversionPolicy) -> None:
    """Decode some tiles of every level of the file at `path`, which was made of `image`, and
    compare their colours. That takes about 20 ms. Raises Damaged, VipsError.
    """
    picture = read_picture(path)
    compression = policy.tile_compression(has_alpha=image.hasalpha())
    tolerance = _tolerance(compression, policy.quality)
    is_exact = compression in _LOSSLESS
    written = load_level(str(path), picture, 0)
    for place in _sample_tiles(picture, 0):
        if is_exact:
            _expect(_pixels(written, place) == _pixels(image, place))
        else:
            _expect_alike(written, image, place, place, tolerance)
    _compare_levels(path, picture, tolerance)


def _tolerance(compression: str, quality: int) -> float:
    if compression in _LOSSLESS or (compression == "jpeg" and quality >= _WHOLE_COLOURS):
        return _FINE_TOLERANCE
    return _TOLERANCE if quality >= 50 else _COARSE_TOLERANCE


def _compare_levels(path: Path, picture: TiffPicture, tolerance: float) -> None:
    """Compare tiles of each level with the finer one. Raises Damaged, VipsError."""
    finer = load_level(str(path), picture, 0)
    for n in range(1, len(picture.levels)):
        level = load_level(str(path), picture, n)
        for x, y, width, height in _sample_tiles(picture, n):
            # A level that is rounded up has a last row or column of one pixel.
            width, height = min(width, finer.width // 2 - x), min(height, finer.height // 2 - y)
            if min(width, height) >= 1:
                same = (2 * x, 2 * y, 2 * width, 2 * height)
                _expect_alike(level, finer, (x, y, width, height), same, tolerance)
        finer = level


def _sample_tiles(picture: TiffPicture, n: int) -> Iterator[Region]:
    """(x, y, width, height) in pixels of the first, the middle and the last tile of the two finest
    levels, and of the middle one of others.
    """
    (width, height), (tile_w, tile_h) = picture.levels[n].dimensions, picture.directory.tile
    columns, rows = -(-width // tile_w), -(-height // tile_h)
    places = {(columns // 2, rows // 2)}
    if n < 2:
        places |= {(0, 0), (columns - 1, rows - 1)}
    for column, row in sorted(places):
        x, y = column * tile_w, row * tile_h
        yield x, y, min(tile_w, width - x), min(tile_h, height - y)


def _pixels(image: Any, place: Region) -> bytes:
    """The samples of a part of `image`. A region is read by this thread alone: the threads of a
    pipeline take longer for so few pixels.
    """
    return bytes(vips.Region.new(image).fetch(*place))


def _colours_of_blocks(image: Any, place: Region, block: Dimensions) -> memoryview:
    """The mean colours of the blocks, of (width, height) pixels, in a part of `image`; row by row,
    one number for each band, in the scale of the samples.
    """
    (x, y, width, height), (across, down) = place, block
    part = image.crop(x, y, width - width % across, height - height % down)
    means = encode.flatten(part).shrink(across, down)
    samples = memoryview(_pixels(means, (0, 0, means.width, means.height)))
    return samples.cast("H") if means.format == "ushort" else samples


def _decode_all(image: Any) -> None:
    """Decode all rows, in bounded memory. Raises VipsError."""
    region = vips.Region.new(image)
    for top in range(0, image.height, _STRIP_ROWS):
        region.fetch(0, top, image.width, min(_STRIP_ROWS, image.height - top))


def _expect_alike(image: Any, other: Any, place: Region, same: Region, tolerance: float) -> None:
    """Expect in `place` of `image` the colours of `same`, which is that place in `other`; its width
    and height are those of `place`, or twice as large.
    """
    width, height = place[2:]
    scale = same[2] // width
    across, down = min(_BLOCK, width), min(_BLOCK, height)
    if min(width, height) < _BLOCK:
        tolerance = _COARSE_TOLERANCE  # the colours of what is stored beside it spread into it
    ours = _colours_of_blocks(image, place, (across, down))
    theirs = _colours_of_blocks(other, same, (across * scale, down * scale))
    unit = 257 if image.format == "ushort" else 1
    _expect(
        (ours.format, len(ours)) == (theirs.format, len(theirs))
        and max(map(abs, map(sub, ours, theirs))) <= tolerance * unit
    )


def _expect(is_right: bool) -> None:
    if not is_right:
        raise Damaged("The pyramid does not have the colours of its original.")
