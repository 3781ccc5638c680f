"""The five image parameters as typed values (IIIF Image API 2.1 and 3.0, section 4).

Needs no image. ASCII digits only, bounded in number; no signs, exponents or underscores. What does
not parse raises InvalidImageRequest, whose sentence names the parameter and says what to write
instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.errors import InvalidImageRequest

QUALITIES = ("default", "color", "gray", "bitonal")
FORMATS = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "tif": "image/tiff",
    "gif": "image/gif",
    "avif": "image/avif",
}
"""Format as written in a request -> media type."""

_INTEGER = r"([0-9]{1,9})"
# Also without the leading zero, which is only the canonical form's (3.0, section 4.7).
_DECIMAL = r"([0-9]{1,9}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})"
_PIXELS = re.compile(",".join([_INTEGER] * 4))
_PERCENT = re.compile("pct:" + ",".join([_DECIMAL] * 4))
_BOX = re.compile(r"(!?)([0-9]{0,9}),([0-9]{0,9})")
_SCALE = re.compile("pct:" + _DECIMAL)
_ROTATION = re.compile("(!?)" + _DECIMAL)
_NO_ROTATION = Fraction(0)

_REGION_FORMS = "full, square, x,y,w,h or pct:x,y,w,h in plain decimal digits"
_SIZE_FORMS = {
    2: "full, max, w, or ,h or w,h or !w,h or pct:n in plain decimal digits of at most nine places",
    3: "max, w, or ,h or w,h or !w,h or pct:n in plain decimal digits of at most nine places, "
    "with ^ before it to enlarge",
}
_ROTATION_FORMS = "degrees from 0 to 360 in plain decimal digits, with ! before them to mirror"


@dataclass(frozen=True, slots=True)
class FullRegion:
    """The whole image."""


@dataclass(frozen=True, slots=True)
class SquareRegion:
    """The centred square of the shorter side."""


@dataclass(frozen=True, slots=True)
class PixelRegion:
    """x, y, width and height in pixels, not yet clipped; width and height are positive."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PercentRegion:
    """x, y, width and height in percent of the image; width and height are positive."""

    x: Fraction
    y: Fraction
    width: Fraction
    height: Fraction


Region = FullRegion | SquareRegion | PixelRegion | PercentRegion


@dataclass(frozen=True, slots=True)
class MaxSize:
    """`max` and `^max`: as large as the limits allow."""

    upscale: bool = False


@dataclass(frozen=True, slots=True)
class FullSize:
    """`full`, version 2 only: the region unscaled."""


@dataclass(frozen=True, slots=True)
class WidthSize:
    """`w,`: this width, the height by the region's ratio."""

    width: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class HeightSize:
    """`,h`: this height, the width by the region's ratio."""

    height: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class ExactSize:
    """`w,h`: both sides, distorting if need be."""

    width: int
    height: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class ConfinedSize:
    """`!w,h`: as large as fits in this box, the ratio kept."""

    width: int
    height: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class PercentSize:
    """`pct:n`: both sides scaled to n percent."""

    percent: Fraction
    upscale: bool = False


