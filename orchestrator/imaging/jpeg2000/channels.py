"""Makes an image in declared form of the decoded components of a JPEG2000 file.

Declared form: the colours and possibly opacity, straight, as uchar or ushort over the full range,
with the interpretation that the colours have. The profile is attached and not applied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000.area_decoder import Plane
from orchestrator.imaging.jpeg2000.channel_plan import Channel, ChannelPlan, LabScale

_ROUND = 0.5
"""Added before a cast, which cuts off."""
_RED_BLUE = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
"""The weight of (red, blue) in luma, of ITU-R BT.601 (sYCC) and BT.709."""


_LUMA_MODELS: dict[str, dict[str, Any]] = {
    "ycc": {},
    "ycck": {},
    "ycc video": {"is_video": True},
    "ycc 709 video": {"is_video": True, "weights": "709"},
}
"""How `_ycc_to_rgb` converts each model that has luma."""


def compose(planes: Mapping[int, Any], plan: ChannelPlan) -> Any:
    """The image of `planes`, one of int samples for each component that the plan needs, all of the
    same size. It is evaluated lazily.
    """
    return _with_origin(_convert(planes, plan), plan)


def compose_plain(planes: Mapping[int, Plane], plan: ChannelPlan) -> Any:
    """The image of the planes of a plan that `is_plain`, not subsampled. numpy takes a sixth of the
    time that libvips takes to join them.
    """
    import numpy as np  # not at the start of processes that decode nothing: 60 ms and 11 MB

    chosen = [planes[channel.component] for channel in plan.colours]
    width, height = chosen[0].width, chosen[0].height
    pixels = np.empty((height, width, len(chosen)), np.uint8)
    for n, plane in enumerate(chosen):
        # OpenJPEG keeps samples within the precision of their component, which is 8 bits.
        pixels[:, :, n] = np.frombuffer(plane.samples, np.int32).reshape(height, width)
    return compose_pixels(pixels.data, (width, height), plan)


def compose_pixels(pixels: Any, size: tuple[int, int], plan: ChannelPlan) -> Any:
    """The image of the bytes of its pixels, row by row, of a plan that `is_plain`."""
    image = vips.Image.new_from_memory(pixels, *size, len(plan.colours), "uchar")
    return _with_origin(_declare(image, gray=plan.model == "gray"), plan)


def _with_origin(image: Any, plan: ChannelPlan) -> Any:
    """`image` with the profile of the file, and the note that it had a palette."""
    if not plan.profile and not plan.has_palette:
        return image
    image = image.copy()
    if plan.profile:
        vips.attach_profile(image, plan.profile)
    if plan.has_palette:
        vips.mark_palette(image)
    return image


def spread(
    plane: Any, step: tuple[int, int], offset: tuple[int, int], size: tuple[int, int]
) -> Any:
    """A subsampled component at full size: each sample is repeated over the `step` columns and rows
    that it covers, from `offset` on. Pixels before the first sample repeat it.
    """
    if step == (1, 1):
        return plane
    return plane.zoom(*step).embed(*offset, *size, extend="copy")


def crop(image: Any, region: tuple[int, ...]) -> Any:
    """A rectangle (left, top, width, height) of `image`; `image` itself if that is all of it."""
    if region == (0, 0, image.width, image.height):
        return image
    return image.crop(*region)


def average(image: Any, factor: int) -> Any:
    """`image` in declared form with each square of `factor` pixels averaged, colours weighted by
    their opacity.
    """
    if not image.hasalpha():
        return image.shrink(factor, factor)
    return _unpremultiply(image.premultiply(max_alpha=_top(image)).shrink(factor, factor), image)


def _convert(planes: Mapping[int, Any], plan: ChannelPlan) -> Any:
    deep = plan.is_deep
    bands = [_scale(planes[channel.component], channel, deep=deep) for channel in plan.channels]
    colours = _to_colours(_join(bands[: len(plan.colours)]), plan)
    if plan.opacity is None:
        return colours
    image = colours.bandjoin(bands[-1])
    return _unpremultiply(image, image) if plan.is_premultiplied else image


def _scale(plane: Any, channel: Channel, *, deep: bool) -> Any:
    """A channel as uchar, or ushort if `deep`, over the full range."""
    kind, top = ("ushort", 65535) if deep else ("uchar", 255)
    if channel.column is not None:
        column = channel.column
        offset = 1 << (column.bits - 1) if column.signed else 0
        highest = (1 << column.bits) - 1
        values = [round((value + offset) * top / highest) for value in column.values]
        table = struct.pack(f"={len(values)}{'H' if deep else 'B'}", *values)
        lookup = vips.Image.new_from_memory(table, len(values), 1, 1, kind)
        return plane.cast("ushort").maplut(lookup)
    offset = 1 << (channel.bits - 1) if channel.signed else 0
    highest = (1 << channel.bits) - 1
    if highest == top:
        return (plane + offset if offset else plane).cast(kind)
    return plane.linear(top / highest, offset * top / highest + _ROUND).cast(kind)


def _to_colours(image: Any, plan: ChannelPlan) -> Any:
    """The colours of `plan`, which are at full range, in their interpretation."""
    model = plan.model
    if model == "lab":
        return _lab_to_srgb(image, plan)
    if model in _LUMA_MODELS:
        # One step of the 8 most significant bits: the standards give their constants in these.
        bits = plan.colours[0].bits
        unit = _top(image) / ((1 << bits) - 1) * 2.0 ** (bits - 8)
        colours = _ycc_to_rgb(image[:3], unit, **_LUMA_MODELS[model])
        image = colours.invert().bandjoin(image[3]) if model == "ycck" else colours
    if model in ("gray inverted", "cmy"):
        image = image.invert()
    if model in ("cmyk", "ycck"):
        return image.copy(interpretation="cmyk") if plan.profile else _inks_to_rgb(image)
    return _declare(image, gray=model in ("gray", "gray inverted"))


def _ycc_to_rgb(image: Any, unit: float, *, is_video: bool = False, weights: str = "601") -> Any:
    """RGB of luma and two colour differences. Video uses 219 steps for luma and 224 for the
    differences, and leaves the others unused.
    """
    red, blue = _RED_BLUE[weights]
    green = 1 - red - blue
    luma, chroma, black = (255 / 219, 255 / 224, 16 * unit) if is_video else (1.0, 1.0, 0.0)
    from_cb, from_cr = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    matrix = [
        [luma, 0, from_cr],
        [luma, -from_cb * blue / green, -from_cr * red / green],
        [luma, from_cb, 0],
    ]
    shifted = image.linear([1, 1, 1], [-black, -128 * unit, -128 * unit])
    return (shifted.recomb(matrix) + _ROUND).cast(image.format)


def _inks_to_rgb(image: Any) -> Any:
    """RGB of the enumerated CMYK, which says nothing about its inks: 1 - min(1, ink + black), as
    PostScript converts DeviceCMYK (PostScript Language Reference, 7.2.4).
    """
    inks = image[:3] + image[3]
    return _declare(inks.linear(-1, _top(image)).cast(image.format))


def _lab_to_srgb(image: Any, plan: ChannelPlan) -> Any:
    scale, top = plan.lab or LabScale((100, 170, 200), (0, 128, 96), "D50"), _top(image)
    bands = zip(scale.ranges, scale.offsets, plan.colours, strict=True)
    offsets = [-offset * r / ((1 << channel.bits) - 1) for r, offset, channel in bands]
    lab = image.linear([r / top for r in scale.ranges], offsets).copy(interpretation="lab")
    is_deep = image.format == "ushort"
    if scale.illuminant == "D65":  # what libvips' conversion assumes
        return lab.colourspace("rgb16" if is_deep else "srgb")
    exported = lab.icc_export(
        output_profile="srgb", intent="relative", depth=16 if is_deep else 8
    ).copy()
    exported.remove("icc-profile-data")
    return exported


def _unpremultiply(image: Any, like: Any) -> Any:
    """`image` with straight opacity, in the format and interpretation of `like`."""
    straight = image.unpremultiply(max_alpha=_top(like)) + _ROUND
    return straight.cast(like.format).copy(interpretation=like.interpretation)


def _declare(image: Any, *, gray: bool = False) -> Any:
    deep = image.format == "ushort"
    name = ("grey16" if deep else "b-w") if gray else ("rgb16" if deep else "srgb")
    return image.copy(interpretation=name)


def _join(bands: list[Any]) -> Any:
    return bands[0].bandjoin(bands[1:]) if len(bands) > 1 else bands[0]


def _top(image: Any) -> int:
    return 65535 if image.format == "ushort" else 255
