"""One recipe, one picture: the region is cut at the coarsest level that serves, then sized,
mirrored, turned, coloured.

The order is that of the IIIF Image API (region, size, rotation, quality, format). Everything before
`encode` is lazy, so only the pixels of the region are ever decoded.
"""

from __future__ import annotations

import math
from typing import Any, cast

from orchestrator.errors import SourceChanged
from orchestrator.imaging import colour, encode, vips
from orchestrator.imaging.jpeg2000.reader import CodestreamError
from orchestrator.imaging.open_pictures import Level, Opened, Picture, choose, factor
from orchestrator.imaging.recipes import OutputFormat, Recipe, Region
from orchestrator.model import Dimensions

_TRANSPOSED = frozenset((5, 6, 7, 8))
_BLOCK_PIXELS = 4_000_000
_BLOCK_WASTE = 1.3
"""Decoding together saves a quarter, so no more than that may be decoded in vain."""
_RIGHT_ANGLES = {90.0: "d90", 180.0: "d180", 270.0: "d270"}


def render(recipe: Recipe, opened: Opened) -> bytes:
    """The encoded derivative.

    Raises FileNotFoundError if the source is gone, SourceChanged if it is not the picture the
    recipe was made for, VipsError or Unprocessable if it cannot be decoded.
    """
    picture = opened.picture(recipe.path)
    try:
        stored = opened.stored_tile(picture, recipe)
        return stored or finish(cut(recipe, picture, opened), recipe)
    except (vips.VipsError, CodestreamError):
        opened.forget(recipe.path)
        raise


def decode_together(recipes: list[Recipe], opened: Opened) -> None:
    """Decode the rectangle that holds all `recipes` (of one file) at once, where that is less work.

    Their rendering then finds it decoded. Raises as `render`.
    """
    picture = opened.picture(recipes[0].path)
    if not picture.plain or picture.levels[0] != recipes[0].dimensions:
        return
    by_level: dict[int, list[Region]] = {}
    for recipe in recipes:
        n = choose(picture, recipe.region, recipe.size)
        by_level.setdefault(n, []).append(_placed(recipe.region, picture, n))
    for n, places in by_level.items():
        block = _around(places)
        pixels = block[2] * block[3]
        needed = sum(w * h for _, _, w, h in places)
        if len(places) > 1 and pixels <= min(_BLOCK_PIXELS, _BLOCK_WASTE * needed):
            opened.decode_block(picture, n, block)


def _placed(region: Region, picture: Picture, n: int) -> Region:
    """Where `region` lies in level `n` of a picture whose levels are its halvings, rounded up."""
    (full_w, full_h), (width, height) = picture.levels[0], picture.levels[n]
    left, w = _span(region[0], region[2], full_w, 2**n)
    top, h = _span(region[1], region[3], full_h, 2**n)
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, min(w, width - left), min(h, height - top)


def _around(places: list[Region]) -> Region:
    left, top = min(p[0] for p in places), min(p[1] for p in places)
    right, bottom = max(p[0] + p[2] for p in places), max(p[1] + p[3] for p in places)
    return left, top, right - left, bottom - top


def cut(recipe: Recipe, picture: Picture, opened: Opened) -> Any:
    """The region at exactly `recipe.size`, oriented, in the colours of the web."""
    orientation = picture.orientation
    turned = orientation in _TRANSPOSED
    stored = picture.levels[0]
    if (stored[::-1] if turned else stored) != recipe.dimensions:
        raise SourceChanged("The image's source is not the one its record describes.")
    region = stored_region(recipe.region, recipe.dimensions, orientation)
    size = recipe.size[::-1] if turned else recipe.size
    level = opened.level(picture, region, size)
    image = colour.to_web(
        _extract(level, region, stored), keep_16=recipe.format in encode.DEEP_FORMATS
    )
    image = resize(image, size)
    if level.streamed:  # rows come once, from the top: turning needs them all
        image = image.copy_memory()
    return image.autorot() if orientation != 1 else image


def area(recipe: Recipe, picture: Picture) -> tuple[int, Region]:
    """(number of the level, the rectangle of it) that `cut` reads of an upright picture."""
    n = choose(picture, recipe.region, recipe.size)
    full, level = picture.levels[0], picture.levels[n]
    factors = (factor(full[0], level[0], n), factor(full[1], level[1], n))
    left, top, width, height = _reach(recipe.region, full, level, factors)
    return n, (left, top, min(width, level[0] - left), min(height, level[1] - top))


def finish(image: Any, recipe: Recipe) -> bytes:
    """Mirror, turn, quality and format."""
    if recipe.mirror:
        image = image.fliphor()
    image = _rotate(image, recipe.rotation % 360)
    output = cast("OutputFormat", recipe.format)
    return encode.finish(image, recipe.quality, output, recipe.encoder)


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
    """`image` at exactly `size`, Lanczos, transparency weighed in."""
    if (image.width, image.height) == size:
        return image
    return _weighed(
        image,
        lambda im: im.resize(size[0] / im.width, vscale=size[1] / im.height, kernel="lanczos3"),
    )


def _extract(level: Level, region: Region, full: Dimensions) -> Any:
    """The region's pixels of a level, whole pixels only; one short at a rounded-down edge is
    repeated.
    """
    left, top, width, height = _reach(
        region, full, (level.width, level.height), (level.across, level.down)
    )
    there_w, there_h = min(width, level.width - left), min(height, level.height - top)
    image = level.cut(left, top, there_w, there_h)
    if (there_w, there_h) != (width, height):
        image = image.embed(0, 0, width, height, extend="copy")
    return image


def _reach(
    region: Region, full: Dimensions, level: Dimensions, factors: tuple[float, float]
) -> Region:
    """Where a region lies in a level; it begins inside, and may end a pixel outside."""
    left, width = _span(region[0], region[2], full[0], factors[0])
    top, height = _span(region[1], region[3], full[1], factors[1])
    return min(left, level[0] - 1), min(top, level[1] - 1), width, height


def _span(start: int, length: int, full: int, factor: float) -> tuple[int, int]:
    """(first pixel, pixels) of a level for a span at full scale; an edge of the picture rounds
    outwards.
    """
    first = round(start / factor)
    end = start + length
    last = math.ceil(end / factor) if end == full else round(end / factor)
    return first, max(1, last - first)


def _rotate(image: Any, angle: float) -> Any:
    if angle == 0:
        return image
    if angle in _RIGHT_ANGLES:
        return image.rot(_RIGHT_ANGLES[angle])
    if not image.hasalpha():
        image = image.addalpha()
    return _weighed(image, lambda im: im.rotate(angle, background=[0.0] * im.bands))


def _weighed(image: Any, change: Any) -> Any:
    """Apply a resampling with colours weighed by alpha, so that hidden colours do not bleed into
    the edge.
    """
    if not image.hasalpha():
        return change(image)
    kind, top = image.format, 65535 if image.format == "ushort" else 255
    return change(image.premultiply(max_alpha=top)).unpremultiply(max_alpha=top).cast(kind)
