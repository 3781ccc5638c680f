"""Colours as the web expects them: sRGB or one band of gray, alpha kept, 8 bits unless 16 are asked
for.
"""

from __future__ import annotations

from typing import Any

from orchestrator.imaging import vips

_SRGB_PROFILE_BYTES = 8192


def to_web(image: Any, *, keep_16: bool = False) -> Any:
    """`image` as sRGB (3 bands) or gray (1 band), with alpha if it had it; ushort only if it was
    and `keep_16`.

    Embedded profiles are applied once; CMYK without one goes through libvips' own. Gray stays one
    band.
    """
    image = _known_bands(image)
    deep = keep_16 and image.format == "ushort"
    gray = image.bands <= 2 and image.interpretation in ("b-w", "grey16")
    image = _managed(image, deep=deep)
    wanted = ("grey16" if deep else "b-w") if gray else ("rgb16" if deep else "srgb")
    if image.interpretation != wanted:
        image = image.colourspace(wanted)
    if image.format not in ("uchar", "ushort"):
        image = image.cast("ushort" if deep else "uchar")
    return image


def _known_bands(image: Any) -> Any:
    """Give pictures of no stated meaning one: their first band or first three."""
    if image.interpretation not in ("multiband", "histogram", "matrix", "error"):
        return image
    colours = 3 if image.bands >= 3 else 1
    image = image.extract_band(0, n=colours)
    deep = image.format == "ushort"
    name = ("rgb16" if deep else "srgb") if colours == 3 else ("grey16" if deep else "b-w")
    return image.copy(interpretation=name)


def _managed(image: Any, *, deep: bool) -> Any:
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
    except vips.VipsError:  # a profile that does not fit the picture is no reason to show nothing
        return image


def _is_srgb(image: Any) -> bool:
    profile: bytes = image.get("icc-profile-data")
    if image.bands < 3 or len(profile) > _SRGB_PROFILE_BYTES:
        return False
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile
