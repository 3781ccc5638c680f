"""Which originals cannot be served well as they are, so that they are converted by every policy.

These are originals of which each tile, or each overview, needs more decoding than a worker can keep
in memory between requests.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.imaging.picture_headers import PictureHeaders, identify, read_headers
from orchestrator.imaging.recipes import Probe
from orchestrator.model import Dimensions, SourceKind

_PIXEL_BYTES = 4
_MAX_OVERVIEW_PIXELS = 16_000_000
"""A level of this size is decoded in about two seconds."""
_LEVELLED_FORMATS = frozenset(("tiff", "jpeg2000"))
TOO_LARGE_TO_KEEP = "each tile needs the whole picture, which is too large to be kept decoded"
NO_SMALL_LEVEL = "it has no small level, so each overview needs the whole picture"


def decoded_bytes(dimensions: Dimensions) -> int:
    """The bytes that a decoded picture of these dimensions takes, at four for each pixel."""
    return dimensions[0] * dimensions[1] * _PIXEL_BYTES


def reason_to_convert(path: Path, probe: Probe, max_bytes: int) -> str:
    """Why the original at `path` is converted although a policy would use it as it is; "" if it can
    be served. A worker keeps up to `max_bytes` of decoded pixels.

    Raises as `picture_headers.read_headers`.
    """
    if probe.kind is SourceKind.PYRAMID_TIFF:
        return ""
    if probe.format in _LEVELLED_FORMATS:
        picture = read_headers(identify(str(path)))
        if _can_be_cut(picture):
            width, height = _smallest_level(picture)
            return NO_SMALL_LEVEL if width * height > _MAX_OVERVIEW_PIXELS else ""
    return TOO_LARGE_TO_KEEP if decoded_bytes(probe.dimensions) > max_bytes else ""


def _can_be_cut(picture: PictureHeaders) -> bool:
    """True if a region is decoded without the rest."""
    layout = picture.jpeg2000
    return picture.random_access and not (layout is not None and layout.is_indivisible)


def _smallest_level(picture: PictureHeaders) -> Dimensions:
    """The smallest level that is decoded without a larger one."""
    if picture.jpeg2000 is None:
        return picture.levels[-1]
    return picture.levels[picture.jpeg2000.header.usable_reductions]
