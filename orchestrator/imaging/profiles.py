"""Embedded ICC profiles: whether one fits the channels of its picture, which rendering intent it
has, and whether it is sRGB.

Only the header is read here. libvips (with lcms) does the arithmetic. A profile
that cannot be used is ignored, and `fault_of_profile` says why.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from orchestrator.imaging import vips

FIELD = "icc-profile-data"
_HEADER_BYTES, _ENTRY_BYTES, _MAX_TAGS = 128, 12, 100
_CHANNELS = {b"GRAY": "gray", b"RGB ": "RGB", b"CMYK": "CMYK"}
_KINDS = {
    "b-w": "gray",
    "grey16": "gray",
    "srgb": "RGB",
    "rgb": "RGB",
    "rgb16": "RGB",
    "cmyk": "CMYK",
}
"""Which channels a libvips interpretation has."""
_CURVES = {
    b"GRAY": frozenset((b"kTRC",)),
    b"RGB ": frozenset((b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")),
}
"""The tags of a profile without tables, by its colour space. It serves all rendering intents."""
_MAX_COMPARED_BYTES = 64 * 1024
"""A larger profile is applied without a comparison with sRGB. This bounds the memory of the cache
to 4 MiB.
"""
_GRID = (0, 51, 102, 153, 204, 255)
_GRAYS = tuple(range(0, 256, 5))
_SRGB_TOLERANCE = 1
"""Levels of 8 bits by which sRGB profiles of different makers differ."""


def profile_of(image: Any) -> bytes | None:
    """The embedded profile of `image` as it is stored; None if it has none."""
    return bytes(image.get(FIELD)) if image.get_typeof(FIELD) else None


def fits(profile: bytes, interpretation: str) -> bool:
    """True if the colour space of `profile` is that of the channels of a libvips interpretation."""
    space = _CHANNELS.get(profile[16:20])
    return space is not None and space == _KINDS.get(interpretation)


def fault_of_profile(profile: bytes, interpretation: str) -> str | None:
    """A sentence that says why `profile` is not applied to channels of a libvips interpretation;
    None if it is applied.
    """
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return "The embedded colour profile is damaged. It is ignored."
    if not fits(profile, interpretation):
        space = profile[16:20].decode("ascii", "replace").strip()
        return f"The embedded colour profile ({space}) does not fit the channels. It is ignored."
    if not _is_readable(profile, interpretation):
        return "The embedded colour profile cannot be read. It is ignored."
    return None


def transform(image: Any, profile: bytes, *, deep: bool) -> Any:
    """`image` (colour channels only) by `profile` as sRGB, 8 bits or 16 (`deep`), with black point
    compensation. The rendering intent is relative colorimetric, or one that the profile has.

    Raises VipsError if the profile cannot be used.
    """
    intent = _rendering_intent(profile)
    if intent is None:  # libvips would use another profile and report success
        raise vips.VipsError("the profile has no usable tables")
    image = image.copy()
    vips.attach_profile(image, profile)
    return image.icc_transform(
        "srgb",
        embedded=True,
        intent=intent,
        black_point_compensation=True,
        depth=16 if deep else 8,
    )


def transform_inks(image: Any, *, deep: bool) -> Any:
    """`image` (CMYK without a profile) as sRGB by libvips' own CMYK profile, with black point
    compensation.
    """
    return image.icc_transform(
        "srgb",
        input_profile="cmyk",
        intent="relative",
        black_point_compensation=True,
        depth=16 if deep else 8,
    )


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    colours = [value for r in _GRID for g in _GRID for b in _GRID for value in (r, g, b)]
    values = bytes(colours) + bytes(gray for gray in _GRAYS for _ in range(3))
    image = vips.Image.new_from_memory(values, len(values) // 3, 1, 3, "uchar")
    image = image.copy(interpretation="srgb")
    try:
        difference = (transform(image, profile, deep=False) - image).abs().max()
    except vips.VipsError:
        return False
    return bool(difference <= _SRGB_TOLERANCE)


def is_srgb(profile: bytes) -> bool:
    """True if `profile` leaves sRGB values as they are. Its name does not matter.

    The answer is remembered: the first one takes about 30 ms, the following ones microseconds.
    """
    return len(profile) <= _MAX_COMPARED_BYTES and _is_srgb(profile)


def _is_readable(profile: bytes, interpretation: str) -> bool:
    bands = {"gray": 1, "RGB": 3, "CMYK": 4}[_KINDS[interpretation]]
    pixel = vips.Image.black(1, 1, bands=bands).copy(interpretation=interpretation)
    try:
        transform(pixel, profile, deep=False).avg()
    except vips.VipsError:
        return False
    return True


def _rendering_intent(profile: bytes) -> str | None:
    """The first rendering intent of a fixed order that the profile has; None if it has none."""
    tags = _tags(profile)
    curves = _CURVES.get(profile[16:20])
    if b"A2B1" in tags or (curves is not None and curves <= tags):
        return "relative"
    if b"A2B0" in tags:
        return "perceptual"
    return "saturation" if b"A2B2" in tags else None


def _tags(profile: bytes) -> frozenset[bytes]:
    """The signatures of the tags that lie inside the profile; none if it is no profile."""
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return frozenset()
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    end = _HEADER_BYTES + 4 + _ENTRY_BYTES * count
    if count > _MAX_TAGS or end > len(profile):
        return frozenset()
    entries = struct.iter_unpack(">4sII", profile[_HEADER_BYTES + 4 : end])
    return frozenset(name for name, start, size in entries if start + size <= len(profile))
