"""What a recipe costs with the file at hand, from the headers of the file: nothing is decoded here.

The recorded levels of an original are those of its future pyramid, so only the file itself tells
how much of it must be decoded.
"""

from __future__ import annotations

from orchestrator.iiif.rotation import canvas_area
from orchestrator.imaging.jpeg2000.jp2_layout import SMALL_LEVEL_PIXELS, Jp2Layout
from orchestrator.imaging.picture_headers import PictureHeaders, coarsest_level, level_scale
from orchestrator.imaging.recipes import Recipe, Region
from orchestrator.model import Dimensions, SourceKind

_ENCODING_COST = {"avif": 20, "webp": 3, "png": 2, "gif": 3}
"""How many pixels could be decoded in the time that encoding one pixel takes."""
_ORIGINAL_SPEED = 5
"""An original is decoded this many times faster than JPEG2000."""
_SHRINK_SPEED = 4
"""A JPEG that is halved three times on loading is decoded this many times faster."""


class TooExpensive(Exception):
    """The recipe costs more than this worker may spend. Another lane may still run it."""


def cost_of(recipe: Recipe, decoded_pixels: int, *, is_jpeg2000: bool) -> int:
    """The cost of a recipe as the number of JPEG2000 pixels that could be decoded in that time. The
    rotated canvas is encoded, not only the image on it.
    """
    is_fast = recipe.kind is SourceKind.ORIGINAL and not is_jpeg2000
    decoding = decoded_pixels // _ORIGINAL_SPEED if is_fast else decoded_pixels
    encoding = canvas_area(recipe.size, recipe.rotation) * _ENCODING_COST.get(recipe.format, 1)
    return max(decoding, encoding)


def estimated_cost(recipe: Recipe) -> int:
    """The cost by what is recorded, without the file. A worker that opens the file knows better."""
    if recipe.kind is SourceKind.ORIGINAL:  # usually decoded as a whole
        return cost_of(recipe, recipe.dimensions[0] * recipe.dimensions[1], is_jpeg2000=False)
    return cost_of(recipe, recipe.decoded_pixels, is_jpeg2000=True)


def check_cost(
    recipe: Recipe, picture: PictureHeaders, region: Region, size: Dimensions, max_cost: int
) -> None:
    """Refuse to decode `region` of a file, both as stored, for `size`. Raises TooExpensive."""
    pixels = decoded_pixels(picture, region, size)
    if cost_of(recipe, pixels, is_jpeg2000=picture.jpeg2000 is not None) > max_cost:
        raise TooExpensive


def decoded_pixels(picture: PictureHeaders, region: Region, size: Dimensions) -> int:
    """Pixels of the file that are decoded for `region` at `size`, both as stored."""
    n = coarsest_level(picture.levels, region, size)
    if picture.jpeg2000 is not None:
        return _jpeg2000_pixels(picture.jpeg2000, picture.levels, n, region)
    full, level = picture.levels[0], picture.levels[n]
    if picture.random_access:
        scale_x, scale_y = (level_scale(full[axis], level[axis], n) for axis in (0, 1))
        return round(region[2] / scale_x * region[3] / scale_y)
    return max(_area(level), _area(full) // _SHRINK_SPEED if picture.format == "jpeg" else 0)


def _jpeg2000_pixels(
    layout: Jp2Layout, levels: tuple[Dimensions, ...], n: int, region: Region
) -> int:
    base = layout.header.base_reduction(n)
    if _area(levels[n]) <= SMALL_LEVEL_PIXELS or layout.is_indivisible:
        return _area(levels[base])
    return (region[2] * region[3]) >> (2 * base)


def _area(size: Dimensions) -> int:
    return size[0] * size[1]
