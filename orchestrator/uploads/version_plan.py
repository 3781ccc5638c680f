"""Which part of a picture a resized version shows, and at what size. Pure arithmetic in pixels of
the upright picture; halves are rounded up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction

from orchestrator.catalog.uploads import Region
from orchestrator.errors import InvalidInput
from orchestrator.iiif.scale import Dimensions, fit_within, round_half_up
from orchestrator.settings.convert_arguments import GRAVITIES, Geometry, VersionRule

_CROP = re.compile(r"(\d{1,9})x(\d{1,9})\+(\d{1,9})\+(\d{1,9})", re.ASCII)
_RECIPE_RELEASE = 1
"""Grows when the same rules make other pixels: then `uploads resize` makes all versions again."""


@dataclass(frozen=True, slots=True)
class VersionPlan:
    """A version is `region` of the upright picture, scaled to `size` pixels."""

    name: str
    region: Region
    size: Dimensions
    quality: int


def parse_crop(text: str, dimensions: Dimensions) -> Region:
    """The region (x, y, width, height) that `{width}x{height}+{x}+{y}` names, as far as it lies in
    a picture of these dimensions. Raises InvalidInput if it has another form, or lies outside.
    """
    match = _CROP.fullmatch(text)
    if match is None:
        raise InvalidInput("crop should be WIDTHxHEIGHT+X+Y, such as 200x100+10+20.")
    width, height, x, y = (int(group) for group in match.groups())
    width, height = min(width, dimensions[0] - x), min(height, dimensions[1] - y)
    if width < 1 or height < 1:
        raise InvalidInput(
            f"crop lies outside of the picture, which has {dimensions[0]}x{dimensions[1]} pixels."
        )
    return x, y, width, height


def plan_version(rule: VersionRule, dimensions: Dimensions, crop: Region | None) -> VersionPlan:
    """The version that `rule` makes of a picture of these dimensions, or of a part of it."""
    region = crop or (0, 0, *dimensions)
    resized = _resized(rule.geometry, region[2:])
    if rule.extent is None:
        return VersionPlan(rule.name, region, resized, rule.quality)
    return VersionPlan(
        rule.name, _cut(region, resized, rule.extent, rule.gravity), rule.extent, rule.quality
    )


def rules_digest(rules: Sequence[VersionRule], crop: Region | None) -> str:
    """Identifies what the versions of a picture are made with."""
    text = repr((_RECIPE_RELEASE, [astuple(rule) for rule in rules], crop))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _resized(geometry: Geometry | None, size: Dimensions) -> Dimensions:
    if geometry is None:
        return size
    resized = _scaled_to(geometry, size)
    is_larger = resized[0] > size[0] or resized[1] > size[1]
    is_smaller = resized[0] < size[0] or resized[1] < size[1]
    if (geometry.only == "shrink" and not is_smaller) or (
        geometry.only == "enlarge" and not is_larger
    ):
        return size
    return resized


def _scaled_to(geometry: Geometry, size: Dimensions) -> Dimensions:
    width, height = size
    if geometry.percent:
        factor = Fraction(str(geometry.percent)) / 100
        return round_half_up(width * factor), round_half_up(height * factor)
    box = (geometry.width, geometry.height)
    if geometry.fit == "exact":
        return box[0] or width, box[1] or height
    if not box[1]:
        return box[0], round_half_up(Fraction(box[0] * height, width))
    if not box[0]:
        return round_half_up(Fraction(box[1] * width, height)), box[1]
    if geometry.fit == "inside":
        return fit_within(size, box)
    if box[0] * height >= box[1] * width:
        return box[0], round_half_up(Fraction(box[0] * height, width))
    return round_half_up(Fraction(box[1] * width, height)), box[1]


def _cut(region: Region, resized: Dimensions, extent: Dimensions, gravity: str) -> Region:
    """The part of `region` that is seen through `extent` when `region` is scaled to `resized`."""
    row, column = divmod(GRAVITIES.index(gravity), 3)
    spans = []
    for length, scaled, shown, place in (
        (region[2], resized[0], extent[0], column),
        (region[3], resized[1], extent[1], row),
    ):
        kept = min(length, round_half_up(Fraction(length * shown, scaled)))
        free = length - kept
        spans.append(((0, (free + 1) // 2, free)[place], kept))
    (left, width), (top, height) = spans
    return region[0] + left, region[1] + top, width, height
