"""The settings that delivery uses, converted to the types of its parts."""

from __future__ import annotations

from orchestrator.iiif.geometry import Limits
from orchestrator.imaging.recipes import Encoder
from orchestrator.routing.failure_lifetimes import FailureLifetimes
from orchestrator.routing.plan import ThumbnailRules
from orchestrator.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """The largest size that a request may ask for."""
    iiif = settings.iiif
    return Limits(
        iiif.max_width, iiif.max_height, iiif.max_area, iiif.max_enlargement, iiif.oversize_confined
    )


def thumbnail_rules_of(settings: Settings) -> ThumbnailRules:
    """Which requests stored thumbnails may answer."""
    delivery = settings.delivery
    return ThumbnailRules.of(
        resize_thumbnails=delivery.resize_thumbnails,
        upscale=[(rule.asset_id, rule.max_percent) for rule in delivery.upscale_rules],
        tolerance_px=delivery.size_tolerance_px,
    )


def encoder_of(settings: Settings) -> Encoder:
    """The quality that derivatives are encoded with."""
    iiif = settings.iiif
    return Encoder(iiif.jpeg_quality, iiif.webp_quality, iiif.avif_quality)


def failure_lifetimes_of(settings: Settings) -> FailureLifetimes:
    """How long failures are repeated to later callers."""
    delivery = settings.delivery
    return FailureLifetimes(
        missing_s=delivery.failure_missing_s,
        unavailable_s=delivery.failure_unavailable_s,
        broken_s=delivery.failure_broken_s,
    )
