"""Parses the five image parameters into typed values (IIIF Image API 2.1 and 3.0, section 4).

The parser needs no image. It accepts a bounded number of ASCII digits, and no signs, exponents or
underscores. Anything else raises InvalidImageRequest, whose message names the parameter and says
what to write.
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
"""Media type of each format that a request may name."""

_INTEGER = r"([0-9]{1,9})"
# Only the canonical form requires a digit before the point (3.0, section 4.7).
_DECIMAL = r"([0-9]{1,9}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})"
_PIXELS = re.compile(",".join([_INTEGER] * 4))
_PERCENT = re.compile("pct:" + ",".join([_DECIMAL] * 4))
_BOX = re.compile(r"(!?)([0-9]{0,9}),([0-9]{0,9})")
_SCALE = re.compile("pct:" + _DECIMAL)
_ROTATION = re.compile("(!?)" + _DECIMAL)
_NO_ROTATION = Fraction(0)

_REGION_FORMS = "full, square, x,y,w,h or pct:x,y,w,h, in numbers of at most 9 digits"
_SIZE_FORMS = {
    2: "full, max, w, or ,h or w,h or !w,h or pct:n, in numbers of at most 9 digits",
    3: "max, w, or ,h or w,h or !w,h or pct:n, in numbers of at most 9 digits, "
    "with ^ before it to enlarge",
}
_ROTATION_FORMS = "a decimal number of degrees from 0 to 360, with ! before it to mirror"


@dataclass(frozen=True, slots=True)
class FullRegion:
    """The whole image."""


@dataclass(frozen=True, slots=True)
class SquareRegion:
    """The centred square whose side is the shorter side of the image."""


@dataclass(frozen=True, slots=True)
class PixelRegion:
    """x, y, width and height in pixels, not yet cropped to the image; width and height are
    positive.
    """

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
    """`max` and `^max`: the largest size that the limits allow."""

    upscale: bool = False


@dataclass(frozen=True, slots=True)
class FullSize:
    """`full`, in version 2 only: the size of the region."""


@dataclass(frozen=True, slots=True)
class WidthSize:
    """`w,`: this width; the height follows from the aspect ratio of the region."""

    width: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class HeightSize:
    """`,h`: this height; the width follows from the aspect ratio of the region."""

    height: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class ExactSize:
    """`w,h`: this width and height. The aspect ratio may change."""

    width: int
    height: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class ConfinedSize:
    """`!w,h`: the largest size that fits in this box and keeps the aspect ratio."""

    width: int
    height: int
    upscale: bool = False


@dataclass(frozen=True, slots=True)
class PercentSize:
    """`pct:n`: both sides scaled to n percent."""

    percent: Fraction
    upscale: bool = False


SizeRequest = MaxSize | FullSize | WidthSize | HeightSize | ExactSize | ConfinedSize | PercentSize
"""`upscale` is the ^ of version 3. Version 2 enlarges without it, so there it is True for `w,`,
`,h`, `w,h` and `pct:n`.
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
    """Parse the decoded segments (region, size, rotation, quality.format) as version 2 or 3 of the
    Image API defines them.

    Raises InvalidImageRequest for the first invalid parameter, in this order.
    """
    if len(rest) != 4:
        raise InvalidImageRequest(
            "path", "The path of an image must end with region/size/rotation/quality.format."
        )
    region = parse_region(rest[0])
    size = parse_size(rest[1], version)
    mirror, rotation = parse_rotation(rest[2])
    quality, extension = _parse_output(rest[3])
    return ImageRequest(version, region, size, mirror, rotation, quality, extension)


def parse_region(text: str) -> Region:
    """The region (section 4.1). Raises InvalidImageRequest("region", ...)."""
    if text == "full":
        return FullRegion()
    if text == "square":
        return SquareRegion()
    if match := _PIXELS.fullmatch(text):
        x, y, width, height = map(int, match.groups())
        if width and height:
            return PixelRegion(x, y, width, height)
    elif match := _PERCENT.fullmatch(text):
        percents = [Fraction(number) for number in match.groups()]
        if percents[2] and percents[3]:
            return PercentRegion(*percents)
    else:
        raise InvalidImageRequest("region", f"The region must be {_REGION_FORMS}.")
    raise InvalidImageRequest(
        "region", "The width and height of the region must be greater than zero."
    )


def parse_size(text: str, version: int) -> SizeRequest:
    """The size (section 4.2 of the version). Raises InvalidImageRequest("size", ...)."""
    upscale = version == 2
    if text.startswith("^"):
        if version == 2:
            raise InvalidImageRequest(
                "size",
                "Version 2 does not allow ^ in the size. Remove it: version 2 enlarges without it.",
            )
        upscale, text = True, text[1:]
    if match := _BOX.fullmatch(text):
        return _parse_box_size(match[1], match[2], match[3], upscale=upscale, version=version)
    if text == "max":
        return MaxSize(upscale and version != 2)
    if match := _SCALE.fullmatch(text):
        return _parse_percent_size(Fraction(match[1]), upscale=upscale)
    if text == "full":
        if version == 2:
            return FullSize()
        raise InvalidImageRequest("size", "Version 3 does not allow the size full. Write max.")
    raise _unknown_size(version)


def _unknown_size(version: int) -> InvalidImageRequest:
    return InvalidImageRequest("size", f"The size must be {_SIZE_FORMS[version]}.")


def _parse_box_size(
    confined: str, width: str, height: str, *, upscale: bool, version: int
) -> SizeRequest:
    """The size forms with a comma. `width` and `height` are digits or empty."""
    if not (width or height) or (confined and not (width and height)):
        raise _unknown_size(version)
    w, h = int(width or 1), int(height or 1)
    if not (w and h):
        raise InvalidImageRequest(
            "size", "The width and height of the size must be greater than zero."
        )
    if confined:
        return ConfinedSize(w, h, upscale and version != 2)
    if not height:
        return WidthSize(w, upscale)
    if not width:
        return HeightSize(h, upscale)
    return ExactSize(w, h, upscale)


def _parse_percent_size(percent: Fraction, *, upscale: bool) -> PercentSize:
    if not percent:
        raise InvalidImageRequest("size", "The percentage of the size must be greater than zero.")
    if percent > 100 and not upscale:
        raise InvalidImageRequest(
            "size", "A size above 100 percent enlarges the image. Write ^pct:n to allow it."
        )
    return PercentSize(percent, upscale)


def parse_rotation(text: str) -> tuple[bool, Fraction]:
    """The rotation (section 4.3): (mirror first, degrees clockwise from 0 to 360). Raises
    InvalidImageRequest("rotation", ...).
    """
    if text == "0":
        return False, _NO_ROTATION
    match = _ROTATION.fullmatch(text)
    degrees = Fraction(match[2]) if match else Fraction(-1)
    if match is None or degrees > 360:
        raise InvalidImageRequest("rotation", f"The rotation must be {_ROTATION_FORMS}.")
    return bool(match[1]), degrees


def _parse_output(text: str) -> tuple[str, str]:
    """(quality, format), sections 4.4 and 4.5. Raises InvalidImageRequest."""
    quality, dot, extension = text.partition(".")
    if quality not in QUALITIES:
        raise InvalidImageRequest("quality", f"The quality must be one of {', '.join(QUALITIES)}.")
    if not dot or extension not in FORMATS:
        raise InvalidImageRequest(
            "format", f"The format must be one of {', '.join(FORMATS)}, as in default.jpg."
        )
    return quality, extension
