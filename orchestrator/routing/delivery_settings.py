"""Settings as delivery wants them."""

from __future__ import annotations

from orchestrator.iiif.geometry import Limits
from orchestrator.imaging.recipes import Encoder
from orchestrator.routing.plan import ThumbnailRules
from orchestrator.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """What no request may exceed."""
    iiif = settings.iiif
    return Limits(
        iiif.max_width, iiif.max_height, iiif.max_area, iiif.max_enlargement, iiif.oversize_confined
    )


def thumbnail_rules_of(settings: Settings) -> ThumbnailRules:
    """What thumbnails may answer."""
    delivery = settings.delivery
    return ThumbnailRules.of(
        resize_thumbnails=delivery.resize_thumbnails,
        upscale=[(rule.asset_id, rule.max_percent) for rule in delivery.upscale_rules],
        tolerance_px=delivery.size_tolerance_px,
    )


def encoder_of(settings: Settings) -> Encoder:
    """How answers are encoded."""
    iiif = settings.iiif
    return Encoder(iiif.jpeg_quality, iiif.webp_quality, iiif.avif_quality)
