"""Binds an image request to one image: the exact region, size and canonical form (Image API,
sections 4.1, 4.2 and 4.7).

All arithmetic is in integers; halves are rounded up. `resolve` refuses what the specification or
the limits refuse. Its result lies inside the image, has at least one pixel and is within the
limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, assert_never

from orchestrator.errors import InvalidImageRequest
from orchestrator.iiif.rotation import canvas_size, fit_canvas
from orchestrator.iiif.scale import Dimensions, fit_within, fit_within_area, round_half_up, scaled
from orchestrator.iiif.syntax import (
    ConfinedSize,
    ExactSize,
    FullRegion,
    FullSize,
    HeightSize,
    ImageRequest,
    MaxSize,
    PercentRegion,
    PercentSize,
    PixelRegion,
    Region,
    SizeRequest,
    SquareRegion,
    WidthSize,
)

Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the image."""

_ExplicitSize = WidthSize | HeightSize | ExactSize | PercentSize


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one response: width, height and number of pixels, and how many times larger
    than the region it may be.

    `oversize_confined` applies to version 3 when the box of `!w,h` is larger than the region. With
    "clamp" the response has the size of the region (the text of section 4.2). "refuse" follows the
    official validator, which also expects that `^max` does not enlarge.
    """

    max_width: int = 12_000
    max_height: int = 12_000
    max_area: int = 50_000_000
    max_enlargement: float = 4.0
    oversize_confined: Literal["clamp", "refuse"] = "clamp"

    def within_edge(self, edge: int) -> Limits:
        """The limits of a client that may see at most `edge` pixels of a longest edge."""
        return replace(
            self, max_width=min(edge, self.max_width), max_height=min(edge, self.max_height)
        )


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """Exactly which pixels to render. `rotation` is 0 <= degrees < 360; `quality` is default, gray
    or bitonal.

    `size` is the size before rotation. `canonical` is the canonical
    region/size/rotation/quality.format in the version of the request. `full_region` is True if the
    region is the whole image, in any spelling.
    """

    region: Box
    size: Dimensions
    mirror: bool
    rotation: Fraction
    quality: str
    format: str
    full_region: bool
    canonical: str

    @property
    def product(self) -> str:
        """`x,y,w,h/w,h/rotation/quality.format`, always in pixels.

        The text is the same for the same pixels, in any version and spelling. Caches use it as the
        key of derivatives.
        """
        (x, y, w, h), (width, height) = self.region, self.size
        rotation = rotation_text(self.mirror, self.rotation)
        return f"{x},{y},{w},{h}/{width},{height}/{rotation}/{self.quality}.{self.format}"


def resolve(
    request: ImageRequest, dimensions: Dimensions, limits: Limits, *, public_edge: int | None = None
) -> ResolvedImage:
    """Bind `request` to an image of `dimensions`. Raises InvalidImageRequest (region or size).

    With `public_edge` (see `within_public_edge`), `max` is reduced to what a client without access
    rights may see. Other sizes are not changed; the caller checks them with that function.
    `public_edge` 0 changes nothing.
    """
    region = _resolve_region(request.region, dimensions)
    full_region = region[2:] == dimensions
    size = _resolve_size(request, region[2:], limits)
    if public_edge and isinstance(request.size, MaxSize):
        size = _public_size(region, size, dimensions, public_edge)
    rotation = request.rotation if request.rotation != 360 else Fraction(0)
    size = _size_on_canvas(request.size, region[2:], size, rotation, limits.max_area)
    quality = "default" if request.quality == "color" else request.quality
    canonical = "/".join(
        (
            "full" if full_region else f"{region[0]},{region[1]},{region[2]},{region[3]}",
            _canonical_size(request.version, region[2:], size, limits),
            rotation_text(request.mirror, rotation),
            f"{quality}.{request.format}",
        )
    )
    return ResolvedImage(
        region, size, request.mirror, rotation, quality, request.format, full_region, canonical
    )


def within_public_edge(resolved: ResolvedImage, dimensions: Dimensions, edge: int) -> bool:
    """True if the whole image at the scale of the request fits in a square of `edge` pixels. So
    tiles at low zoom are allowed, and regions in full detail are not.

    A side that ends at the right or lower edge of the image may be rounded up, because viewers
    round up the last tile.
    """
    (x, y, width, height), (image_width, image_height) = resolved.region, dimensions
    longest = max(dimensions)
    if edge >= longest:
        return True
    across = (resolved.size[0], width, image_width, x + width == image_width)
    down = (resolved.size[1], height, image_height, y + height == image_height)
    return all(
        size * whole <= part * edge or (is_last and (size - 1) * longest < part * edge)
        for size, part, whole, is_last in (across, down)
    )


def decoded_pixels(resolved: ResolvedImage, levels: int) -> int:
    """Pixels to decode for this derivative, if the source can be halved `levels` times."""
    (_, _, width, height), (out_width, out_height) = resolved.region, resolved.size
    factor = 1
    while levels > 0 and width >= 2 * factor * out_width and height >= 2 * factor * out_height:
        factor, levels = 2 * factor, levels - 1
    return math.ceil(width / factor) * math.ceil(height / factor)


def rotation_text(mirror: bool, rotation: Fraction) -> str:
    """The canonical rotation: ! if mirrored, no trailing zeros, a zero before the point (3.0,
    section 4.7).
    """
    sign = "!" if mirror else ""
    if rotation.denominator == 1:
        return f"{sign}{rotation.numerator}"
    places = 1
    while 10**places % rotation.denominator:
        places += 1
    digits = str(rotation.numerator * 10**places // rotation.denominator).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _resolve_region(region: Region, dimensions: Dimensions) -> Box:
    """The region cropped to the image (section 4.1). Raises InvalidImageRequest."""
    width, height = dimensions
    match region:
        case FullRegion():
            return 0, 0, width, height
        case PixelRegion(x, y, w, h):
            if x >= width or y >= height:
                raise InvalidImageRequest(
                    "region", "The region starts outside the image. Use a smaller x or y."
                )
            return x, y, min(w, width - x), min(h, height - y)
        case SquareRegion():
            side = min(dimensions)
            return (width - side) // 2, (height - side) // 2, side, side
        case PercentRegion():
            return _resolve_percent_region(region, dimensions)
        case _:
            assert_never(region)


def _resolve_percent_region(region: PercentRegion, dimensions: Dimensions) -> Box:
    """Each of the four numbers is rounded to the nearest pixel. A region that starts inside the
    image has at least its last pixel.
    """
    if region.x >= 100 or region.y >= 100:
        raise InvalidImageRequest(
            "region", "The region starts outside the image. Use x and y below 100 percent."
        )
    width, height = dimensions
    x, w = _percent_span(region.x, region.width, width)
    y, h = _percent_span(region.y, region.height, height)
    return x, y, w, h


def _percent_span(start: Fraction, length: Fraction, whole: int) -> tuple[int, int]:
    first = min(math.floor(start * whole / 100 + Fraction(1, 2)), whole - 1)
    return first, min(round_half_up(length * whole / 100), whole - first)


def _resolve_size(request: ImageRequest, region: Dimensions, limits: Limits) -> Dimensions:
    """The size of a region of `region` pixels (section 4.2). Raises InvalidImageRequest."""
    size = request.size
    match size:
        case MaxSize():
            return _max_size(region, limits, upscale=size.upscale)
        case ConfinedSize(w, h):
            if _is_refused_as_confined(request, region, limits):
                raise InvalidImageRequest(
                    "size", "The box of the size is larger than the region. Write ^!w,h to enlarge."
                )
            bounds = _size_bounds(region, limits, upscale=size.upscale)
            return fit_within_area(region, (min(w, bounds[0]), min(h, bounds[1])), limits.max_area)
        case FullSize():
            _check_limits(region, limits)
            return region
        case WidthSize() | HeightSize() | ExactSize() | PercentSize():
            explicit = _explicit_size(size, region)
            _check_enlargement(explicit, region, limits, upscale=size.upscale)
            _check_limits(explicit, limits)
            return explicit
        case _:
            assert_never(size)


def _explicit_size(size: _ExplicitSize, region: Dimensions) -> Dimensions:
    """A size that names numbers, without regard to the limits."""
    width, height = region
    match size:
        case WidthSize(w):
            return w, scaled(height, w, width)
        case HeightSize(h):
            return scaled(width, h, height), h
        case ExactSize(w, h):
            return w, h
        case PercentSize(percent):
            top, bottom = percent.numerator, 100 * percent.denominator
            return scaled(width, top, bottom), scaled(height, top, bottom)
        case _:
            assert_never(size)


def _is_refused_as_confined(request: ImageRequest, region: Dimensions, limits: Limits) -> bool:
    """True for a `!w,h` larger than the region, if the settings refuse it."""
    size = request.size
    if (
        limits.oversize_confined == "clamp"
        or request.version == 2
        or not isinstance(size, ConfinedSize)
    ):
        return False
    return not size.upscale and size.width > region[0] and size.height > region[1]


def _size_bounds(region: Dimensions, limits: Limits, *, upscale: bool) -> Dimensions:
    """The largest width and height of a response for this region: its own size, or with `upscale`
    its greatest enlargement; both within the limits.
    """
    width, height = region
    if upscale:
        width, height = int(width * limits.max_enlargement), int(height * limits.max_enlargement)
    return min(width, limits.max_width), min(height, limits.max_height)


def _max_size(region: Dimensions, limits: Limits, *, upscale: bool) -> Dimensions:
    """The size of `max` or `^max` for a region."""
    width, height = region
    if (
        not upscale
        and width <= limits.max_width
        and height <= limits.max_height
        and width * height <= limits.max_area
    ):
        return region
    enlarges = upscale and limits.oversize_confined == "clamp"
    return fit_within_area(region, _size_bounds(region, limits, upscale=enlarges), limits.max_area)


def _check_enlargement(
    size: Dimensions, region: Dimensions, limits: Limits, *, upscale: bool
) -> None:
    if size[0] <= region[0] and size[1] <= region[1]:
        return
    if not upscale:
        raise InvalidImageRequest(
            "size", "The size is larger than the region. Write ^ before it to enlarge."
        )
    factor = limits.max_enlargement
    if size[0] > math.ceil(region[0] * factor) or size[1] > math.ceil(region[1] * factor):
        raise InvalidImageRequest(
            "size", f"The size must be at most {factor:g} times the size of the region."
        )


def _check_limits(size: Dimensions, limits: Limits) -> None:
    width, height = size
    if width > limits.max_width:
        limit = f"{limits.max_width} pixels wide (maxWidth)"
    elif height > limits.max_height:
        limit = f"{limits.max_height} pixels high (maxHeight)"
    elif width * height > limits.max_area:
        limit = f"{limits.max_area} pixels in total (maxArea)"
    else:
        return
    raise InvalidImageRequest(
        "size", f"The size must be at most {limit}. Or write max for the largest size."
    )


def _size_on_canvas(
    requested: SizeRequest, region: Dimensions, size: Dimensions, rotation: Fraction, max_area: int
) -> Dimensions:
    """`size`, if the canvas of the rotated image is within `max_area`. `max` and `!w,h` are reduced
    to it; other sizes raise InvalidImageRequest.
    """
    if not rotation or size == (1, 1):
        return size
    width, height = canvas_size(size, rotation)
    if width * height <= max_area:
        return size
    if isinstance(requested, MaxSize | ConfinedSize):
        return fit_canvas(region, size, rotation, max_area)
    raise InvalidImageRequest(
        "size",
        f"The rotated image is {width} x {height} pixels; at most {max_area} in total are allowed "
        "(maxArea). Request a smaller size, or max for the largest one.",
    )


def _public_size(region: Box, size: Dimensions, dimensions: Dimensions, edge: int) -> Dimensions:
    """`size`, reduced to what clients without access rights may see: the image at `edge` pixels.

    For the whole image this is the size of its thumbnail. The size of a part is rounded down, so
    that `within_public_edge` is true.
    """
    longest = max(dimensions)
    if edge >= longest:
        return size
    box = (min(edge, size[0]), min(edge, size[1]))
    if region[2:] != dimensions:
        box = (
            min(size[0], max(1, region[2] * edge // longest)),
            min(size[1], max(1, region[3] * edge // longest)),
        )
    return fit_within(region[2:], box)


def _canonical_size(version: int, region: Dimensions, size: Dimensions, limits: Limits) -> str:
    """The size in the canonical form (section 4.7; in 2.1 `w,` if the aspect ratio is kept)."""
    width, height = size
    if version == 2:
        if size == region:
            return "full"
        return f"{width}," if scaled(region[1], width, region[0]) == height else f"{width},{height}"
    if size == _max_size(region, limits, upscale=False):
        return "max"
    if width <= region[0] and height <= region[1]:
        return f"{width},{height}"
    return "^max" if size == _max_size(region, limits, upscale=True) else f"^{width},{height}"
