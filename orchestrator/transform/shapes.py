"""Which part of a picture a transform shows, and at what size. Pure arithmetic in whole pixels of
the upright picture; halves are rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.iiif.scale import Dimensions, fit_within, scaled
from orchestrator.transform.parameters import Crop, Focus, Parameters

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the upright picture."""
Point = tuple[int, int]
"""(x, y) in pixels of the upright picture."""
TransformFormat = Literal["jpg", "png", "gif", "webp", "avif"]

_OWN_FORMATS: dict[str, TransformFormat] = {"jpeg": "jpg", "png": "png", "gif": "gif"}
"""The output format of originals that keep theirs."""
_RETURNED_FORMATS: dict[str, TransformFormat] = {**_OWN_FORMATS, "webp": "webp"}
"""Originals that every browser shows. Others are never returned as they are."""
_ANIMATED_FORMATS = frozenset(("gif", "webp"))


@dataclass(frozen=True, slots=True)
class Picture:
    """What the headers of an original say. Width and height are in pixels, upright; `format` is
    that of the probe (jpeg, png, gif, tiff ...).
    """

    width: int
    height: int
    frames: int = 1
    format: str = "jpeg"
    has_alpha: bool = False

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Original:
    """The answer is the original file, byte for byte."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The answer is `region`, which lies inside the picture, scaled to `size` pixels, which is at
    most the size of the region.
    """

    region: Region
    size: Dimensions


def plan_shape(
    parameters: Parameters, picture: Picture, focus_point: Point | None = None
) -> Original | Shape:
    """What to make of `picture`.

    A size that is negative, missing, larger than the picture on one side, or its own size gives the
    original; so a picture is never enlarged. Where the original has another format than the one
    requested, one that browsers do not show, or several frames where one is requested, this is the
    whole picture in its own size. `focus_point` is the point of attention for crop=smart; without
    it the centre is kept.
    """
    if _is_original_size(parameters, picture):
        if _can_return(parameters, picture):
            return Original()
        return Shape((0, 0, *picture.dimensions), picture.dimensions)
    width, height = parameters.width, parameters.height
    if not (width and height):
        width = width or scaled(picture.width, height, picture.height)
        height = height or scaled(picture.height, width, picture.width)
    elif parameters.fit == "clip":
        width, height = fit_within(picture.dimensions, (width, height))
    else:
        return Shape(_cropped(parameters, picture, focus_point), (width, height))
    return Shape((0, 0, *picture.dimensions), (width, height))


def needs_attention(parameters: Parameters, picture: Picture) -> bool:
    """True if `plan_shape` needs the point of attention: crop=smart, and something is cut off."""
    if parameters.crop != "smart":
        return False
    plan = plan_shape(parameters, picture)
    return isinstance(plan, Shape) and plan.region[2:] != picture.dimensions


def output_format(parameters: Parameters, picture: Picture) -> TransformFormat:
    """The format of a shape: the one requested; else that of the original if it is JPEG, PNG or
    GIF; else PNG for a picture with transparency, and JPEG.
    """
    if parameters.format:
        return parameters.format
    return _OWN_FORMATS.get(picture.format, "png" if picture.has_alpha else "jpg")


def keeps_frames(parameters: Parameters, picture: Picture) -> bool:
    """True if a shape of this picture is an animation."""
    is_animated = picture.format in _ANIMATED_FORMATS and picture.frames > 1
    return (
        is_animated
        and not parameters.frame
        and output_format(parameters, picture) in _ANIMATED_FORMATS
    )


def _is_original_size(parameters: Parameters, picture: Picture) -> bool:
    width, height = parameters.width, parameters.height
    if width < 0 or height < 0 or not (width or height):
        return True
    if width > picture.width or height > picture.height:
        return True
    return width in (0, picture.width) and height in (0, picture.height)


def _can_return(parameters: Parameters, picture: Picture) -> bool:
    own = _RETURNED_FORMATS.get(picture.format)
    if own is None or parameters.format not in ("", own):
        return False
    return not (parameters.frame and picture.frames > 1)


def _cropped(parameters: Parameters, picture: Picture, focus_point: Point | None) -> Region:
    """The largest region with the aspect ratio of the requested size; the rest is cut off."""
    (width, height), (full_width, full_height) = (
        (parameters.width, parameters.height),
        picture.dimensions,
    )
    if width * full_height >= height * full_width:
        region = (full_width, scaled(height, full_width, width))
    else:
        region = (scaled(width, full_height, height), full_height)
    free_x, free_y = full_width - region[0], full_height - region[1]
    crop = parameters.crop
    if crop == "focus":
        x, y = _around_box(parameters.focus, region)
    elif crop == "smart" and focus_point is not None:
        x, y = _around_box((1, 1, *focus_point), region)
    else:
        x, y = _beside_cut(crop, free_x, free_y)
    return min(max(x, 0), free_x), min(max(y, 0), free_y), *region


def _beside_cut(crop: Crop, free_x: int, free_y: int) -> Point:
    """The corner of the region if the side that `crop` names is cut off; centred otherwise."""
    x, y = (free_x + 1) // 2, (free_y + 1) // 2
    match crop:
        case "top":
            return x, free_y
        case "bottom":
            return x, 0
        case "left":
            return free_x, y
        case "right":
            return 0, y
        case _:
            return x, y


def _around_box(box: Focus, region: Dimensions) -> Point:
    """The corner of a region whose centre is the centre of `box`; it may lie outside."""
    width, height, x, y = box
    return (2 * x + width - region[0] + 1) // 2, (2 * y + height - region[1] + 1) // 2
