"""Which tiers can answer a resolved request, cheapest first. Pure: no awaits, no clock, no store.

The ladder is that of docs/architecture.md; memory and disk come before it, since they need no
decision. A plan always ends with the image server, so a tier that fails falls through to one that
can still answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import NotAuthorised
from orchestrator.iiif.geometry import ResolvedImage, within_public_edge
from orchestrator.model import Asset, Dimensions

Access = Literal["open", "auth"]
"""The access class of a product: `open` anyone may have, `auth` only who holds a right."""


@dataclass(frozen=True, slots=True)
class ExactThumbnail:
    """The stored thumbnail of this size is the answer."""

    size: Dimensions
    access: Access


@dataclass(frozen=True, slots=True)
class ResizedThumbnail:
    """The stored thumbnail of this size is scaled to the answer."""

    size: Dimensions
    access: Access


@dataclass(frozen=True, slots=True)
class FromSource:
    """The image server cuts it from the source."""


Step = ExactThumbnail | ResizedThumbnail | FromSource


@dataclass(frozen=True, slots=True)
class UpscaleLimit:
    """Assets whose id matches may have a thumbnail enlarged by at most `max_percent`."""

    asset_id: re.Pattern[str]
    max_percent: float


@dataclass(frozen=True, slots=True)
class ThumbnailRules:
    """The part of the settings a plan depends on."""

    resize_thumbnails: bool = True
    upscale: tuple[UpscaleLimit, ...] = ()
    size_tolerance_px: int = 0

    @classmethod
    def of(
        cls, *, resize_thumbnails: bool, upscale: Iterable[tuple[str, float]], tolerance_px: int
    ) -> ThumbnailRules:
        """Rules with their patterns compiled. Raises re.error for an invalid pattern."""
        limits = tuple(UpscaleLimit(re.compile(pattern), percent) for pattern, percent in upscale)
        return cls(resize_thumbnails, limits, tolerance_px)


def access_class(asset: Asset, image: ResolvedImage, *, authorised: bool) -> Access:
    """The class under which this image may be given to this client. Raises NotAuthorised when it
    may not.

    What fits the public edge is `open` for everyone, so one product serves both kinds of client.
    """
    edge = asset.public_edge
    if edge is None or within_public_edge(image, asset.dimensions, edge):
        return "open"
    if authorised:
        return "auth"
    raise NotAuthorised("This image needs a right that the request does not carry.")


def plan(
    asset: Asset, image: ResolvedImage, access: Access, rules: ThumbnailRules
) -> tuple[Step, ...]:
    """The steps to try in order; the last is always FromSource (reference/delivery.md 2.2 with
    12.5).
    """
    last = FromSource()
    if not (image.full_region and _is_plain_jpeg(image) and asset.thumbnails_version):
        return (last,)
    held = _held(asset, access)
    for size, kind in held:
        if _is_near(size, image.size, rules.size_tolerance_px):
            return (ExactThumbnail(size, kind), *_resized(asset, image, held, rules), last)
    return (*_resized(asset, image, held, rules), last)


def thumbnail_plan(asset: Asset, image: ResolvedImage, rules: ThumbnailRules) -> tuple[Step, ...]:
    """What `/thumbs` may try: stored open thumbnails only, never the source; empty when none can
    answer.
    """
    if not (image.full_region and _is_plain_jpeg(image)):
        return ()
    steps = plan(asset, image, "open", rules)
    return tuple(step for step in steps if not isinstance(step, FromSource))


def _is_plain_jpeg(image: ResolvedImage) -> bool:
    plain = image.rotation == 0 and not image.mirror
    return plain and image.format == "jpg" and image.quality == "default"


def _held(asset: Asset, access: Access) -> list[tuple[Dimensions, Access]]:
    """The thumbnails this class of client may have, largest first."""
    held: list[tuple[Dimensions, Access]] = [(size, "open") for size in asset.thumbnails.open]
    if access == "auth":
        held += [(size, "auth") for size in asset.thumbnails.auth]
    return sorted(held, key=lambda item: max(item[0]), reverse=True)


def _is_near(size: Dimensions, wanted: Dimensions, tolerance_px: int) -> bool:
    return all(abs(a - b) <= tolerance_px for a, b in zip(size, wanted, strict=True))


def _resized(
    asset: Asset, image: ResolvedImage, held: list[tuple[Dimensions, Access]], rules: ThumbnailRules
) -> tuple[Step, ...]:
    if not rules.resize_thumbnails:
        return ()
    width, height = image.size
    larger = [(size, kind) for size, kind in held if size[0] >= width and size[1] >= height]
    if larger:
        return (ResizedThumbnail(*larger[-1]),)
    if held and _may_enlarge(asset, held[0][0], image.size, rules):
        return (ResizedThumbnail(*held[0]),)
    return ()


def _may_enlarge(asset: Asset, held: Dimensions, wanted: Dimensions, rules: ThumbnailRules) -> bool:
    percent = max(wanted[0] / held[0], wanted[1] / held[1]) * 100 - 100
    name = str(asset.id)
    return any(percent <= rule.max_percent and rule.asset_id.search(name) for rule in rules.upscale)