SizeRequest = MaxSize | FullSize | WidthSize | HeightSize | ExactSize | ConfinedSize | PercentSize
"""`upscale` is the ^ of version 3; version 2 enlarges without it, so there it is true for w, ,h w,h
and pct:n.
"""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Parsed parameters, not yet bound to an image. `rotation` is 0 to 360 degrees clockwise, after
    mirroring.
    """

    version: int
    region: Region
    size: SizeRequest
    mirror: bool
    rotation: Fraction
    quality: str
    format: str


def parse_image_request(rest: tuple[str, ...], version: int) -> ImageRequest:
    """Parse the decoded segments (region, size, rotation, quality.format) by version 2 or 3 of the
    Image API.

    Raises InvalidImageRequest naming the first parameter at fault, in that order.
    """
    if len(rest) != 4:
        raise InvalidImageRequest(
            "path", "An image is asked for as region/size/rotation/quality.format."
        )
    region = parse_region(rest[0])
    size = parse_size(rest[1], version)
    mirror, rotation = parse_rotation(rest[2])
    quality, extension = _parse_output(rest[3])
    return ImageRequest(version, region, size, mirror, rotation, quality, extension)


def parse_region(text: str) -> Region:
    """Section 4.1. Raises InvalidImageRequest("region", ...)."""
    if text == "full":
        return FullRegion()
    if text == "square":
        return SquareRegion()
    if found := _PIXELS.fullmatch(text):
        x, y, width, height = map(int, found.groups())
        if width and height:
            return PixelRegion(x, y, width, height)
    elif found := _PERCENT.fullmatch(text):
        percents = [Fraction(number) for number in found.groups()]
        if percents[2] and percents[3]:
            return PercentRegion(*percents)
    else:
        raise InvalidImageRequest("region", f"The region is not one of the forms {_REGION_FORMS}.")
    raise InvalidImageRequest("region", "The region's width and height must both be above zero.")


def parse_size(text: str, version: int) -> SizeRequest:
    """Section 4.2 of the version. Raises InvalidImageRequest("size", ...)."""
    upscale = version == 2
    if text.startswith("^"):
        if version == 2:
            raise InvalidImageRequest(
                "size", "The size's ^ is of version 3; version 2 enlarges without it."
            )
        upscale, text = True, text[1:]
    if found := _BOX.fullmatch(text):
        return _box_size(found[1], found[2], found[3], upscale=upscale, version=version)
    if text == "max":
        return MaxSize(upscale and version != 2)
    if found := _SCALE.fullmatch(text):
        return _percent_size(Fraction(found[1]), upscale=upscale)
    if text == "full":
        if version == 2:
            return FullSize()
        raise InvalidImageRequest("size", "The size full is of version 2; version 3 has max.")
    raise _no_size(version)


def _no_size(version: int) -> InvalidImageRequest:
    return InvalidImageRequest("size", f"The size is not one of the forms {_SIZE_FORMS[version]}.")


def _box_size(
    confined: str, width: str, height: str, *, upscale: bool, version: int
) -> SizeRequest:
    """The forms with a comma; `width` and `height` are digits or empty."""
    if not (width or height) or (confined and not (width and height)):
        raise _no_size(version)
    w, h = int(width or 1), int(height or 1)
    if not (w and h):
        raise InvalidImageRequest("size", "The size's width and height must be above zero.")
    if confined:
        return ConfinedSize(w, h, upscale and version != 2)
    if not height:
        return WidthSize(w, upscale)
    if not width:
        return HeightSize(h, upscale)
    return ExactSize(w, h, upscale)


def _percent_size(percent: Fraction, *, upscale: bool) -> PercentSize:
    if not percent:
        raise InvalidImageRequest("size", "The size's percentage must be above zero.")
    if percent > 100 and not upscale:
        raise InvalidImageRequest("size", "A size above 100 percent is written ^pct:n.")
    return PercentSize(percent, upscale)


def parse_rotation(text: str) -> tuple[bool, Fraction]:
    """Section 4.3: (mirror first, degrees clockwise from 0 to 360). Raises
    InvalidImageRequest("rotation", ...).
    """
    if text == "0":
        return False, _NO_ROTATION
    found = _ROTATION.fullmatch(text)
    degrees = Fraction(found[2]) if found else Fraction(-1)
    if found is None or degrees > 360:
        raise InvalidImageRequest("rotation", f"The rotation is not {_ROTATION_FORMS}.")
    return bool(found[1]), degrees


def _parse_output(text: str) -> tuple[str, str]:
    """Sections 4.4 and 4.5: (quality, format)."""
    quality, dot, extension = text.partition(".")
    if quality not in QUALITIES:
        raise InvalidImageRequest("quality", f"The quality is not one of {', '.join(QUALITIES)}.")
    if not dot or extension not in FORMATS:
        raise InvalidImageRequest(
            "format", f"The format is not one of {', '.join(FORMATS)}, as in default.jpg."
        )
    return quality, extension
