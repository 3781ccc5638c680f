"""Builds the routes of the public port that answer with documents of the Presentation API and of
Change Discovery.
"""

from __future__ import annotations

from orchestrator.app import Services
from orchestrator.cache.hot.tier import HotTier
from orchestrator.manifests.asset_collections import AssetCollections
from orchestrator.manifests.canvases import CanvasBuilder
from orchestrator.manifests.named_query_results import NamedQueryResults
from orchestrator.manifests.query_matches import QueryMatches
from orchestrator.manifests.result_documents import ResultDocuments
from orchestrator.routing.asset_identifiers import AssetIdentifiers
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.delivery_settings import limits_of
from orchestrator.routing.snapshots import Snapshots
from orchestrator.web.activity_routes import ActivityRoutes
from orchestrator.web.hot_entries import HotEntry
from orchestrator.web.manifest_routes import ManifestRoutes
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.result_routes import ResultRoutes
from orchestrator.web.routes import RouteGroup


def build_document_routes(
    services: Services,
    *,
    identifiers: AssetIdentifiers,
    snapshots: Snapshots,
    assets: CurrentAssets,
    hot: HotTier[HotEntry],
    addresses: PublicAddressResolver,
) -> list[RouteGroup]:
    """The routes of manifests, named queries, collections and activity streams."""
    settings, catalog = services.settings, services.catalog
    builder = CanvasBuilder(
        settings.manifests,
        limits_of(settings),
        rights=settings.iiif.rights,
        access=services.access_services,
    )
    documents, page_size = ResultDocuments(builder), settings.manifests.page_size
    return [
        ManifestRoutes(
            identifiers=identifiers,
            snapshots=snapshots,
            assets=assets,
            tokens=services.tokens,
            builder=builder,
            hot=hot,
            addresses=addresses,
            settings=settings,
        ),
        ActivityRoutes(
            catalog.activities,
            catalog.customers,
            snapshots.names,
            addresses,
            settings.iiif.default_version,
        ),
        ResultRoutes(
            queries=NamedQueryResults(
                QueryMatches(catalog.named_queries, catalog.selections, catalog.spaces),
                catalog.selections,
                documents,
                page_size=page_size,
            ),
            collections=AssetCollections(
                catalog.selections, catalog.spaces, documents, page_size=page_size
            ),
            customers=catalog.customers,
            names=snapshots.names,
            tokens=services.tokens,
            addresses=addresses,
            settings=settings,
        ),
    ]
