"""Renders one recipe: cut the region at the coarsest usable level, resize, mirror, rotate, encode.

The order is that of the IIIF Image API (region, size, rotation, quality, format). Every step before
encoding is lazy, so only the pixels of the region are decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from orchestrator.errors import SourceMismatch
from orchestrator.imaging import colour, encode, vips
from orchestrator.imaging.jpeg2000.binding import CodestreamError
from orchestrator.imaging.open_memory import is_memory_path
from orchestrator.imaging.open_pictures import Level, OpenPictures
from orchestrator.imaging.picture_headers import PictureHeaders, coarsest_level, level_scale
from orchestrator.imaging.recipes import OutputFormat, Recipe, Region
from orchestrator.imaging.render_cost import check_cost
from orchestrator.model import Dimensions

_TRANSPOSED = frozenset((5, 6, 7, 8))
"""EXIF orientations that exchange width and height."""
_MAX_BLOCK_PIXELS = 4_000_000
_MAX_BLOCK_OVERHEAD = 1.3
"""Decoding regions together saves a quarter of the work. A block with more pixels than this times
the pixels of its regions saves nothing.
"""
_RIGHT_ANGLES = {90.0: "d90", 180.0: "d180", 270.0: "d270"}


def render(recipe: Recipe, pictures: OpenPictures, max_cost: int | None = None) -> bytes:
    """The encoded derivative.

    Raises TooExpensive before anything is decoded if the recipe costs more than `max_cost` with
    this file (see `render_cost`), FileNotFoundError if the source does not exist, SourceMismatch
    if it is not the image that the recipe was made for, VipsError or Unprocessable if it cannot be
    decoded.
    """
    picture = pictures.open(recipe.path)
    try:
        stored = pictures.stored_tile(picture, recipe)
        if stored is not None:
            return stored
        if max_cost is not None:
            check_cost(recipe, picture, *_stored_request(recipe, picture), max_cost)
        return rotate_and_encode(cut_region(recipe, picture, pictures), recipe)
    except (vips.VipsError, CodestreamError):
        pictures.forget(recipe.path)
        raise


def decode_together(recipes: list[Recipe], pictures: OpenPictures) -> None:
    """Decode the rectangle that contains the regions of all `recipes` (of one file) at once, where
    that is less work. Rendering them afterwards uses the decoded pixels. Raises as `render`.
    """
    picture = pictures.open(recipes[0].path)
    if not picture.is_untiled_codestream or picture.levels[0] != recipes[0].dimensions:
        return
    if is_memory_path(picture.path):  # it has only what each recipe needs, nothing between
        return
    by_level: dict[int, list[Region]] = {}
    for recipe in recipes:
        n = coarsest_level(picture.levels, recipe.region, recipe.size)
        by_level.setdefault(n, []).append(_region_in_halved_level(recipe.region, picture.levels, n))
    for n, regions in by_level.items():
        block = _bounding_box(regions)
        pixels = block[2] * block[3]
        needed = sum(w * h for _, _, w, h in regions)
        if len(regions) > 1 and pixels <= min(_MAX_BLOCK_PIXELS, _MAX_BLOCK_OVERHEAD * needed):
            pictures.decode_block(picture, n, block)


def _region_in_halved_level(region: Region, levels: tuple[Dimensions, ...], n: int) -> Region:
    """Where `region` lies in level `n`, when all levels are halvings that round up."""
    (full_w, full_h), (width, height) = levels[0], levels[n]
    left, w = _span_in_level(region[0], region[2], full_w, 2**n)
    top, h = _span_in_level(region[1], region[3], full_h, 2**n)
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, min(w, width - left), min(h, height - top)


def _bounding_box(regions: list[Region]) -> Region:
    left, top = min(r[0] for r in regions), min(r[1] for r in regions)
    right, bottom = max(r[0] + r[2] for r in regions), max(r[1] + r[3] for r in regions)
    return left, top, right - left, bottom - top


def cut_region(recipe: Recipe, picture: PictureHeaders, pictures: OpenPictures) -> Any:
    """The region at exactly `recipe.size`, oriented, as sRGB or gray. Raises as `render`."""
    region, size = _stored_request(recipe, picture)
    level = pictures.level(picture, region, size)
    pixels = _extract(level, region, picture.levels[0])
    image = colour.to_web(pixels, keep_16=recipe.format in encode.DEEP_FORMATS)
    image = resize(image, size)
    if level.sequential:  # rows come once, from the top; turning needs all of them
        image = image.copy_memory()
    return image.autorot() if picture.orientation != 1 else image


def _stored_request(recipe: Recipe, picture: PictureHeaders) -> tuple[Region, Dimensions]:
    return region_and_size_as_stored(recipe, picture.levels[0], picture.orientation)


def region_and_size_as_stored(
    recipe: Recipe, stored: Dimensions, orientation: int
) -> tuple[Region, Dimensions]:
    """Region and size of the recipe in the orientation of a file of `stored` dimensions. Raises
    SourceMismatch.
    """
    is_transposed = orientation in _TRANSPOSED
    if (stored[::-1] if is_transposed else stored) != recipe.dimensions:
        raise SourceMismatch("The source of the image is not the one that its record describes.")
    region = stored_region(recipe.region, recipe.dimensions, orientation)
    return region, recipe.size[::-1] if is_transposed else recipe.size


def region_to_read(recipe: Recipe, levels: tuple[Dimensions, ...]) -> tuple[int, Region]:
    """(number of the level, the rectangle of it) that `cut_region` reads of an upright picture."""
    n = coarsest_level(levels, recipe.region, recipe.size)
    full, level = levels[0], levels[n]
    scales = (level_scale(full[0], level[0], n), level_scale(full[1], level[1], n))
    left, top, width, height = _region_in_level(recipe.region, full, level, scales)
    return n, (left, top, min(width, level[0] - left), min(height, level[1] - top))


def rotate_and_encode(image: Any, recipe: Recipe) -> bytes:
    """Mirror and rotate `image`, then encode it in the recipe's quality and format. Raises
    VipsError.
    """
    if recipe.mirror:
        image = image.fliphor()
    image = rotate(image, recipe.rotation % 360)
    output = cast("OutputFormat", recipe.format)
    return encode.encode_in_quality(image, recipe.quality, output, recipe.encoder)


def stored_region(region: Region, dimensions: Dimensions, orientation: int) -> Region:
    """Where a region of the oriented picture lies in the file, whose EXIF orientation is given."""
    x, y, w, h = region
    right, below = dimensions[0] - x - w, dimensions[1] - y - h
    match orientation:
        case 2:
            return right, y, w, h
        case 3:
            return right, below, w, h
        case 4:
            return x, below, w, h
        case 5:
            return y, x, h, w
        case 6:
            return y, right, h, w
        case 7:
            return below, right, h, w
        case 8:
            return below, x, h, w
        case _:
            return x, y, w, h


def resize(image: Any, size: Dimensions) -> Any:
    """`image` at exactly `size`, by Lanczos, with colours weighted by their alpha."""
    if (image.width, image.height) == size:
        return image
    return _resample(
        image,
        lambda im: im.resize(size[0] / im.width, vscale=size[1] / im.height, kernel="lanczos3"),
    )


def _extract(level: Level, region: Region, full: Dimensions) -> Any:
    """The region's pixels of a level, whole pixels only. At an edge that was rounded down, where
    one pixel is missing, the last one is repeated.
    """
    left, top, width, height = _region_in_level(
        region, full, (level.width, level.height), (level.scale_x, level.scale_y)
    )
    stored_w, stored_h = min(width, level.width - left), min(height, level.height - top)
    image = level.cut(left, top, stored_w, stored_h)
    if (stored_w, stored_h) != (width, height):
        image = image.embed(0, 0, width, height, extend="copy")
    return image


def _region_in_level(
    region: Region, full: Dimensions, level: Dimensions, scales: tuple[float, float]
) -> Region:
    """Where a region lies in a level. It begins inside the level and may end one pixel outside."""
    left, width = _span_in_level(region[0], region[2], full[0], scales[0])
    top, height = _span_in_level(region[1], region[3], full[1], scales[1])
    return min(left, level[0] - 1), min(top, level[1] - 1), width, height


def _span_in_level(start: int, length: int, full: int, scale: float) -> tuple[int, int]:
    """(first pixel, number of pixels) in a level, for a span at full scale. At the far edge of the
    image the span is rounded outwards.
    """
    first = round(start / scale)
    end = start + length
    last = math.ceil(end / scale) if end == full else round(end / scale)
    return first, max(1, last - first)


def rotate(image: Any, angle: float) -> Any:
    """`image` rotated clockwise by an angle in degrees, from 0 to less than 360; the corners of
    other angles than right ones are transparent.
    """
    if angle == 0:
        return image
    if angle in _RIGHT_ANGLES:
        return image.rot(_RIGHT_ANGLES[angle])
    if not image.hasalpha():
        image = image.addalpha()
    return _resample(image, lambda im: im.rotate(angle, background=[0.0] * im.bands))


def _resample(image: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` with colours weighted by alpha, so that the colours of transparent pixels do
    not bleed into the edges.
    """
    if not image.hasalpha():
        return change(image)
    kind, top = image.format, 65535 if image.format == "ushort" else 255
    return change(image.premultiply(max_alpha=top)).unpremultiply(max_alpha=top).cast(kind)
