"""Builds the routes of the public port beside those of images: the pages, and /ico, uploads and
sign-in, which exist only if they are configured.
"""

from __future__ import annotations

from orchestrator.app import Services
from orchestrator.cache.hot.tier import HotTier
from orchestrator.routing.asset_identifiers import AssetIdentifiers
from orchestrator.routing.asset_pictures import AssetPictureSource
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.routing.source_bytes import SourceBytes
from orchestrator.web.collection_routes import CollectionRoutes
from orchestrator.web.direct_routes import DirectRoutes
from orchestrator.web.hot_entries import HotEntry
from orchestrator.web.ico_routes import IcoRoutes
from orchestrator.web.manifest_viewer import ManifestViewer
from orchestrator.web.page_templates import Pages
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.routes import RouteGroup
from orchestrator.web.tus_routes import TusRoutes
from orchestrator.web.upload_routes import UploadRoutes
from orchestrator.web.view_routes import ViewRoutes


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


def build_pages(
    services: Services,
    pages: Pages,
    addresses: PublicAddressResolver,
    assets: CurrentAssets,
    identifiers: AssetIdentifiers,
) -> list[RouteGroup]:
    """The pages for people and the files that they load."""
    settings = services.settings
    uploads = ""
    if services.uploads is not None:
        uploads = settings.uploads.route_prefix.rstrip("/") + "/uploads"
    collection = CollectionRoutes(
        services.catalog.assets,
        services.catalog.selections,
        pages,
        addresses,
        default_version=settings.iiif.default_version,
        uploads=uploads,
    )
    view = ViewRoutes(
        pages=pages,
        addresses=addresses,
        assets=assets,
        identifiers=identifiers,
        neighbours=services.catalog.assets,
        tokens=services.tokens,
        default_version=settings.iiif.default_version,
    )
    return [collection, view, ManifestViewer(pages, addresses), pages.files]


def build_upload_extras(
    services: Services, addresses: PublicAddressResolver, pages: Pages
) -> list[RouteGroup]:
    """The page for uploads, direct and resumable uploads; none if uploads are not configured."""
    if services.uploads is None:
        return []
    settings = services.settings.uploads
    prefix = settings.route_prefix.rstrip("/") + "/"
    return [
        DirectRoutes(services.uploads, addresses, pages=pages, settings=settings),
        TusRoutes(services.uploads, addresses, path=f"{prefix}tus", max_bytes=settings.max_bytes),
    ]


def build_sign_in_routes(
    services: Services,
    assets: CurrentAssets,
    addresses: PublicAddressResolver,
    pages: Pages,
) -> list[RouteGroup]:
    """The routes below /auth/; none if no service is configured."""
    settings, tokens = services.settings.auth, services.tokens
    if not settings.services:
        return []
    # Imported here: Authlib takes a second to import, and most installations do not need it.
    from orchestrator.sign_in.openid_client import OpenIdClient
    from orchestrator.sign_in.password_check import PasswordCheck
    from orchestrator.web.sign_in.access_routes import AccessRoutes
    from orchestrator.web.sign_in.sign_in_pages import SignInPages
    from orchestrator.web.sign_in.viewer_routes import ViewerRoutes
    from orchestrator.web.sign_in.visits import VisitReader

    visits = VisitReader(settings, tokens, addresses)
    own_pages = SignInPages(pages)
    viewers = ViewerRoutes(settings, tokens, assets, visits, pages=own_pages, addresses=addresses)
    access = AccessRoutes(
        settings,
        tokens,
        visits,
        own_pages,
        addresses,
        passwords=PasswordCheck(settings),
        openid=OpenIdClient(settings),
    )
    return [viewers, access]
