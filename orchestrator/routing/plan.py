"""Which tiers can make the derivative of a resolved request, cheapest first (steps 5 to 7 of
docs/architecture.md). Pure: no awaits, no clock, no store.

Hot memory and the disk cache come before the plan and need no decision. A plan always ends with the
image server, so that a failed tier is followed by one that can still answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from orchestrator.errors import NotAuthorised
from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve, within_public_edge
from orchestrator.iiif.syntax import ExactSize, FullSize, ImageRequest, MaxSize
from orchestrator.model import Asset, Dimensions

Access = Literal["open", "auth"]
"""The access class of a product: `open` is for every client, `auth` only for an authorised one."""


_RESTRICTED = "This asset is restricted. Send a token with one of its roles."


@dataclass(frozen=True, slots=True)
class ExactThumbnail:
    """Send the stored thumbnail of this size as it is."""

    tier: ClassVar[str] = "thumb"
    size: Dimensions
    access: Access


@dataclass(frozen=True, slots=True)
class ResizedThumbnail:
    """Scale the stored thumbnail of this size to the requested size."""

    tier: ClassVar[str] = "resize"
    size: Dimensions
    access: Access


@dataclass(frozen=True, slots=True)
class FromSource:
    """Cut the image from the source, by the image server."""

    tier: ClassVar[str] = "imageserver"


Step = ExactThumbnail | ResizedThumbnail | FromSource


@dataclass(frozen=True, slots=True)
class UpscaleLimit:
    """The thumbnails of assets whose id matches may be enlarged by at most `max_percent`."""

    asset_id: re.Pattern[str]
    max_percent: float


@dataclass(frozen=True, slots=True)
class ThumbnailRules:
    """The settings that decide which requests thumbnails may answer."""

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


def check_access(public_edge: int | None) -> None:
    """Raises NotAuthorised if a client for which this is the public edge may have no image of the
    asset at all.
    """
    if public_edge == 0:
        raise NotAuthorised(_RESTRICTED)


def access_class(asset: Asset, image: ResolvedImage, *, authorised: bool) -> Access:
    """The access class under which this client may have this image. Raises NotAuthorised if it may
    not have it.

    An image within the public edge is `open` for every client, so that authorised and anonymous
    clients share one product.
    """
    edge = asset.public_edge
    if edge is None or within_public_edge(image, asset.dimensions, edge):
        return "open"
    if authorised:
        return "auth"
    raise NotAuthorised(_RESTRICTED)


def plan(
    asset: Asset, image: ResolvedImage, access: Access, rules: ThumbnailRules
) -> tuple[Step, ...]:
    """The steps to try, in order; the last is always FromSource."""
    last = FromSource()
    if not (image.full_region and _is_plain_jpeg(image) and asset.thumbnails_version):
        return (last,)
    thumbnails = _accessible_thumbnails(asset, access)
    resize = _resize_steps(asset, image, thumbnails, rules)
    for size, kind in thumbnails:
        if _is_near(size, image.size, rules.size_tolerance_px):
            return (ExactThumbnail(size, kind), *resize, last)
    return (*resize, last)


def thumbnail_plan(asset: Asset, image: ResolvedImage, rules: ThumbnailRules) -> tuple[Step, ...]:
    """The steps that `/thumbs` may try: only stored open thumbnails, never the source. Empty if no
    thumbnail can answer.
    """
    if not (image.full_region and _is_plain_jpeg(image)):
        return ()
    steps = plan(asset, image, "open", rules)
    return tuple(step for step in steps if not isinstance(step, FromSource))


def resolve_thumbnail(
    request: ImageRequest, asset: Asset, limits: Limits, edge: int | None
) -> ResolvedImage:
    """As `geometry.resolve`, for `/thumbs`: `max` (in version 2 also `full`) of the whole image is
    its largest open thumbnail, as the info document of level 0 says.
    """
    if not isinstance(request.size, MaxSize | FullSize):
        return resolve(request, asset.dimensions, limits, public_edge=edge)
    at_max = replace(request, size=MaxSize())
    image = resolve(at_max, asset.dimensions, limits, public_edge=edge)
    if not (image.full_region and asset.thumbnails.open):
        return image
    largest = max(asset.thumbnails.open, key=max)
    image = resolve(replace(request, size=ExactSize(*largest)), asset.dimensions, limits)
    region, _, rest = image.canonical.split("/", 2)
    keyword = "full" if request.version == 2 else "max"
    return replace(image, canonical=f"{region}/{keyword}/{rest}")


def _is_plain_jpeg(image: ResolvedImage) -> bool:
    plain = image.rotation == 0 and not image.mirror
    return plain and image.format == "jpg" and image.quality == "default"


def _accessible_thumbnails(asset: Asset, access: Access) -> list[tuple[Dimensions, Access]]:
    """The thumbnails that a client of this access class may have, largest first."""
    thumbnails: list[tuple[Dimensions, Access]] = [(size, "open") for size in asset.thumbnails.open]
    if access == "auth":
        thumbnails += [(size, "auth") for size in asset.thumbnails.auth]
    return sorted(thumbnails, key=lambda item: max(item[0]), reverse=True)


def _is_near(size: Dimensions, requested: Dimensions, tolerance_px: int) -> bool:
    return all(abs(a - b) <= tolerance_px for a, b in zip(size, requested, strict=True))


def _resize_steps(
    asset: Asset,
    image: ResolvedImage,
    thumbnails: list[tuple[Dimensions, Access]],
    rules: ThumbnailRules,
) -> tuple[Step, ...]:
    if not rules.resize_thumbnails:
        return ()
    width, height = image.size
    larger = [(size, kind) for size, kind in thumbnails if size[0] >= width and size[1] >= height]
    if larger:
        return (ResizedThumbnail(*larger[-1]),)
    if thumbnails and _may_enlarge(asset, thumbnails[0][0], image.size, rules):
        return (ResizedThumbnail(*thumbnails[0]),)
    return ()


def _may_enlarge(
    asset: Asset, thumbnail: Dimensions, requested: Dimensions, rules: ThumbnailRules
) -> bool:
    percent = max(requested[0] / thumbnail[0], requested[1] / thumbnail[1]) * 100 - 100
    name = str(asset.id)
    return any(percent <= rule.max_percent and rule.asset_id.search(name) for rule in rules.upscale)
