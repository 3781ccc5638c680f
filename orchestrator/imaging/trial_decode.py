"""Decodes a small part of a picture when it is registered, so that a file that no decoder reads is
refused then, and not at each request.

The part is cheap: the coarsest level or the first rows. A format of which every part needs the
whole picture is tried only if the picture is small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.imaging import colour, vips
from orchestrator.imaging.formats.loaders import load_picture
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.picture_headers import PictureHeaders, header_number, load_level
from orchestrator.imaging.recipes import Probe, Recipe, Region
from orchestrator.imaging.render import cut_region
from orchestrator.model import Dimensions

_ROWS = 8
_TILE = 256
_MAX_LEVEL_PIXELS = 1_000_000
_MAX_WHOLE_PIXELS = 4_000_000
"""A picture that is decoded as a whole is tried up to this size: about 50 milliseconds."""
_LEVELLED_FORMATS = frozenset(("tiff", "jpeg2000"))
_WHOLE_FORMATS = frozenset(("heif", "webp", "gif", "svg", "pdf"))
_MULTIPLE_PASSES = ("jpeg-multiscan", "interlaced")
"""Header fields of progressive JPEG and interlaced PNG files."""


def try_decoding(path: Path, probe: Probe) -> None:
    """Decode a part of the picture at `path`, which `probe` describes.

    Raises what decoding it for a request raises, SourceMismatch if the file contradicts `probe`.
    """
    if probe.format not in _LEVELLED_FORMATS:
        _decode_first_rows(load_picture(probe.format, str(path), access="sequential"), probe)
        return
    pictures = OpenPictures(max_bytes=1, sandboxed=True)
    try:
        picture = pictures.open(str(path))
        if picture.random_access:
            _decode_coarsest(picture, probe, pictures)
        elif probe.width * probe.height <= _MAX_WHOLE_PIXELS or not _is_read_whole(picture):
            _decode_first_rows(load_level(picture, 0, access="sequential"), probe)
    finally:
        pictures.forget(str(path))


def _decode_coarsest(picture: PictureHeaders, probe: Probe, pictures: OpenPictures) -> None:
    region, size = _part_to_decode(picture.levels[-1], probe)
    recipe = Recipe(
        path=picture.path,
        kind=probe.kind,
        dimensions=probe.dimensions,
        levels=probe.levels,
        region=region,
        size=size,
    )
    cut_region(recipe, picture, pictures).copy_memory()


def _part_to_decode(coarsest: Dimensions, probe: Probe) -> tuple[Region, Dimensions]:
    """(region, size): the whole picture in the size of its coarsest level. If that is large, the
    first tile at full scale.
    """
    if coarsest[0] * coarsest[1] <= _MAX_LEVEL_PIXELS:
        size = coarsest[::-1] if probe.orientation >= 5 else coarsest
        return (0, 0, probe.width, probe.height), size
    size = (min(_TILE, probe.width), min(_TILE, probe.height))
    return (0, 0, *size), size


def _decode_first_rows(image: Any, probe: Probe) -> None:
    is_whole = probe.format in _WHOLE_FORMATS or any(
        header_number(image, field, 0) for field in _MULTIPLE_PASSES
    )
    if is_whole and probe.width * probe.height > _MAX_WHOLE_PIXELS:
        return
    # A region is read by this thread alone, which takes a third of the time of a pipeline.
    vips.Region.new(colour.to_web(image)).fetch(0, 0, image.width, min(_ROWS, image.height))


def _is_read_whole(picture: PictureHeaders) -> bool:
    """True for a TIFF that is decoded as a whole before its first row is known."""
    return picture.tiff is not None and picture.tiff.samples.engine != "libvips"
