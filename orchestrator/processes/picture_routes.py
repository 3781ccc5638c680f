"""Builds the routes of the public port that exist only if they are configured: /ico and uploads."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.app import Services
from orchestrator.cache.hot.tier import HotTier
from orchestrator.routing.asset_pictures import AssetPictureSource
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.routing.source_bytes import SourceBytes
from orchestrator.web.direct_routes import DirectRoutes
from orchestrator.web.ico_routes import IcoRoutes
from orchestrator.web.landing_page import StaticFile
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import HotEntry
from orchestrator.web.routes import RouteGroup
from orchestrator.web.tus_routes import TusRoutes
from orchestrator.web.upload_routes import UploadRoutes
from orchestrator.web.uploads_page import uploads_page


def build_ico_routes(
    services: Services,
    assets: CurrentAssets,
    sources: SourceOrchestrator,
    hot: HotTier[HotEntry],
    addresses: PublicAddressResolver,
) -> IcoRoutes | None:
    """The routes of /ico; None if it is not configured."""
    if services.transformer is None:
        return None
    source_bytes = SourceBytes(services.store, services.origins.optimised)
    return IcoRoutes(
        transformer=services.transformer,
        assets=AssetPictureSource(
            assets, services.tokens, sources, source_bytes, services.scratch.folder
        ),
        hot=hot,
        addresses=addresses,
        settings=services.settings,
    )


def build_upload_routes(
    services: Services, hot: HotTier[HotEntry], addresses: PublicAddressResolver
) -> UploadRoutes | None:
    """The upload routes; None if they are not configured."""
    if services.uploads is None:
        return None
    return UploadRoutes(
        services=services.uploads, hot=hot, addresses=addresses, settings=services.settings
    )


def build_upload_extras(
    services: Services,
    addresses: PublicAddressResolver,
    files: Mapping[str, StaticFile],
    version: str,
) -> list[RouteGroup]:
    """The page for uploads, direct and resumable uploads; none if uploads are not configured.
    `files` are the static files; `version` is that of the product.
    """
    if services.uploads is None:
        return []
    settings = services.settings.uploads
    prefix = settings.route_prefix.rstrip("/") + "/"
    page = uploads_page(settings, files, prefix=prefix, version=version)
    return [
        DirectRoutes(services.uploads, addresses, prefix=prefix, page=page),
        TusRoutes(services.uploads, addresses, path=f"{prefix}tus", max_bytes=settings.max_bytes),
    ]
