"""Converts colours to what browsers expect: sRGB or one band of gray, with alpha kept, and 8 bits
unless 16 are requested.
"""

from __future__ import annotations

from typing import Any

from orchestrator.imaging import vips

_MAX_SRGB_PROFILE_BYTES = 8192


def to_web(image: Any, *, keep_16: bool = False) -> Any:
    """`image` as sRGB (3 bands) or gray (1 band), with alpha if it had alpha; ushort only if it was
    ushort and `keep_16`.

    An embedded profile is applied once; CMYK without one is converted with libvips' own profile.
    Gray stays one band.
    """
    image = _assign_interpretation(image)
    is_deep = keep_16 and image.format == "ushort"
    is_gray = image.bands <= 2 and image.interpretation in ("b-w", "grey16")
    image = _apply_profile(image, deep=is_deep)
    target = _interpretation(gray=is_gray, deep=is_deep)
    if image.interpretation != target:
        image = image.colourspace(target)
    if image.format not in ("uchar", "ushort"):
        image = image.cast("ushort" if is_deep else "uchar")
    return image


def _interpretation(*, gray: bool, deep: bool) -> str:
    if gray:
        return "grey16" if deep else "b-w"
    return "rgb16" if deep else "srgb"


def _assign_interpretation(image: Any) -> Any:
    """Interpret the bands of an image that does not define them: the first three are colours, or
    the first one is gray.
    """
    if image.interpretation not in ("multiband", "histogram", "matrix", "error"):
        return image
    colours = 3 if image.bands >= 3 else 1
    image = image.extract_band(0, n=colours)
    name = _interpretation(gray=colours == 1, deep=image.format == "ushort")
    return image.copy(interpretation=name)


def _apply_profile(image: Any, *, deep: bool) -> Any:
    if "icc-profile-data" not in image.get_fields() or _is_srgb(image):
        return image
    try:
        return image.icc_transform(
            "srgb",
            embedded=True,
            intent="relative",
            black_point_compensation=True,
            depth=16 if deep else 8,
        )
    except vips.VipsError:  # the profile does not fit the image: show it without
        return image


def _is_srgb(image: Any) -> bool:
    profile: bytes = image.get("icc-profile-data")
    if image.bands < 3 or len(profile) > _MAX_SRGB_PROFILE_BYTES:
        return False
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile
